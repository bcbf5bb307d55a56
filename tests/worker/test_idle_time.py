"""Work that loads goes on while the audio loop waits, and stands still at its yield points while the loop computes."""

from __future__ import annotations

import threading

from rvcd.worker.idle_time import IdleTime
from rvcd.yielding import yield_point, yielding

HANG_S = 60.0


def test_work_waits_at_its_yield_point_until_the_loop_waits() -> None:
    idle, before, after = IdleTime(max_wait_s=HANG_S), threading.Event(), threading.Event()
    idle.end()

    def work() -> None:
        with yielding(idle.waiter()):
            before.set()
            yield_point()
            after.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert before.wait(HANG_S) and not after.is_set()
    idle.begin()
    thread.join(HANG_S)
    assert after.is_set()


def test_work_that_has_waited_long_enough_in_all_goes_on_anyway() -> None:
    idle = IdleTime(max_wait_s=0.02)
    idle.end()
    with yielding(idle.waiter()):
        for _ in range(1000):
            yield_point()  # 0.02 s in all, not each


def test_only_the_thread_that_yields_waits() -> None:
    idle = IdleTime(max_wait_s=HANG_S)
    idle.end()
    yield_point()
    with yielding(idle.waiter()):
        other = threading.Thread(target=yield_point)
        other.start()
        other.join(HANG_S)
        assert not other.is_alive()


def test_yielding_ends_with_its_block_and_can_be_nested() -> None:
    calls: list[str] = []
    with yielding(lambda: calls.append("outer")):
        with yielding(lambda: calls.append("inner")):
            yield_point()
        yield_point()
    yield_point()
    assert calls == ["inner", "outer"]
