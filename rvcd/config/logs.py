"""Logging to stderr: priorities and key=value under systemd, plain readable lines in a terminal."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

ROOT = "rvcd"
_FIELDS = "fields"
# Priorities of sd-daemon(3), as a "<N>" prefix on each line.
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))


def get_logger(part: str) -> logging.Logger:
    """Return the logger of one part of rvcd: 'control', 'audio', 'worker', ..."""
    return logging.getLogger(f"{ROOT}.{part}")


def fields(**values: object) -> dict[str, dict[str, object]]:
    """Return the `extra` of a log call: log.info("voice is live", extra=fields(voice="Anna", load_ms=812))."""
    return {_FIELDS: values}


def setup(level: str = "info", *, stream: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> None:
    """Send rvcd's log to stderr (or stream), replacing handlers set before. level: a name of the logging module."""
    target = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(target)
    handler.setFormatter(JournalFormatter() if goes_to_journal(target, environ) else PlainFormatter())
    root = logging.getLogger(ROOT)
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


def goes_to_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether stream is the journal's: JOURNAL_STREAM names its device and inode (systemd.exec(5)).

    The comparison matters because the variable is inherited by shells started from a service.
    """
    try:
        device, inode = environ.get("JOURNAL_STREAM", "").split(":")
        status = os.fstat(stream.fileno())
        return (int(device), int(inode)) == (status.st_dev, status.st_ino)
    except (ValueError, OSError):
        return False


class JournalFormatter(logging.Formatter):
    """'<4>osc: malformed datagrams count=12 source=127.0.0.1:5000'. Each line of a traceback carries the priority."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as lines for the journal."""
        prefix = f"<{next(p for level, p in _PRIORITIES if record.levelno >= level)}>"
        return "\n".join(prefix + line for line in (one_line(record), *_traceback_lines(self, record)))


class PlainFormatter(logging.Formatter):
    """'12:03:04 WARNING osc: malformed datagrams (count=12, source=127.0.0.1:5000)'."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as lines for a person."""
        pairs = ", ".join(f"{key}={_quoted(value)}" for key, value in _fields_of(record).items())
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{at} {record.levelname:<7} {_part(record)}: {_printable(record.getMessage())}"
        return "\n".join((f"{text} ({pairs})" if pairs else text, *_traceback_lines(self, record)))


def one_line(record: logging.LogRecord) -> str:
    """Return 'osc: malformed datagrams count=12 source=127.0.0.1:5000', without control characters or a traceback."""
    pairs = "".join(f" {key}={_quoted(value)}" for key, value in _fields_of(record).items())
    return f"{_part(record)}: {_printable(record.getMessage())}{pairs}"


def _fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(record, _FIELDS, {})
    return found


def _part(record: logging.LogRecord) -> str:
    return record.name.removeprefix(ROOT + ".")


def _traceback_lines(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    return formatter.formatException(record.exc_info).splitlines() if record.exc_info else []


def _printable(text: str) -> str:
    """Escape what could forge a line or move a terminal's cursor: text from the network ends up here."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def one_printable_line(text: str, limit: int) -> str:
    """Return text with everything escaped that is not printable, at most `limit` characters of it."""
    line = _printable(text[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _quoted(value: object) -> str:
    text = _printable(f"{value:g}" if isinstance(value, float) else str(value))
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' if not text or any(c in text for c in ' "=') else text


class LogThrottle:
    """Lets one line through per interval and counts the rest.

    Usage: count = throttle.hit(); if count: log.warning("...", extra=fields(count=count)).
    """

    def __init__(self, interval_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._next_s = float("-inf")
        self._held = 0

    def hit(self) -> int:
        """Count one event. Return 0 to stay silent, or how many events the line to be written stands for."""
        self._held += 1
        now = self._clock()
        if now < self._next_s:
            return 0
        self._next_s = now + self._interval_s
        count, self._held = self._held, 0
        return count
