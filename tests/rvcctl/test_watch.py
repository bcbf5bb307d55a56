from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from rvcctl.names import STATS_NAMES
from rvcctl.scripts import feed
from rvcd.osc.session import LogLine, VoiceStatus
from tests.osc.fake_session import FakeSession
from tests.rvcctl.conftest import Run
from tests.rvcctl.fake_daemon import FakeDaemon
from tests.rvcctl.real_server import Served, serving
from tests.waiting import HANG_S, free_port, signals_as_at_a_terminal

PROGRAM = (sys.executable, "-c", "import sys; sys.argv[0] = 'rvcctl'; from rvcctl.cli import main; main()")


@contextmanager
def program(port: int, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run rvcctl as a process of its own; it is killed at the end or when it hangs, so that no read waits for ever."""
    environment = {**os.environ, "RVCD_PORT": str(port)}
    with signals_as_at_a_terminal():
        process = subprocess.Popen(
            [*PROGRAM, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        )
    with process:
        hanging = threading.Timer(HANG_S, process.kill)
        hanging.start()
        try:
            yield process
        finally:
            hanging.cancel()
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def errors_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.read()


# What a line says


def test_without_names_a_line_is_a_summary_for_people(served: Served, rvcctl: Run) -> None:
    served.session.live = VoiceStatus("Bo Li", 2)
    code, out, err = rvcctl("watch", "--count", "2", "--hz", "30")
    lines = out.splitlines()
    assert (code, len(lines), err) == (0, 2, "")
    for word in ("live", "Bo Li", "-18.0", "-20.0 dBFS", "A3", "190.7 ms", "load 0.42", "late 7", "xruns 0"):
        assert word in lines[1], word


def test_with_one_name_a_line_is_its_value(served: Served, rvcctl: Run) -> None:
    assert rvcctl("watch", "load", "--count", "2", "--hz", "30") == (0, "0.42\n0.42", "")


def test_with_names_a_line_holds_their_values_separated_by_tabs(served: Served, rvcctl: Run) -> None:
    served.session.set_param("pitch", -4.5)
    served.session.live = VoiceStatus("Bo Li", 2)
    code, out, _ = rvcctl("watch", "voice", "preset", "pitch", "note", "/gain/out", "--count", "1", "--hz", "30")
    assert (code, out.split("\t")) == (0, ["Bo Li", "-", "-4.5", "A3", "0"])


def test_json_is_one_object_a_line_with_everything_or_the_names(served: Served, rvcctl: Run) -> None:
    _, everything, _ = rvcctl("watch", "--json", "--count", "2", "--hz", "30")
    assert [tuple(json.loads(line)) for line in everything.splitlines()] == [STATS_NAMES, STATS_NAMES]
    served.session.set_param("protect", 0.2)
    _, named, _ = rvcctl("watch", "protect", "late_blocks", "--json", "--count", "1", "--hz", "30")
    assert json.loads(named) == {"protect": 0.2, "late_blocks": 7}


def test_a_parameter_that_was_lost_on_its_way_is_asked_for(daemon: FakeDaemon, rvcctl: Run) -> None:
    honest = daemon._answer

    def lose_the_numbers(peer: tuple[str, int], address: str, args: object) -> None:
        if address == "/subscribe":
            daemon.subscribers.add(peer)
            daemon._send(peer, "/done", "/rvc/subscribe")
            daemon.push_stats()
        else:
            honest(peer, address, ())
            daemon.push_stats()

    daemon._answer = lose_the_numbers  # type: ignore[method-assign]
    assert rvcctl("watch", "pitch", "--count", "1") == (0, "0", "")
    assert "/pitch" in daemon.addresses()


def test_changes_prints_a_line_only_when_it_differs(served: Served) -> None:
    with program(served.port, "watch", "--changes", "--hz", "30", "pitch", "late_blocks") as process:
        assert line_of(process) == "0\t7"
        served.session.telemetry = replace(served.session.telemetry, late_blocks=8)
        assert line_of(process) == "0\t8"
        served.session.set_param("pitch", 2.0)
        assert line_of(process) == "2\t8"


def test_stats_that_cannot_be_read_end_the_watch(daemon: FakeDaemon, rvcctl: Run) -> None:
    honest = daemon._answer

    def garble(peer: tuple[str, int], address: str, args: tuple[object, ...]) -> None:
        daemon._send(peer, "/done", "/rvc/subscribe")
        daemon._send(peer, "/stats", 1)

    daemon._answer = garble  # type: ignore[method-assign]
    code, _, err = rvcctl("watch")
    daemon._answer = honest  # type: ignore[method-assign]
    assert code == 1
    assert "same version" in err


# How it ends


def test_it_leaves_the_subscription_at_its_end(daemon: FakeDaemon, rvcctl: Run) -> None:
    assert rvcctl("watch", "--count", "1")[0] == 0
    rvcctl("get", "pitch")  # whatever was sent before this has been handled by now
    assert "/unsubscribe" in daemon.addresses()


def test_a_daemon_that_refuses_the_subscription_ends_it_with_1(daemon: FakeDaemon, rvcctl: Run) -> None:
    daemon._answer = lambda peer, address, args: daemon._send(peer, "/fail", "/rvc/subscribe", "all 8 are in use")  # type: ignore[method-assign]
    assert rvcctl("watch") == (1, "", "rvcctl: all 8 are in use")


def test_a_renewal_that_is_refused_ends_it_with_1(daemon: FakeDaemon, rvcctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "RENEW_S", 0.05)
    honest = daemon._answer

    def refuse_the_second(peer: tuple[str, int], address: str, args: tuple[object, ...]) -> None:
        if daemon.addresses().count("/subscribe") > 1:
            daemon._send(peer, "/fail", "/rvc/subscribe", "all 8 are in use")
        else:
            honest(peer, address, ())

    daemon._answer = refuse_the_second  # type: ignore[method-assign]
    assert rvcctl("watch", "load") == (1, "0.42", "rvcctl: all 8 are in use")


def test_a_daemon_that_goes_ends_it_with_3() -> None:
    port = free_port()
    with ExitStack() as stack:
        with serving(FakeSession(), port):
            process = stack.enter_context(program(port, "watch", "load"))
            assert line_of(process) == "0.0"
        assert process.wait(HANG_S) == 3
        assert errors_of(process) == f"rvcctl: nothing from 127.0.0.1:{port} for 3 s; is rvcd still running?\n"


def test_a_daemon_that_falls_silent_ends_it_with_3(daemon: FakeDaemon, rvcctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "GONE_AFTER_S", 2.0)
    honest = daemon._answer

    def answer_once(peer: tuple[str, int], address: str, args: tuple[object, ...]) -> None:
        honest(peer, address, ())  # one push comes with the subscription
        daemon.silent = True

    daemon._answer = answer_once  # type: ignore[method-assign]
    code, out, err = rvcctl("watch", "load")
    assert (code, out) == (3, "0.42")
    assert err == f"rvcctl: nothing from 127.0.0.1:{daemon.port} for 2 s; is rvcd still running?"


def test_forever_waits_for_a_daemon_and_goes_on_through_a_restart() -> None:
    port = free_port()
    with program(port, "watch", "late_blocks", "--forever", "--changes") as process:
        for late_blocks in (1, 2):
            session = FakeSession()
            session.telemetry = replace(session.telemetry, late_blocks=late_blocks)
            with serving(session, port):
                assert line_of(process) == str(late_blocks)
        process.send_signal(signal.SIGINT)
        assert process.wait(HANG_S) == 130
        assert "Traceback" not in errors_of(process)


def test_an_interrupt_ends_it_with_130_and_without_a_word(served: Served) -> None:
    with program(served.port, "watch") as process:
        assert line_of(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(HANG_S) == 130
        assert errors_of(process).strip() == ""


def test_a_reader_that_leaves_ends_it_with_0_and_without_a_word(served: Served) -> None:
    with program(served.port, "watch", "load", "--hz", "30") as process:
        assert line_of(process) == "0.42"
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(HANG_S) == 0
        assert errors_of(process) == ""


# The log


def test_log_prints_the_lines_there_are_and_ends(served: Served, rvcctl: Run) -> None:
    assert rvcctl("log") == (0, "info     rvcd starts\nwarning  a block was late", "")


def test_log_as_json_has_one_object_a_line(served: Served, rvcctl: Run) -> None:
    _, out, _ = rvcctl("log", "--json")
    assert json.loads(out.splitlines()[1]) == {"number": 2, "level": "warning", "text": "a block was late"}


def test_an_empty_log_prints_nothing(served: Served, rvcctl: Run) -> None:
    served.session.lines = []
    assert rvcctl("log") == (0, "", "")


def test_log_follows_each_new_line_once(served: Served) -> None:
    with program(served.port, "log", "-f") as process:
        assert [line_of(process), line_of(process)] == ["info     rvcd starts", "warning  a block was late"]
        served.session.lines = [*served.session.lines, LogLine(3, "error", "the device is gone\x1b[2J")]
        assert line_of(process) == "error    the device is gone?[2J"


def test_log_prints_all_lines_of_a_daemon_that_was_started_anew() -> None:
    port = free_port()

    def session(uptime_s: float, *texts: str) -> FakeSession:
        made = FakeSession(lines=[LogLine(number, "info", text) for number, text in enumerate(texts, start=1)])
        made.telemetry = replace(made.telemetry, uptime_s=uptime_s)
        return made

    with program(port, "log", "-f", "--forever") as process:
        with serving(session(900.0, "rvcd starts", "old"), port):
            assert [line_of(process), line_of(process)] == ["info     rvcd starts", "info     old"]
        with serving(session(1.0, "rvcd starts"), port):
            assert line_of(process) == "info     rvcd starts"
