"""Yield points: places where slow work beside the audio loop lets the loop go first.

Loading a voice takes tenths of a second of Python and torch. Done while a block is computed it would take the interpreter lock
from the loop again and again, and a core where there are only two. So the code that loads calls yield_point() between its
pieces, wherever it holds no lock and has nothing half done; there, and nowhere else, it may stand still until the loop waits for
its next block. In a thread that yields to nobody a yield point costs one look-up. Stdlib only.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class _ThisThread(threading.local):
    """wait: what this thread calls at a yield point."""

    wait: Callable[[], None] | None = None  # of the class: the look-up is quick where a thread has set nothing


_this_thread = _ThisThread()


def yield_point() -> None:
    """Let whoever this thread yields to go first; returns at once where it yields to nobody. Call it holding no lock."""
    wait = _this_thread.wait
    if wait is not None:
        wait()


def is_yielding() -> bool:
    """Say whether this thread yields to another one."""
    return _this_thread.wait is not None


@contextlib.contextmanager
def yielding(wait: Callable[[], None]) -> Iterator[None]:
    """Let this thread call `wait` at every yield point inside the with block."""
    before = _this_thread.wait
    _this_thread.wait = wait
    try:
        yield
    finally:
        _this_thread.wait = before
