"""The newest lines of the log, kept for clients that show them."""

from __future__ import annotations

import logging
import threading
from collections import deque

from rvcd.config.logs import ROOT, one_line
from rvcd.osc.session import LogLine

KEPT_LINES = 200
SHOWN_LINES = 20
MAX_CHARACTERS = 300


class LogTail(logging.Handler):
    """Keeps the newest lines of level INFO and above that rvcd's own loggers wrote. Any thread may log and read."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.addFilter(logging.Filter(ROOT))
        self._lock = threading.Lock()
        self._lines: deque[LogLine] = deque(maxlen=KEPT_LINES)
        self._written = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line of the record (a traceback is left to the log itself). Never raises."""
        try:
            text = one_line(record)
        except Exception as error:  # a log call whose arguments do not fit its text, or cannot be printed
            text = f"a line of {record.name} could not be written: {type(error).__name__}"
        if len(text) > MAX_CHARACTERS:
            text = text[: MAX_CHARACTERS - 1] + "…"
        with self._lock:
            self._written += 1
            self._lines.append(LogLine(self._written, record.levelname.lower(), text))

    def after(self, number: int, at_most: int = SHOWN_LINES) -> list[LogLine]:
        """Return the newest lines numbered above `number`, oldest first. at_most: how many, 0..KEPT_LINES."""
        with self._lock:
            newer = [line for line in self._lines if line.number > number]
        return newer[max(len(newer) - at_most, 0) :]
