"""Fixtures of the command line's tests."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator

import pytest

from rvcctl import cli
from rvcctl.scripts import completion
from rvcd.osc.session import LogLine
from rvcd.protocol import Stats
from tests.osc.fake_session import FakeSession
from tests.rvcctl.fake_daemon import FakeDaemon, running_daemon
from tests.rvcctl.real_server import Served, serving
from tests.waiting import HANG_S

Run = Callable[..., tuple[int, str, str]]
Complete = Callable[..., list[str]]


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    """A fake daemon, which can be made to misbehave."""
    with running_daemon() as running:
        monkeypatch.setenv("RVCD_PORT", str(running.port))
        yield running


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The daemon's own OSC server before a fake session."""
    telemetry = Stats(
        f0_hz=220.0, in_peak_dbfs=-18.0, out_peak_dbfs=-20.0, latency_total_ms=190.7, load=0.42, late_blocks=7, device="virtual",
        uptime_s=61.0,
    )  # fmt: skip
    lines = [LogLine(1, "info", "rvcd starts"), LogLine(2, "warning", "a block was late")]
    session = FakeSession(telemetry=telemetry, lines=lines)
    with serving(session) as running:
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


@pytest.fixture
def complete(rvcctl: Run, monkeypatch: pytest.MonkeyPatch) -> Complete:
    """Ask as bash does for the last of some words; return what is offered. A daemon that is there has all the time it needs."""
    monkeypatch.setattr(completion, "PATIENCE_S", HANG_S)

    def ask(*words: str) -> list[str]:
        monkeypatch.setenv("_RVCCTL_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "\n".join(("rvcctl", *words)))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        code, out, err = rvcctl()
        assert (code, err) == (0, "")
        return out.splitlines()

    return ask
