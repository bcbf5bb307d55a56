from __future__ import annotations

import io
import logging
import os
import socket
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from rvcd.config import logs
from rvcd.daemon.systemd import Notifier
from tests.waiting import HANG_S


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, str]]:
    """A socket like the one systemd listens on, and the value of NOTIFY_SOCKET."""
    with tempfile.TemporaryDirectory(prefix="rvcd") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = f"{folder}/notify" if request.param == "path" else f"@rvcd-test-{uuid.uuid4()}"
        listener.bind("\0" + name[1:] if name.startswith("@") else name)
        listener.settimeout(HANG_S)
        yield listener, name


def test_systemd_is_told_each_stage_of_a_service(systemd: tuple[socket.socket, str]) -> None:
    listener, name = systemd
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": name})
    for send, expected in (
        (lambda: notifier.extend_timeout(1.5), "EXTEND_TIMEOUT_USEC=1500000"),
        (lambda: notifier.ready("live: Anna, 120 ms"), "READY=1\nSTATUS=live: Anna, 120 ms"),
        (lambda: notifier.status("two\nlines"), "STATUS=two lines"),
        (notifier.watchdog, "WATCHDOG=1"),
        (notifier.stopping, "STOPPING=1\nSTATUS=stopping"),
    ):
        assert send() is True
        assert listener.recv(4096).decode() == expected
    assert notifier.reloading()
    assert listener.recv(4096).decode().startswith("RELOADING=1\nMONOTONIC_USEC=")


@pytest.mark.parametrize("path", ["", "relative", "/nowhere/at/all", "vsock:2:1", "/" + "long" * 100, "/nul\0inside", "@"])
def test_without_a_listening_systemd_nothing_happens_and_nothing_is_raised(path: str) -> None:
    assert Notifier.from_environment({"NOTIFY_SOCKET": path}).ready("x") is False
    assert Notifier().watchdog() is False


def test_the_watchdog_is_fed_twice_as_often_as_asked_and_only_by_the_process_it_is_meant_for() -> None:
    interval = lambda **environ: Notifier.from_environment(environ).watchdog_interval_s  # noqa: E731
    assert interval(WATCHDOG_USEC="10000000") == 5.0
    assert interval(WATCHDOG_USEC="10000000", WATCHDOG_PID=str(os.getpid())) == 5.0
    assert interval(WATCHDOG_USEC="10000000", WATCHDOG_PID="1") is None
    for wrong in ("", "0", "-5", "soon"):
        assert interval(WATCHDOG_USEC=wrong) is None


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger(logs.ROOT)
    before = root.handlers[:], root.level, root.propagate
    yield
    root.handlers[:], root.level, root.propagate = before[0], before[1], before[2]


@pytest.mark.usefixtures("restored_logging")
def test_in_a_terminal_lines_are_plain() -> None:
    stream = io.StringIO()
    logs.setup("info", stream=stream, environ={})
    log = logs.get_logger("control")
    log.info("voice is live", extra=logs.fields(voice="Bo Li", load_ms=12.5))
    log.debug("not shown")
    assert stream.getvalue()[8:] == ' INFO    control: voice is live (voice="Bo Li", load_ms=12.5)\n'


@pytest.mark.usefixtures("restored_logging")
def test_under_systemd_every_line_has_its_priority_a_traceback_too(tmp_path: Path) -> None:
    with open(tmp_path / "journal", "w+") as stream:
        status = os.fstat(stream.fileno())
        logs.setup("debug", stream=stream, environ={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        log = logs.get_logger("audio")
        log.warning("xrun", extra=logs.fields(count=3, device='a "b" c', empty=""))
        try:
            raise ValueError("inside")
        except ValueError:
            log.exception("failed")
        log.debug("detail")
        stream.seek(0)
        lines = stream.read().splitlines()
    assert lines[0] == '<4>audio: xrun count=3 device="a \\"b\\" c" empty=""'
    assert lines[1] == "<3>audio: failed"
    assert all(line.startswith("<3>") for line in lines[1:-1])
    assert len(lines) > 4
    assert lines[-1] == "<7>audio: detail"


def test_the_journal_is_recognised_by_its_inode_not_by_the_variable_alone(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as stream:
        for value in ("", "1:2", "no", "1:2:3"):
            assert not logs.goes_to_journal(stream, {"JOURNAL_STREAM": value})
    assert not logs.goes_to_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


def test_text_from_the_network_cannot_forge_a_log_line() -> None:
    record = logging.LogRecord("rvcd.osc", logging.INFO, "", 0, "no voice '%s'", ("x\n<0>kernel: \x1b[31m",), None)
    for formatter in (logs.JournalFormatter(), logs.PlainFormatter()):
        line = formatter.format(record)
        assert "\n" not in line
        assert "\x1b" not in line
        assert "\\n<0>kernel" in line


def test_a_throttled_line_stands_for_what_came_in_between() -> None:
    now = [0.0]
    throttle = logs.LogThrottle(10.0, clock=lambda: now[0])
    assert [throttle.hit() for _ in range(5)] == [1, 0, 0, 0, 0]
    now[0] = 10.0
    assert throttle.hit() == 5
    assert throttle.hit() == 0
