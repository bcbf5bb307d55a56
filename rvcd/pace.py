"""Slow work beside the audio loop that runs only while the loop waits for its next block.

Loading a voice takes some tenths of a second of Python and torch. At the same time as a block it would take the interpreter
lock from it again and again, and a core where there are only two: several blocks would be late. So it stands still while a
block is computed. Stdlib only.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

MAX_WAIT_S = 5.0
"""Work that has stood still for so long in all goes on anyway: a loop that never waits is too slow for its blocks already."""


class Pace:
    """The loop says when it waits; other threads follow. Open until the loop closes it for the first time."""

    def __init__(self, max_wait_s: float = MAX_WAIT_S) -> None:
        self._max_wait_s = max_wait_s
        self._open = threading.Event()
        self._open.set()

    def open(self) -> None:
        """The loop waits from now on."""
        self._open.set()

    def close(self) -> None:
        """The loop computes from now on."""
        self._open.clear()

    @contextlib.contextmanager
    def followed(self) -> Iterator[None]:
        """Let this thread stand still, inside the with block, wherever it calls a function while the pace is closed.

        The interpreter calls the hook at every call and return: no part of the work has to know of it.
        """
        left_s = self._max_wait_s

        def stand_still(frame: object, event: str, arg: object) -> None:
            nonlocal left_s
            if self._open.is_set():
                return
            began_s = time.monotonic()
            self._open.wait(left_s)
            left_s -= time.monotonic() - began_s
            if left_s <= 0:
                sys.setprofile(None)

        sys.setprofile(stand_still)
        try:
            yield
        finally:
            sys.setprofile(None)
