"""Tells the control process how far the worker is: whenever that changes, and every second as a sign of life."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import Any

import msgspec
from msgspec.structs import replace

from rvcd.ipc.channel import Channel
from rvcd.ipc.messages import LogLine, Report

SIGN_OF_LIFE_S = 1.0
MAX_WAITING_LINES = 100
"""Lines for the log that nobody has taken yet; beyond that the oldest are let go."""


class Reporter:
    """Any thread tells; one thread of its own sends, so nobody waits for the control process to listen."""

    def __init__(self, channel: Channel[Any], report: Report) -> None:
        """report: what holds before anything was done."""
        self._channel = channel
        self._report = report
        self._changed = threading.Event()
        self._lock = threading.Lock()
        self._lines: deque[LogLine] = deque(maxlen=MAX_WAITING_LINES)

    @property
    def report(self) -> Report:
        """What was told last."""
        return self._report

    def tell(self, **changes: Any) -> None:
        """Change fields of the report."""
        with self._lock:
            self._report = replace(self._report, **changes)
        self._changed.set()

    def log(self, level: str, text: str) -> None:
        """Have a line written to the daemon's log."""
        self._lines.append(LogLine(level, text))
        self._changed.set()

    def run(self) -> None:
        """Send until the control process is gone."""
        with contextlib.suppress(OSError):
            while True:
                self._changed.clear()
                while self._lines:
                    self._channel.send(self._lines.popleft())
                self._channel.send(self._last())
                self._changed.wait(SIGN_OF_LIFE_S)

    def _last(self) -> msgspec.Struct:
        with self._lock:
            return self._report
