"""How much work something is, in lines of Python run: the same on any machine, however busy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


class TooMuchWorkError(AssertionError):
    """More lines were run than allowed."""


def run_within(lines: int, work: Callable[[], object]) -> int:
    """Run work, of at most so many lines of Python, and return how many it took; it is ended when it takes more."""
    seen = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal seen
        seen += event == "line"
        if seen > lines:
            raise TooMuchWorkError(f"more than {lines} lines were run")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return seen
