"""The largest of the values of the last minute or so."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 60.0
STEP_S = 2.0


class RecentMaximum:
    """A maximum that forgets: the largest value added within the last window_s seconds, to within step_s.

    It holds at most window_s / step_s + 1 numbers, however often values are added. For one thread.
    """

    def __init__(self, window_s: float = WINDOW_S, step_s: float = STEP_S, clock: Callable[[], float] = time.monotonic) -> None:
        """Clock: seconds that never go back."""
        self._window_s, self._step_s, self._clock = window_s, step_s, clock
        self._steps: deque[tuple[float, float]] = deque()
        """(when it began, its largest value), the oldest first."""

    def add(self, value: float) -> float:
        """Add a value; return the largest of the window, this one included."""
        now_s = self._clock()
        if self._steps and now_s - self._steps[-1][0] < self._step_s:
            began_s, largest = self._steps[-1]
            self._steps[-1] = (began_s, max(largest, value))
        else:
            self._steps.append((now_s, value))
        return self.value()

    def value(self) -> float:
        """Return the largest value of the window; 0.0 when none was added in it."""
        oldest_s = self._clock() - self._window_s
        while self._steps and self._steps[0][0] + self._step_s <= oldest_s:
            self._steps.popleft()
        return max((largest for _, largest in self._steps), default=0.0)
