"""Overloaded is when nothing audible gets through because blocks are late; a late block now and then is not."""

from __future__ import annotations

from rvcd.daemon.overload import LateBlocks, OverloadWatch
from rvcd.ipc.worker_stats import WorkerStats

RATE_HZ = 48000


def run(watch: OverloadWatch, from_s: float, seconds: float, late_share: float, late: int = 0) -> int:
    """Look ten times a second; returns the late samples at the end."""
    for tick in range(1, round(10 * seconds) + 1):
        now_s = from_s + tick / 10
        watch.look(now_s, round(RATE_HZ * now_s), late + round(RATE_HZ * late_share * tick / 10))
    return late + round(RATE_HZ * late_share * seconds)


def test_it_begins_where_all_is_late_and_ends_when_the_voice_is_back() -> None:
    watch = OverloadWatch()
    late = run(watch, 0, 3, 0.0)
    assert not watch.active
    late = run(watch, 3, 2, 1.0, late)
    assert watch.active
    run(watch, 5, 2, 0.0, late)
    assert not watch.active


def test_it_takes_a_second_of_silence_not_a_single_late_block() -> None:
    watch = OverloadWatch()
    run(watch, 0, 3, 0.3)
    assert not watch.active


def test_it_does_not_end_for_a_single_block_that_got_through() -> None:
    watch = OverloadWatch()
    late = run(watch, 0, 3, 1.0)
    run(watch, 3, 2, 0.7, late)
    assert watch.active


def test_a_change_is_told_once() -> None:
    watch = OverloadWatch()
    changes = [watch.look(tick / 10, 4800 * tick, 4800 * tick) for tick in range(30)]
    assert changes.count(True) == 1


def test_a_device_that_stands_still_is_no_overload() -> None:
    watch = OverloadWatch()
    for tick in range(30):
        watch.look(tick / 10, 48000, 0)
    assert not watch.active


def test_late_blocks_are_told_once_in_ten_seconds_and_only_when_they_are_many() -> None:
    watch = OverloadWatch()
    assert watch.late_blocks(0, WorkerStats(1)) is None
    assert watch.late_blocks(5, WorkerStats(1, blocks=100, late_blocks=50)) is None
    assert watch.late_blocks(10, WorkerStats(1, blocks=100, late_blocks=50)) == LateBlocks(50, 100)
    assert watch.late_blocks(20, WorkerStats(1, blocks=200, late_blocks=55)) is None
    assert watch.late_blocks(30, WorkerStats(1, blocks=300, late_blocks=80)) == LateBlocks(25, 100)


def test_a_new_worker_counts_from_nothing() -> None:
    watch = OverloadWatch()
    watch.late_blocks(0, WorkerStats(1, blocks=1000, late_blocks=900))
    assert watch.late_blocks(10, WorkerStats(2, blocks=100, late_blocks=30)) == LateBlocks(30, 100)
