"""The time that a block waited for a processor is the kernel's own count of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rvcd.worker.waiting_time import LOOKS_BETWEEN_LISTINGS, WaitingTime


def write(tasks: Path, thread: int, waited_ns: int) -> None:
    (tasks / str(thread)).mkdir(exist_ok=True)
    (tasks / str(thread) / "schedstat").write_text(f"123456789 {waited_ns} 42\n")


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[WaitingTime]:
    write(tmp_path, 10, 5_000_000)
    write(tmp_path, 11, 7_000_000)
    time = WaitingTime(tmp_path)
    yield time
    time.close()


def test_what_was_waited_before_the_first_look_does_not_count(waiting: WaitingTime) -> None:
    assert waiting.look() == 0.0


def test_the_thread_that_waited_longest_is_what_a_block_waits_for(waiting: WaitingTime, tmp_path: Path) -> None:
    waiting.look()
    write(tmp_path, 10, 25_000_000)
    write(tmp_path, 11, 12_000_000)
    assert waiting.look() == 20.0
    assert waiting.look() == 0.0


def test_threads_come_and_go(waiting: WaitingTime, tmp_path: Path) -> None:
    waiting.look()
    (tmp_path / "10" / "schedstat").unlink()
    (tmp_path / "10").rmdir()
    write(tmp_path, 12, 1_000_000)
    for _ in range(LOOKS_BETWEEN_LISTINGS):
        waiting.look()
    write(tmp_path, 12, 4_000_000)
    assert waiting.look() == 3.0


@pytest.mark.parametrize("text", ["", "nothing here", "1", "1 2.5 3"])
def test_a_kernel_that_does_not_count_reports_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "10").mkdir()
    (tmp_path / "10" / "schedstat").write_text(text)
    waiting = WaitingTime(tmp_path)
    assert [waiting.look() for _ in range(3)] == [0.0] * 3
    assert WaitingTime(tmp_path / "none").look() == 0.0


def test_the_real_kernel_can_be_read() -> None:
    waiting = WaitingTime()
    assert waiting.look() == 0.0
    assert waiting.look() >= 0.0
    waiting.close()
