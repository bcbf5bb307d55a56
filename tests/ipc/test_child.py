"""A child process, whatever it says and however it ends: it is heard whole, or it is ended and the reason is told."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from rvcd.ipc.child import LONGEST_LINE_BYTES, Child
from rvcd.ipc.messages import Flush, FromWorker, LogLine, Want, Wanted

ROOT = Path(__file__).parents[2]
HEAD = """
import os, signal, socket, sys, time
from rvcd.ipc.channel import Channel, LENGTH, frame
from rvcd.ipc.messages import *
sock = socket.socket(fileno=int(sys.argv[1]))
channel = Channel(sock, ToWorker)
"""
LOG = logging.getLogger("rvcd.test-child")


async def started(script: str) -> Child[FromWorker]:
    command = (sys.executable, "-c", HEAD + script)
    return await Child[FromWorker].start(command, LOG, environment={**os.environ, "PYTHONPATH": str(ROOT)})


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 60))


def watched(script: str, handle: Callable[[FromWorker], None] = lambda message: None) -> str:
    """Return how a child ended."""
    how = ""

    async def work() -> None:
        nonlocal how
        how = await (await started(script)).watch(FromWorker, handle)

    run(work)
    return how


def test_messages_are_handed_on_in_order_until_the_end() -> None:
    heard: list[FromWorker] = []
    how = watched("for n in range(300): channel.send(LogLine('info', str(n)))", heard.append)
    assert how == "exit status 0"
    assert heard == [LogLine("info", str(n)) for n in range(300)]


def test_a_message_of_any_size_arrives() -> None:
    heard: list[FromWorker] = []
    watched("channel.send(LogLine('info', 'x' * 5_000_000))", heard.append)
    assert [len(message.text) for message in heard if isinstance(message, LogLine)] == [5_000_000]


def test_what_was_said_before_a_kill_is_heard() -> None:
    heard: list[FromWorker] = []
    how = watched("channel.send(LogLine('info', 'last words')); os.kill(os.getpid(), 9)", heard.append)
    assert how == "killed by signal 9" and heard == [LogLine("info", "last words")]


@pytest.mark.parametrize(
    "garbage", ["b'hello, this is no message at all'", "LENGTH.pack(3) + b'abc'", "LENGTH.pack(2**32 - 1)", "frame(Flush())"]
)
def test_a_child_that_says_what_is_no_message_is_ended_with_a_reason(garbage: str) -> None:
    how = watched(f"sock.sendall({garbage}); time.sleep(600)")
    assert how.startswith("what it said could not be used: ")


def test_a_message_that_cannot_be_handled_ends_the_child_with_a_reason() -> None:
    def handle(message: FromWorker) -> None:
        raise KeyError("voice")

    assert (
        watched("channel.send(LogLine('info', 'x')); time.sleep(600)", handle)
        == "what it said could not be used: KeyError: 'voice'"
    )


def test_a_child_that_closes_its_channel_and_stays_is_ended() -> None:
    assert watched("sock.close(); time.sleep(600)") == "killed by signal 9"


def test_what_it_writes_to_stderr_is_logged_line_by_line_however_long(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger=LOG.name):
        LOG.propagate = True
        watched("sys.stderr.write('one\\n' + 'x' * 300_000 + '\\nthree'); sys.stderr.flush()")
    lines = [record.getMessage() for record in caplog.records if record.name == LOG.name]
    assert lines[0] == "one" and lines[-1] == "three"
    assert "".join(lines[1:-1]) == "x" * 300_000
    assert max(map(len, lines)) <= LONGEST_LINE_BYTES


def test_what_the_child_does_not_take_yet_is_kept_for_it() -> None:
    heard: list[FromWorker] = []
    script = """
time.sleep(0.2)
count = 0
while (message := channel.receive()) is not None:
    count += 1
    if isinstance(message, Flush):
        channel.send(LogLine('info', str(count)))
        break
"""

    async def work() -> None:
        child = await started(script)
        for number in range(2000):
            child.send(Want(Wanted(None, number, "swift" * 100, "low")))
        child.send(Flush())
        await child.watch(FromWorker, heard.append)

    run(work)
    assert heard == [LogLine("info", "2001")]


def test_one_that_does_not_listen_is_killed_after_its_grace() -> None:
    async def work() -> None:
        child = await started("time.sleep(600)")
        watching = asyncio.ensure_future(child.watch(FromWorker, lambda message: None))
        await child.end(Flush(), 0.05)
        assert child.pid is None and await watching == "killed by signal 9"
        child.send(Flush())  # to nobody
        await child.discard()

    run(work)


def test_a_program_that_is_not_there_is_an_os_error() -> None:
    async def work() -> None:
        with pytest.raises(OSError):
            await Child[FromWorker].start(("/nonexistent/program",), LOG)

    run(work)
