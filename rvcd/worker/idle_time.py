"""When the audio loop waits for its next block; slow work beside it runs only then (see rvcd.yielding)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

MAX_WAIT_S = 5.0
"""Work that has waited for so long in all goes on anyway: a loop that never waits is too slow for its blocks already."""


class IdleTime:
    """The loop says when it waits; other threads wait for that at their yield points. Idle until the loop says otherwise."""

    def __init__(self, max_wait_s: float = MAX_WAIT_S) -> None:
        self._max_wait_s = max_wait_s
        self._idle = threading.Event()
        self._idle.set()

    def begin(self) -> None:
        """The loop waits from now on."""
        self._idle.set()

    def end(self) -> None:
        """The loop computes from now on."""
        self._idle.clear()

    def waiter(self) -> Callable[[], None]:
        """Return what one piece of slow work calls at its yield points: it waits there, max_wait_s in all."""
        left_s = self._max_wait_s

        def wait() -> None:
            nonlocal left_s
            if left_s <= 0 or self._idle.is_set():
                return
            began_s = time.monotonic()
            self._idle.wait(left_s)
            left_s -= time.monotonic() - began_s

        return wait
