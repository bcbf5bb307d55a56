"""What is to be kept is saved soon after it changed, whatever the disk does, and nothing waits for the disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.daemon.disk import DiskWorker
from rvcd.daemon.json_store import save
from rvcd.daemon.state_saver import RETRY_S, SAVE_AFTER_S, StateSaver
from rvcd.errors import RvcdError

T = TypeVar("T")


class FakeDisk(DiskWorker):
    """A disk whose answers a test decides. content: of the file. hung: work that was given up and may still be done."""

    def __init__(self, content: int) -> None:
        super().__init__()
        self.content = content
        self.hung: list[Callable[[], Any]] = []
        self.waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self.attempts = 0

    def save(self, value: int) -> None:
        self.content = value

    async def run(self, what: str, work: Callable[[], T], limit_s: float) -> T:
        self.attempts += 1
        if self.hung:
            raise RvcdError(f"{what}: the disk has not answered")
        assert not self.waiting, "two attempts at one time"
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.waiting.append((work, future))
        return await future

    async def answer(self, error: Exception | None = None) -> None:
        """End the attempt under way, if there is one."""
        await asyncio.sleep(0)  # begun by the last poll, it has not run yet
        for work, future in self.waiting:
            if error is None:
                future.set_result(work())
            else:
                future.set_exception(error)
        self.waiting.clear()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def hang(self) -> None:
        """Let the time limit of the attempt under way pass."""
        await asyncio.sleep(0)
        given_up = [work for work, _ in self.waiting]
        await self.answer(RvcdError("state.json: the disk has not answered for 20.0 s"))
        self.hung += given_up

    def come_back(self) -> None:
        """Do what was given up after all."""
        for work in self.hung:
            work()
        self.hung.clear()


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60.0))


def saver_on(disk: FakeDisk) -> StateSaver[int]:
    return StateSaver(disk, "state.json", disk.save, saved=disk.content)


def test_the_newest_value_is_saved_a_second_after_the_first_change() -> None:
    async def scenario() -> None:
        disk = FakeDisk(0)
        saver = saver_on(disk)
        for tick in range(11):  # a fader that moves all the time
            assert disk.attempts == 0
            saver.poll(tick, tick * 0.1)
            await disk.answer()
        assert disk.attempts == 0
        saver.poll(99, 0.1 + SAVE_AFTER_S)
        await disk.answer()
        assert (disk.attempts, disk.content) == (1, 99)
        for now_s in range(2, 100):
            saver.poll(99, float(now_s))
            await disk.answer()
        assert disk.attempts == 1

    run(scenario())


def test_a_value_that_changes_back_before_it_was_saved_is_not_written() -> None:
    async def scenario() -> None:
        disk = FakeDisk(0)
        saver = saver_on(disk)
        for now_s, value in ((0.0, 1), (0.9, 0), (1.0, 1), (1.9, 1)):
            saver.poll(value, now_s)
            await disk.answer()
        assert disk.attempts == 0
        saver.poll(1, 2.0)
        await disk.answer()
        assert (disk.attempts, disk.content) == (1, 1)

    run(scenario())


def test_while_a_disk_hangs_polling_goes_on_and_the_newest_value_is_saved_when_it_answers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        disk = FakeDisk(0)
        saver = saver_on(disk)
        saver.poll(1, 0.0)
        saver.poll(1, 1.0)
        for tick in range(10, 200):  # 20 s, a tick each 0.1 s
            saver.poll(tick, tick * 0.1)
            await asyncio.sleep(0)
        assert (disk.attempts, disk.content) == (1, 0)
        await disk.hang()
        for tick in range(200, 1000):
            saver.poll(tick, tick * 0.1)
            await disk.answer()
        assert disk.content == 0
        assert caplog.messages == ["state.json: the disk has not answered for 20.0 s"]
        disk.come_back()
        assert disk.content == 1
        for tick in range(1000, 1000 + round(10 * RETRY_S) + 20):
            saver.poll(1000, tick * 0.1)
            await disk.answer()
        assert disk.content == 1000

    with caplog.at_level("WARNING", "rvcd.daemon.disk"):
        run(scenario())


def test_a_full_disk_is_one_warning_and_the_same_value_is_tried_again_after_a_while(caplog: pytest.LogCaptureFixture) -> None:
    full = RvcdError("state.json: the saved state cannot be saved: No space left on device")

    async def scenario() -> None:
        disk = FakeDisk(0)
        saver = saver_on(disk)
        for tick in range(10 * round(RETRY_S)):
            saver.poll(1, tick * 0.1)
            await disk.answer(full)
        assert disk.attempts == 1
        for tick in range(10 * round(RETRY_S), 10 * round(RETRY_S) + 30):
            saver.poll(1, tick * 0.1)
            await disk.answer(full)
        assert disk.attempts == 2
        assert caplog.messages == [str(full)]
        for tick in range(20 * round(RETRY_S), 20 * round(RETRY_S) + 30):
            saver.poll(2, tick * 0.1)
            await disk.answer()
        assert (disk.attempts, disk.content) == (3, 2)
        assert caplog.messages == [str(full), "state.json: is saved again"]

    with caplog.at_level("INFO", "rvcd.daemon.disk"):
        run(scenario())


def test_a_fault_in_saving_is_no_end_of_the_loop_either(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        disk = FakeDisk(0)
        saver = saver_on(disk)
        saver.poll(1, 0.0)
        saver.poll(1, 1.0)
        await disk.answer(TypeError("not JSON"))
        saver.poll(1, 2.0)
        assert caplog.messages == ["state.json: cannot be saved (TypeError: not JSON)"]

    run(scenario())


CHANGES = st.tuples(st.sampled_from(["set", "wait", "answer", "fail", "hang", "come back"]), st.integers(0, 3))


@given(st.lists(CHANGES, max_size=40))
def test_whatever_the_disk_did_in_the_end_it_holds_the_newest_value(steps: list[tuple[str, int]]) -> None:
    async def scenario() -> None:
        disk = FakeDisk(0)
        saver = saver_on(disk)
        value, now_s = 0, 0.0
        for step, number in steps:
            if step == "set":
                value = number
            elif step == "wait":
                now_s += (0.1, 0.6, 1.0, RETRY_S)[number]
            elif step == "answer":
                await disk.answer()
            elif step == "fail":
                await disk.answer(RvcdError("full"))
            elif step == "hang":
                await disk.hang()
            else:
                disk.come_back()
            saver.poll(value, now_s)
        disk.come_back()
        for _ in range(4):
            await disk.answer()
            now_s += RETRY_S
            saver.poll(value, now_s)
        await disk.answer()
        assert disk.content == value

    run(scenario())


# ---- the end


def test_at_the_end_the_last_value_is_saved_after_an_attempt_under_way() -> None:
    written: list[int] = []
    goes_on = threading.Event()

    def slow(value: int) -> None:
        goes_on.wait()
        written.append(value)

    async def scenario() -> None:
        saver = StateSaver(DiskWorker(), "state.json", slow, saved=0)
        saver.poll(1, 0.0)
        saver.poll(1, 1.0)
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(goes_on.set)
        await saver.close(2, 60.0)
        assert written == [1, 2]
        await saver.close(2, 60.0)
        assert written == [1, 2]

    run(scenario())


@pytest.mark.parametrize("under_way", [False, True])
def test_a_disk_that_hangs_delays_the_end_by_no_more_than_the_limit(caplog: pytest.LogCaptureFixture, under_way: bool) -> None:
    answers = threading.Event()

    def hang(value: int) -> None:
        answers.wait()

    async def scenario() -> None:
        saver = StateSaver(DiskWorker(), "state.json", hang, saved=0)
        saver.poll(1, 0.0)
        if under_way:
            saver.poll(1, 1.0)
            await asyncio.sleep(0)
        await saver.close(2, 0.05)
        (sentence,) = caplog.messages
        assert sentence.startswith("what changed last is not saved: state.json: the disk has not answered for ")

    run(scenario())
    answers.set()


def test_a_state_file_on_a_real_disk_holds_the_newest_value_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "state" / "value.json"

    async def scenario() -> None:
        saver = StateSaver(DiskWorker(), str(path), lambda value: save({"value": value}, path, "value"), saved=0)
        for tick in range(100):
            saver.poll(tick, tick * 0.1)
            await asyncio.sleep(0)
        await saver.close(100, 60.0)
        assert path.read_text() == '{\n  "value": 100\n}\n'

    run(scenario())
