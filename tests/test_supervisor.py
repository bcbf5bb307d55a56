"""The supervisor with workers that are small scripts: what it does when they say little, or cannot be started at all."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from rvcd.audio.ring import AudioSegment
from rvcd.supervisor import WorkerState, WorkerSupervisor
from rvcd.worker_process import WORKER_COMMAND, start_worker
from rvcd.worker_protocol import WorkerSetup

SETUP = WorkerSetup(
    rate_hz=16000,
    block_frames=8,
    lookahead_frames=4,
    context_frames=20,
    deadline_samples=160,
    encoder="",
    voice=None,
    f0_method="yin",
)
READY_AND_NO_MORE = (
    "import socket, sys; channel = socket.socket(fileno=int(sys.argv[1])); channel.recv(65536);"
    """channel.send(b'{"event": "ready"}'); channel.recv(65536)"""
)


@asynccontextmanager
async def supervising(command: Sequence[str]) -> AsyncIterator[WorkerSupervisor]:
    with AudioSegment.create(16000) as segment:
        supervisor = WorkerSupervisor(segment, SETUP, command=command)
        supervisor.start()
        try:
            yield supervisor
        finally:
            await supervisor.stop()


async def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.02)


def test_a_worker_that_is_ready_and_has_told_no_figures_yet_goes_on() -> None:
    async def go() -> None:
        async with supervising((sys.executable, "-c", READY_AND_NO_MORE)) as supervisor:
            await until(lambda: supervisor.state is WorkerState.RUNNING)
            pid = supervisor.pid
            await asyncio.sleep(0.7)  # longer than from one look at it to the next
            assert supervisor.responsive
            assert (supervisor.pid, supervisor.restarts) == (pid, 0) and pid is not None

    asyncio.run(go())


def test_a_worker_that_was_started_early_is_the_first_and_its_successor_takes_over_when_it_dies() -> None:
    async def go() -> None:
        early = await start_worker((sys.executable, "-c", READY_AND_NO_MORE))
        with AudioSegment.create(16000) as segment:
            supervisor = WorkerSupervisor(segment, SETUP, command=(sys.executable, "-c", READY_AND_NO_MORE), first=early)
            supervisor.start()
            try:
                await until(lambda: supervisor.state is WorkerState.RUNNING)
                assert (supervisor.pid, supervisor.restarts) == (early.process.pid, 0)
                early.process.kill()
                await until(lambda: supervisor.restarts == 1 and supervisor.state is WorkerState.RUNNING)
                assert supervisor.pid != early.process.pid
            finally:
                await supervisor.stop()

    asyncio.run(go())


def test_a_worker_that_is_not_needed_after_all_is_ended() -> None:
    async def go() -> None:
        early = await start_worker()
        await early.discard()
        assert early.process.returncode is not None

    asyncio.run(go())


def test_a_worker_whose_daemon_is_gone_before_it_told_what_to_do_ends_without_a_word() -> None:
    async def go() -> None:
        early = await start_worker()
        early.channel.close()
        _, words = await early.process.communicate()
        assert (early.process.returncode, words) == (2, b"")

    asyncio.run(go())


def test_a_worker_that_cannot_be_started_is_tried_again_and_the_reason_is_told() -> None:
    async def go() -> None:
        async with supervising(("/nowhere/python",)) as supervisor:
            await until(lambda: supervisor.restarts >= 2)
            assert supervisor.state is WorkerState.RESTARTING
            assert supervisor.reason.startswith("FileNotFoundError: ") and "/nowhere/python" in supervisor.reason
            supervisor.command = WORKER_COMMAND
            await until(lambda: supervisor.state is WorkerState.RUNNING)

    asyncio.run(go())
