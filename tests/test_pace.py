"""Slow work stands still while a block is computed."""

from __future__ import annotations

import sys
import threading
import time

from rvcd.pace import Pace


def step() -> None:
    """Something to call."""


class Work:
    """Counts calls on a thread of its own until told to stop."""

    def __init__(self, pace: Pace) -> None:
        self.count, self.running, self.hook_left = 0, True, True
        self.thread = threading.Thread(target=self._run, args=(pace,))
        self.thread.start()

    def _run(self, pace: Pace) -> None:
        with pace.followed():
            while self.running:
                step()
                self.count += 1
        self.hook_left = sys.getprofile() is not None

    def moves(self, within_s: float = 5.0) -> bool:
        """Say whether it goes on within so many seconds."""
        before, until_s = self.count, time.monotonic() + within_s
        while self.count < before + 3 and time.monotonic() < until_s:
            time.sleep(0.005)
        return self.count >= before + 3

    def stop(self, pace: Pace) -> None:
        self.running = False
        pace.open()
        self.thread.join(5)


def test_work_goes_on_while_the_loop_waits_and_stands_still_while_it_computes() -> None:
    pace = Pace()
    work = Work(pace)
    try:
        assert work.moves()
        pace.close()
        time.sleep(0.02)  # the call in progress ends
        assert not work.moves(within_s=0.1)
        pace.open()
        assert work.moves()
    finally:
        work.stop(pace)
    assert not work.hook_left


def test_work_that_stood_still_for_too_long_goes_on_anyway() -> None:
    pace = Pace(max_wait_s=0.05)
    pace.close()
    work = Work(pace)
    try:
        assert work.moves()
    finally:
        work.stop(pace)


def test_only_the_thread_that_follows_stands_still() -> None:
    pace = Pace()
    pace.close()
    work = Work(pace)
    try:
        step()  # returns at once
        assert sys.getprofile() is None
    finally:
        work.stop(pace)
