"""A disk that does not answer: its caller gets a sentence, and neither the event loop nor the end of the process waits for it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from rvcd.daemon.disk import MAX_HUNG, DiskWorker
from rvcd.errors import RvcdError

LONG_S = 60.0
"""Never waited for, unless something is wrong."""
SHORT_S = 0.02


class HungDisk:
    """Work that hangs until the disk answers again."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.done: list[str] = []

    def work(self, name: str) -> Callable[[], str]:
        def hang() -> str:
            self.answers.wait()
            self.done.append(name)
            return name

        return hang


@pytest.fixture
def hung() -> Iterator[HungDisk]:
    disk = HungDisk()
    yield disk
    disk.answers.set()


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, LONG_S))


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await asyncio.sleep(0.001)


def test_the_result_or_the_error_of_the_work_comes_back_from_another_thread() -> None:
    async def scenario() -> None:
        disk = DiskWorker()
        assert await disk.run("a", threading.get_ident, LONG_S) != threading.get_ident()
        with pytest.raises(FileNotFoundError):
            await disk.run("a", lambda: os.stat("/nonexistent"), LONG_S)

    run(scenario())


def test_a_disk_that_hangs_is_a_sentence_with_the_file_and_the_loop_goes_on(hung: HungDisk) -> None:
    async def scenario() -> None:
        disk = DiskWorker()
        waiting = asyncio.create_task(disk.run("/mnt/nas/presets.json", hung.work("first"), SHORT_S))
        turns = 0
        while not waiting.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 1
        with pytest.raises(RvcdError, match=r"^/mnt/nas/presets.json: the disk has not answered for 0\.0 s: is it busy"):
            await waiting

    run(scenario())


def test_until_it_answers_again_the_same_file_is_refused_at_once_and_another_is_not(
    hung: HungDisk, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        disk = DiskWorker()
        with pytest.raises(RvcdError):
            await disk.run("a", hung.work("first"), SHORT_S)
        with pytest.raises(RvcdError, match="a: the disk has not answered"):
            await disk.run("a", hung.work("second"), LONG_S)
        assert await disk.run("b", lambda: 3, LONG_S) == 3
        hung.answers.set()
        with caplog.at_level("INFO", "rvcd.daemon.disk"):
            await until(lambda: bool(caplog.messages))
        assert caplog.messages[0].startswith("a: the disk answers again, after ")
        assert await disk.run("a", lambda: 4, LONG_S) == 4
        assert hung.done == ["first"]  # what was refused is never done

    run(scenario())


def test_only_so_many_threads_hang_then_every_file_is_refused_at_once(hung: HungDisk) -> None:
    async def scenario() -> None:
        disk = DiskWorker()
        for number in range(MAX_HUNG):
            with pytest.raises(RvcdError):
                await disk.run(f"file {number}", hung.work(""), SHORT_S)
        threads = threading.active_count()
        with pytest.raises(RvcdError, match="other: is not tried: file 0: the disk has not answered"):
            await disk.run("other", hung.work(""), LONG_S)
        assert threading.active_count() == threads
        hung.answers.set()
        await until(lambda: len(hung.done) == MAX_HUNG)
        await until(lambda: not disk._jobs)
        assert await disk.run("other", lambda: 1, LONG_S) == 1

    run(scenario())


def test_work_on_one_file_is_done_in_the_order_of_the_calls(hung: HungDisk) -> None:
    async def scenario() -> None:
        disk = DiskWorker()
        names = [str(number) for number in range(20)]
        tasks = [asyncio.create_task(disk.run("a", hung.work(name), LONG_S)) for name in names]
        impatient = asyncio.create_task(disk.run("a", hung.work("impatient"), SHORT_S))
        with pytest.raises(RvcdError, match="a: the disk has not answered"):
            await impatient
        hung.answers.set()
        assert await asyncio.gather(*tasks) == names == hung.done

    run(scenario())


def test_a_caller_that_is_cancelled_leaves_its_thread_behind(hung: HungDisk) -> None:
    async def scenario() -> None:
        disk = DiskWorker()
        task = asyncio.create_task(disk.run("a", hung.work(""), LONG_S))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(RvcdError, match="a: the disk has not answered"):
            await disk.run("a", lambda: 1, LONG_S)

    run(scenario())


def test_no_thread_to_be_had_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def scenario() -> None:
        disk = DiskWorker()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", full)
            with pytest.raises(RvcdError, match="a: there is no thread left to reach the disk with; end some processes"):
                await disk.run("a", lambda: 1, LONG_S)
        assert await disk.run("a", lambda: 1, LONG_S) == 1

    run(scenario())


def test_a_thread_that_hangs_in_the_kernel_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    """Opening a named pipe that nobody writes to hangs as a dead server's file does; the default executor would be joined."""
    os.mkfifo(tmp_path / "pipe")
    program = f"""
import asyncio
from rvcd.daemon.disk import DiskWorker
from rvcd.errors import RvcdError

async def main():
    try:
        await DiskWorker().run("pipe", lambda: open({str(tmp_path / "pipe")!r}), 0.1)
    except RvcdError as error:
        print(error)

asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LONG_S)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("pipe: the disk has not answered for 0.1 s")
