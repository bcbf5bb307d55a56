from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from typing import ClassVar

import pytest

from rvcctl import cli
from rvcctl.client import DaemonClient
from rvcctl.demo import DemoClient
from rvcctl.names import MEASURED, READABLE, SETTABLE, STATS_NAMES, Kind
from rvcctl.scripts import asking
from rvcctl.scripts.writing import SECTIONS, stats_values, status_lines
from rvcd import protocol
from rvcd.osc.codec import OscValue
from rvcd.osc.session import VoiceStatus
from rvcd.osc.verbs import ROUTES
from rvcd.params import BY_ADDRESS, PARAMS
from tests.rvcctl.conftest import Run
from tests.rvcctl.fake_daemon import FakeDaemon
from tests.rvcctl.real_server import Served
from tests.waiting import HANG_S, eventually, free_port

Peer = tuple[str, int]


# status


def test_status_json_is_one_object_with_the_note(daemon: FakeDaemon, rvcctl: Run) -> None:
    code, out, _ = rvcctl("status", "--json")
    values = json.loads(out)
    assert code == 0
    assert (values["state"], values["voice"], values["note"], values["cents"]) == ("live", "demo", "A3", 0.0)
    assert values["latency_total_ms"] == 190.7
    assert (values["scheduling"], values["late_samples"], values["fault"]) == ("FIFO 60", 0, "")
    assert tuple(values) == STATS_NAMES
    assert daemon.addresses()[0] == "/subscribe"
    eventually(lambda: not daemon.subscribers)  # the last datagram may still be on its way


def test_status_for_people_has_sections_with_one_value_a_line(daemon: FakeDaemon, rvcctl: Run) -> None:
    code, out, _ = rvcctl("status")
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    assert code == 0
    assert ["latency_total_ms", "190.7"] in lines
    assert ["mute", "off"] in lines
    assert ["loading", "-"] in lines
    assert ["fault", "-"] in lines
    assert ["gap_samples", "0"] in lines
    assert ["callback_gap_max_ms", "0.0 (of the last minute)"] in lines
    assert ["scheduling", "FIFO 60 (of the device's thread)"] in lines
    assert [line for line in out.splitlines() if line[0] != " "] == [
        "state:", "voice:", "levels:", "latency:", "losses:", "engine:", "clocks: one", "monitor: none", "gpu: none",
        "recording:",
    ]  # fmt: skip


def test_the_sections_of_a_status_hold_every_value_once() -> None:
    shown = [name for names in SECTIONS.values() for name in names]
    assert sorted(shown) == sorted(STATS_NAMES)


def test_status_works_although_every_subscription_is_taken(served: Served, rvcctl: Run, daemon: FakeDaemon) -> None:
    def refuse_to_subscribe(peer: Peer, address: str, args: tuple[OscValue, ...], honest=daemon._answer) -> None:  # type: ignore[no-untyped-def]
        if address == "/subscribe":
            daemon._send(peer, "/fail", "/rvc/subscribe", "all 8 subscriptions are in use")
        else:
            honest(peer, address, args)

    daemon._answer = refuse_to_subscribe  # type: ignore[method-assign]
    assert rvcctl("status", "--json")[0] == 0


def test_the_status_of_an_older_daemon_is_read_too(daemon: FakeDaemon, rvcctl: Run) -> None:
    def answer(peer: Peer, address: str, args: tuple[OscValue, ...]) -> None:
        daemon._send(peer, "/stats", *protocol.stats_to_args(daemon.stats)[: protocol.ALWAYS_SENT])

    daemon._answer = answer  # type: ignore[method-assign]
    code, out, _ = rvcctl("status", "--json")
    assert code == 0
    assert (json.loads(out)["state"], json.loads(out)["scheduling"]) == ("live", "")


def test_scripts_see_that_nothing_gets_through_and_why(daemon: FakeDaemon, rvcctl: Run) -> None:
    fault = "blocks take 130 ms and may take 100; choose latency 'safe'"
    daemon.stats = replace(daemon.stats, state="overloaded", fault=fault, late_samples=4800)
    assert rvcctl("get", "state", "fault", "late_samples")[1].splitlines() == ["overloaded", fault, "4800"]
    assert json.loads(rvcctl("status", "--json")[1])["state"] == "overloaded"


def test_stats_that_cannot_be_read_are_reported(daemon: FakeDaemon, rvcctl: Run) -> None:
    daemon._answer = lambda peer, address, args: daemon._send(peer, "/stats", 1)  # type: ignore[method-assign]
    code, _, err = rvcctl("status")
    assert code == 1
    assert "same version" in err


# Values, against the daemon's own router


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("set", "pitch", "3"), "pitch 3"),
        (("set", "pitch", "-3.5"), "pitch -3.5"),
        (("set", "/gain/out", "-6"), "gain_out -6"),
        (("set", "autotune_key", "bb"), "autotune_key A#"),
        (("set", "autotune_scale", "2"), "autotune_scale minor"),
        (("step", "autotune_key", "-1"), "autotune_key C"),
        (("reset", "autotune_scale"), "autotune_scale chromatic"),
        (("set", "pitch", "99"), "pitch 24 (limited from 99: pitch takes a number in -24..24 semitones)"),
        (("set", "bypass", "on"), "bypass on"),
        (("set", "mute", "0"), "mute off"),
        (("set", "talk", "on"), "talk on"),
        (("set", "record", "on"), "record on"),
        (("set", "f0_method", "yin"), "f0_method yin"),
        (("set", "latency_preset", "safe"), "latency_preset safe"),
        (("set", "voice", "Bo Li"), "voice Bo Li"),
        (("set", "voice", "bo li"), "voice Bo Li"),
        (("set", "voice", "2"), "voice Bo Li"),
        (("set", "Voice", "BO LI"), "voice Bo Li"),
        (("set", "voice_slot", "2"), "voice_slot 2"),
        (("set", "speaker", "1"), "speaker 1"),
        (("set", "speaker", "tenor"), "speaker 1"),
        (("step", "pitch", "2"), "pitch 2"),
        (("step", "pitch", "-1.5"), "pitch -1.5"),
        (("step", "gain_in", "999"), "gain_in 24"),
        (("reset", "protect"), "protect 0.33"),
        (("toggle", "mute"), "mute on"),
        (("toggle", "record"), "record on"),
        (("panic",), "panic on"),
        (("panic", "--clear"), "panic off"),
        (("get", "pitch"), "0"),
        (("get", "mute"), "off"),
        (("get", "panic"), "off"),
        (("get", "/f0/method"), "swift"),
        (("get", "latency_preset"), "balanced"),
        (("get", "speaker"), "0"),
        (("get", "voice_slot"), "0"),
        (("get", "preset"), ""),
        (("get", "latency_total_ms"), "190.7"),
        (("get", "late_blocks"), "7"),
        (("get", "note"), "A3"),
        (("get", "protect", "state", "cents", "protect"), "0.33\nno-voice\n0.0\n0.33"),
        (("voice", "Anna"), "voice Anna"),
        (("voice", "aNNA"), "voice Anna"),
        (("voice", "2"), "voice Bo Li"),
        (("voice", "next"), "voice Anna"),
        (("voice", "rescan"), "3 voices"),
        (("voice",), ""),
        (("voice", "list"), "1  Anna\n  2  Bo Li\n  3  broken.v2"),
        (
            ("voice", "list", "--json"),
            '[{"slot": 1, "name": "Anna"}, {"slot": 2, "name": "Bo Li"}, {"slot": 3, "name": "broken.v2"}]',
        ),
        (("preset",), ""),
        (("preset", "list"), ""),
        (("preset", "list", "--json"), "[]"),
        (("preset", "save", "1"), "saved preset 1"),
    ],
)
def test_a_command_prints_what_was_applied(served: Served, rvcctl: Run, words: tuple[str, ...], shown: str) -> None:
    assert rvcctl(*words) == (0, shown, "")


def test_everything_that_can_be_read_is_read(served: Served, rvcctl: Run) -> None:
    code, out, _ = rvcctl("get", *(name for name in READABLE if name not in ("voice", "preset")), "state")
    assert code == 0
    assert len(out.splitlines()) == len(READABLE) - 1


def test_levels_are_measured_from_now_on_and_other_values_need_no_subscription(daemon: FakeDaemon, rvcctl: Run) -> None:
    rvcctl("get", "load")
    assert "/subscribe" not in daemon.addresses()
    rvcctl("get", "load", "in_peak_dbfs")
    assert "/subscribe" in daemon.addresses()


def test_toggling_twice_returns_to_the_start(served: Served, rvcctl: Run) -> None:
    assert [rvcctl("toggle", "bypass")[1] for _ in range(2)] == ["bypass on", "bypass off"]


def test_a_step_that_gets_no_answer_is_not_sent_again(daemon: FakeDaemon, rvcctl: Run) -> None:
    honest = daemon._answer
    daemon._answer = lambda peer, address, args: honest(peer, address, args) if address == "/ping" else None  # type: ignore[method-assign]
    assert rvcctl("step", "pitch", "1")[0] == 3
    assert daemon.addresses().count("/pitch/step") == 1


def test_a_preset_is_saved_listed_recalled_and_deleted(served: Served, rvcctl: Run) -> None:
    rvcctl("set", "pitch", "-5")
    assert rvcctl("preset", "save", "Deep one")[1] == "saved Deep one"
    rvcctl("set", "pitch", "7")
    assert rvcctl("preset", "list")[1] == "1  Deep one"
    assert json.loads(rvcctl("preset", "list", "--json")[1]) == [{"number": 1, "name": "Deep one"}]
    assert rvcctl("preset", "recall", "1")[1] == "preset Deep one"
    assert rvcctl("get", "pitch", "preset")[1] == "-5\nDeep one"
    assert rvcctl("preset")[1] == "Deep one"
    assert rvcctl("set", "preset", "Deep one")[1] == "preset Deep one"
    assert rvcctl("preset", "delete", "Deep one")[1] == "deleted Deep one"
    assert rvcctl("preset", "recall", "Deep one") == (1, "", "rvcctl: no preset is called 'Deep one'; none has been saved yet")


def test_a_voice_whose_name_is_a_word_of_the_command_is_reached_by_set(served: Served, rvcctl: Run) -> None:
    served.session.registry = (VoiceStatus("list", 1), VoiceStatus("2", 7))
    assert rvcctl("set", "voice", "list")[1] == "voice list"
    assert rvcctl("set", "voice", "2")[1] == "voice 2"
    assert rvcctl("voice")[1] == "2"


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("set", "pitch", "high"), 1, "pitch takes a number in -24..24 semitones, not 'high'"),
        (("set", "pitch", "nan"), 1, "pitch takes a number in -24..24 semitones, not 'nan'"),
        (("set", "mute", "maybe"), 1, "mute takes on or off, not 'maybe'"),
        (("set", "load", "1"), 1, "'load' is measured and cannot be set; these can: pitch,"),
        (("set", "note", "A3"), 1, "'note' is measured"),
        (("set", "pich", "1"), 1, "unknown name 'pich'; did you mean pitch?"),
        (("set", "zzz", "1"), 1, "unknown name 'zzz'; known: pitch,"),
        (("set", "voice", " "), 1, "voice takes the name of a voice (see 'rvcctl voice list'), not ' '"),
        (("set", "voice", "../x"), 1, "a name has 1 to 64"),
        (("set", "voice_slot", "0"), 1, "voice_slot takes a slot in 1..999"),
        (("set", "voice_slot", "Anna"), 1, "voice_slot takes a slot in 1..999"),
        (("set", "f0_method", "magic"), 1, "unknown F0 method 'magic'; known: swift,"),
        (("set", "f0_method", "pm"), 1, "pip install"),
        (("set", "latency_preset", "slow"), 1, "unknown latency preset 'slow'; known: low, balanced, safe"),
        (("set", "speaker", "7"), 1, "no speaker 7; known: alto, tenor"),
        (("get", "nothing"), 1, "unknown name 'nothing'"),
        (("get", "pitch", "lod"), 1, "unknown name 'lod'; did you mean load"),
        (("toggle", "pitch"), 1, "'pitch' is not a switch; toggle takes one of bypass, mute, record, talk"),
        (("step", "mute", "1"), 1, "'mute' is not a number; step takes one of pitch,"),
        (("step", "pitch", "up"), 1, "pitch takes a number"),
        (("reset", "voice"), 1, "'voice' is not a number; reset takes one of pitch,"),
        (("voice", "nobody"), 1, "no voice is called 'nobody'"),
        (("voice", "ann"), 1, "no voice is called 'ann'; did you mean 'Anna'?"),
        (("voice", "9"), 1, "no voice is in slot 9"),
        (("voice", "0"), 1, "voice_slot takes a slot in 1..999"),
        (("voice", "broken.v2"), 1, "broken.v2.pth: is cut short"),
        (("preset", "recall", "Deep"), 1, "no preset is called 'Deep'"),
        (("preset", "recall", "3"), 1, "there is no preset 3; none has been saved yet"),
        (("preset", "save", "a/b"), 1, "a name has 1 to 64"),
        (("preset", "Deep"), 2, "No such command 'Deep' (see 'rvcctl preset --help')"),
        (("voice", "--json"), 2, "--json goes with 'rvcctl voice list'"),
        (("set", "pitch"), 2, "Missing argument"),
        (("set", "pitch"), 2, "(see 'rvcctl set --help')"),
        (("get",), 2, "Missing argument"),
        (("dance",), 2, "No such command"),
        (("status", "--port", "0"), 2, "the port must be 1..65535, not 0"),
        (("status", "--port", "x"), 2, "--port"),
        (("watch", "--hz", "31"), 2, "--hz must be 1..30 lines a second, not 31"),
        (("watch", "--count", "0"), 2, "--count must be at least 1 line, not 0"),
        (("watch", "lod"), 1, "unknown name 'lod'"),
        (("log", "--forever"), 2, "--forever goes with --follow"),
        ((), 2, "needs a terminal"),
        (("--demo",), 2, "needs a terminal"),
        (("--demo", "status"), 2, "--demo opens the screen; 'status' needs a daemon"),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(
    served: Served, rvcctl: Run, words: tuple[str, ...], code: int, reason: str
) -> None:
    found, out, err = rvcctl(*words)
    assert (found, out) == (code, "")
    assert err.startswith("rvcctl: ")
    assert reason in err


def test_a_recording_that_cannot_begin_says_why(served: Served, rvcctl: Run) -> None:
    served.session.disk_is_full = True
    code, out, err = rvcctl("set", "record", "on")
    assert (code, out) == (1, "")
    assert "12 MB are free and 500 MB are needed" in err


def test_a_recording_that_stays_off_is_a_failure(daemon: FakeDaemon, rvcctl: Run) -> None:
    honest = daemon._answer

    def never_record(peer: Peer, address: str, args: tuple[OscValue, ...]) -> None:
        if address == "/record":
            daemon._send(peer, "/record", 0)
        else:
            honest(peer, address, args)

    daemon._answer = never_record  # type: ignore[method-assign]
    assert rvcctl("set", "record", "on") == (1, "", "rvcctl: record is still off; 'rvcctl log' may tell why")


# The daemon is not there, or goes away


@pytest.mark.parametrize(
    "words",
    [("set", "pitch", "3"), ("voice", "Anna"), ("step", "pitch", "1"), ("status",), ("preset", "list"), ("watch",), ("log",)],
)
def test_without_a_daemon_the_exit_code_is_3(rvcctl: Run, words: tuple[str, ...]) -> None:
    code, out, err = rvcctl(*words, "--port", str(free_port()))
    assert (code, out) == (3, "")
    assert "no daemon at 127.0.0.1:" in err
    assert "start it with 'rvcd run'" in err


def test_a_daemon_that_falls_silent_while_it_loads_is_noticed(
    daemon: FakeDaemon, rvcctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "STILL_THERE_EVERY_S", 0.05)
    honest = daemon._answer

    def fall_silent(peer: Peer, address: str, args: tuple[OscValue, ...]) -> None:
        if address == "/voice":
            daemon.silent = True
        else:
            honest(peer, address, args)

    daemon._answer = fall_silent  # type: ignore[method-assign]
    code, _, err = rvcctl("voice", "alto")
    assert code == 3
    assert "no answer to /rvc/ping" in err


def test_a_daemon_that_lives_and_does_not_get_done_is_a_failure(
    daemon: FakeDaemon, rvcctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "SLOW_TIMEOUT_S", 0.1)
    honest = daemon._answer
    daemon._answer = lambda peer, address, args: honest(peer, address, args) if address == "/ping" else None  # type: ignore[method-assign]
    code, _, err = rvcctl("set", "latency_preset", "safe")
    assert (code, err) == (1, "rvcctl: /rvc/latency/preset has not been done within 0.1 s; 'rvcctl log' may tell why")


def test_options_may_stand_before_or_after_the_command_and_beat_the_environment(
    daemon: FakeDaemon, rvcctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RVCD_PORT", "nonsense")
    assert rvcctl("get", "pitch")[0] == 2
    assert rvcctl("--port", str(daemon.port), "get", "pitch")[0] == 0
    assert rvcctl("set", "pitch", "-1", "--port", str(daemon.port))[1] == "pitch -1"
    assert rvcctl("--port", "1", "get", "pitch", "--host", "localhost", "--port", str(daemon.port))[0] == 0
    assert rvcctl("preset", "--port", str(daemon.port), "list", "--port", "0")[0] == 2


def test_a_reader_that_has_gone_is_no_failure(served: Served) -> None:
    code = "import sys; sys.argv = ['rvcctl', 'status']; from rvcctl.cli import main; main()"
    done = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "$0" | true; echo ${{PIPESTATUS[0]}}', code],
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert (done.stdout.strip(), done.stderr) == ("0", "")


# The screen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Screen:
    """Stands for RvcctlApp: keeps the client that it was opened with."""

    opened_with: ClassVar[list[object]] = []

    def __init__(self, client: object) -> None:
        self._client = client

    def run(self) -> None:
        self.opened_with.append(self._client)


def open_screen(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    """Run rvcctl as at a terminal, and return the client that the screen was opened with."""
    monkeypatch.setattr("rvcctl.app.RvcctlApp", Screen)
    monkeypatch.setattr(sys, "argv", ["rvcctl", *words])
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setattr(sys, "__stderr__", Terminal())
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 0
    return Screen.opened_with.pop()


def test_without_a_command_the_screen_is_opened_on_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_screen(monkeypatch, "--port", "9999")
    assert isinstance(client, DaemonClient)
    assert client.target.port == 9999
    client = open_screen(monkeypatch, "--name", "deep")
    assert isinstance(client, DaemonClient)
    assert client.target.name == client.view.name == "deep"


def test_demo_opens_the_screen_on_invented_values(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_screen(monkeypatch, "--demo"), DemoClient)


# The tables


def test_every_name_stands_for_addresses_of_the_daemon() -> None:
    assert set(BY_ADDRESS) <= {name.address for name in SETTABLE.values()}
    for name in SETTABLE.values():
        assert name.address in ROUTES, name
        assert name.set_address in ROUTES, name
        if name.kind is Kind.NUMBER:
            assert {f"{name.address}/step", f"{name.address}/reset"} <= set(ROUTES)
    assert not MEASURED & set(SETTABLE)


def test_help_names_every_range(rvcctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = rvcctl("set", "--help")
    assert code == 0
    for param in PARAMS:
        takes = "one of" if param.choices else "a number in"
        assert re.search(rf"{param.name} +{takes} {re.escape(param.range_text())[:60]}", out)
    for name in READABLE:
        assert name in rvcctl("get", "--help")[1]


def test_a_command_for_scripts_loads_neither_textual_nor_anything_heavy(served: Served) -> None:
    heavy = "{'textual', 'numpy', 'torch', 'sounddevice'}"
    code = (
        "import atexit, sys; sys.argv = ['rvcctl', 'get', 'pitch']; "
        f"atexit.register(lambda: print(sorted({heavy} & set(sys.modules)))); "
        "from rvcctl.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HANG_S)
    assert done.stdout.split("\n") == ["0", "[]", ""]


def test_two_clocks_are_a_section_of_the_status() -> None:
    values = {**stats_values(protocol.Stats()), "clock_ratio": 0.91877, "clock_drift_ppm": 41.23456, "clock_fill_ms": 12.5}
    lines = [line.split(maxsplit=1) for line in status_lines(values)]
    assert ["clocks:"] in lines
    assert ["clock_ratio", "0.91877"] in lines
    assert ["clock_drift_ppm", "41.23"] in lines
