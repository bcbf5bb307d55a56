from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from rvcctl import cli
from rvcctl.names import SETTABLE
from rvcd.protocol import NUMBER_ADDRESSES
from tests.rvcctl.fake_daemon import FakeDaemon, running_daemon
from tests.rvcctl.test_client import free_port

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with running_daemon() as running:
        monkeypatch.setenv("RVCD_PORT", str(running.port))
        yield running


@pytest.fixture
def rvcctl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process; return exit code, stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rvcctl", *words])
        monkeypatch.setattr(sys, "stdin", io.StringIO())  # no terminal, even under pytest -s
        with pytest.raises(SystemExit) as left:
            cli.main()
        captured = capsys.readouterr()
        assert isinstance(left.value.code, int)
        assert "Traceback" not in captured.err
        assert captured.err.count("\n") <= 1
        return left.value.code, captured.out.strip(), captured.err.strip()

    return run


def test_status_json_is_one_object_with_the_note(daemon: FakeDaemon, rvcctl: Run) -> None:
    code, out, _ = rvcctl("status", "--json")
    values = json.loads(out)
    assert code == 0
    assert (values["state"], values["voice"], values["note"], values["cents"]) == ("live", "demo", "A3", 0.0)
    assert values["latency_total_ms"] == 190.7
    assert next(iter(values)) == "state"
    assert daemon.addresses()[0] == "/subscribe"
    deadline_s = time.monotonic() + 5.0
    while daemon.subscribers and time.monotonic() < deadline_s:  # the last datagram may still be on its way
        time.sleep(0.005)
    assert not daemon.subscribers


def test_status_for_people_has_one_value_a_line(daemon: FakeDaemon, rvcctl: Run) -> None:
    code, out, _ = rvcctl("status")
    assert code == 0
    assert ["latency_total_ms", "190.7"] in [line.split() for line in out.splitlines()]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("set", "pitch", "3"), "pitch 3"),
        (("set", "pitch", "-3.5"), "pitch -3.5"),
        (("set", "/gain/out", "-6"), "gain_out -6"),
        (("set", "pitch", "99"), "pitch 24 (limited from 99)"),
        (("set", "bypass", "on"), "bypass on"),
        (("set", "f0_method", "yin"), "f0_method yin"),
        (("set", "voice", "alto"), "voice alto"),
        (("voice", "alto"), "voice alto"),
        (("voice", "list"), "1  demo\n  2  alto"),
        (("toggle", "mute"), "mute on"),
        (("panic",), "panic on"),
        (("panic", "--clear"), "panic off"),
        (("get", "pitch"), "0"),
        (("get", "mute"), "off"),
        (("get", "voice"), "demo"),
        (("get", "latency_total_ms"), "190.7"),
        (("get", "note"), "A3"),
    ],
)
def test_a_command_prints_what_was_applied(daemon: FakeDaemon, rvcctl: Run, words: tuple[str, ...], shown: str) -> None:
    assert rvcctl(*words) == (0, shown, "")


def test_toggling_twice_returns_to_the_start(daemon: FakeDaemon, rvcctl: Run) -> None:
    assert [rvcctl("toggle", "bypass")[1] for _ in range(2)] == ["bypass on", "bypass off"]


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("set", "pitch", "high"), 1, "pitch takes a number, not 'high'"),
        (("set", "pitch", "nan"), 1, "pitch takes a finite number"),
        (("set", "mute", "maybe"), 1, "mute takes on or off"),
        (("set", "load", "1"), 1, "'load' is measured and cannot be set"),
        (("set", "pich", "1"), 1, "unknown name 'pich'; known: pitch,"),
        (("get", "nothing"), 1, "unknown name 'nothing'"),
        (("toggle", "pitch"), 1, "'pitch' is not a switch"),
        (("voice", "nobody"), 1, "no voice of that name; known: demo, alto"),
        (("set", "f0_method", "magic"), 1, "cannot do that"),
        (("set", "pitch"), 2, "Missing argument"),
        (("dance",), 2, "No such command"),
        (("status", "--port", "0"), 2, "the port must be 1..65535, not 0"),
        (("status", "--port", "x"), 2, "--port"),
        ((), 2, "needs a terminal"),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(
    daemon: FakeDaemon, rvcctl: Run, words: tuple[str, ...], code: int, reason: str
) -> None:
    found, out, err = rvcctl(*words)
    assert (found, out) == (code, "")
    assert err.startswith("rvcctl: ")
    assert reason in err


def test_without_a_daemon_the_exit_code_is_3(rvcctl: Run) -> None:
    code, out, err = rvcctl("set", "pitch", "3", "--port", str(free_port()))
    assert (code, out) == (3, "")
    assert "no daemon at 127.0.0.1:" in err


def test_options_may_stand_before_or_after_the_command_and_beat_the_environment(
    daemon: FakeDaemon, rvcctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RVCD_PORT", "nonsense")
    assert rvcctl("get", "pitch")[0] == 2
    assert rvcctl("--port", str(daemon.port), "get", "pitch")[0] == 0
    assert rvcctl("set", "pitch", "-1", "--port", str(daemon.port))[1] == "pitch -1"
    assert rvcctl("--port", "1", "get", "pitch", "--host", "localhost", "--port", str(daemon.port))[0] == 0


def test_stats_that_cannot_be_read_are_reported(daemon: FakeDaemon, rvcctl: Run) -> None:
    daemon.stats = "x"  # type: ignore[assignment]
    daemon._answer = lambda peer, address, args: daemon._send(peer, "/stats", 1)  # type: ignore[method-assign]
    code, _, err = rvcctl("status")
    assert code == 1
    assert "same version" in err


def test_every_number_of_the_protocol_has_a_name() -> None:
    assert {f"/rvc{address}" for address in NUMBER_ADDRESSES} <= {name.address for name in SETTABLE.values()}


def test_a_command_for_scripts_loads_neither_textual_nor_anything_heavy() -> None:
    code = "import sys, rvcctl.cli; print(sorted({'textual', 'numpy', 'torch', 'sounddevice', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"
