from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from rvcd.config import logs
from rvcd.daemon.log_tail import KEPT_LINES, MAX_CHARACTERS, LogTail
from rvcd.osc.session import LogLine


@pytest.fixture
def tail() -> Iterator[LogTail]:
    """A tail of rvcd's log, which lets everything through and goes nowhere else."""
    root, handler = logging.getLogger(logs.ROOT), LogTail()
    before = (root.level, root.propagate, root.handlers[:])
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG)
    root.propagate = False
    yield handler
    root.setLevel(before[0])
    root.propagate, root.handlers[:] = before[1], before[2]


LOG = logs.get_logger("osc")


def test_lines_are_numbered_and_worded_as_in_the_journal(tail: LogTail) -> None:
    LOG.warning("malformed datagrams", extra=logs.fields(count=12, source="127.0.0.1:5000", why="no end", load=0.5))
    logs.get_logger("worker").info("voice %s is live", "Anna")
    assert tail.after(0) == [
        LogLine(1, "warning", 'osc: malformed datagrams count=12 source=127.0.0.1:5000 why="no end" load=0.5'),
        LogLine(2, "info", "worker: voice Anna is live"),
    ]
    assert tail.after(1) == tail.after(0)[1:]
    assert tail.after(2) == [] and tail.after(99) == []


def test_a_line_says_what_the_journals_line_says(tail: LogTail) -> None:
    record = LOG.makeRecord(
        LOG.name, logging.ERROR, __file__, 1, "a\tb %d", (3,), None, extra=logs.fields(path="/tmp/ä b", quote='"')
    )
    LOG.handle(record)
    assert "<3>" + tail.after(0)[0].text == logs.JournalFormatter().format(record)


def test_debug_lines_and_those_of_other_programs_are_left_out(tail: LogTail) -> None:
    LOG.debug("too much")
    for name in ("asyncio", "rvcdish"):
        other = logging.getLogger(name)
        other.addHandler(tail)
        other.warning("not ours")
        other.removeHandler(tail)
    logging.getLogger("rvcd").info("ours")
    assert [line.text for line in tail.after(0)] == ["rvcd: ours"]


@pytest.mark.parametrize(
    "text", ["two\nlines", "\x1b[2Jgone", "bell\x07", "\u202eright to left", "line\u2028separator", "\udc80"], ids=ascii
)
def test_a_line_is_one_line_without_control_characters(tail: LogTail, text: str) -> None:
    # Not through the logger: pytest-xdist cannot send a report whose captured log holds a lone surrogate.
    tail.handle(LOG.makeRecord(LOG.name, logging.INFO, __file__, 1, text, (), None, extra=logs.fields(source=text)))
    (line,) = tail.after(0)
    assert line.text.isprintable()
    line.text.encode()


def test_a_long_line_is_cut_and_says_so(tail: LogTail) -> None:
    LOG.info("x" * 1000)
    LOG.info("y" * (MAX_CHARACTERS - len("osc: ")))
    cut, whole = tail.after(0)
    assert len(cut.text) == MAX_CHARACTERS and cut.text.endswith("xx…")
    assert len(whole.text) == MAX_CHARACTERS and whole.text.endswith("yy")


def test_a_traceback_is_left_to_the_log_itself(tail: LogTail) -> None:
    try:
        raise ValueError("inner")
    except ValueError:
        LOG.exception("it failed")
    assert tail.after(0) == [LogLine(1, "error", "osc: it failed")]


def test_the_newest_lines_win_where_there_are_more_than_asked_for_or_kept(tail: LogTail) -> None:
    for number in range(1, KEPT_LINES + 51):
        LOG.info("line %d", number)
    newest = KEPT_LINES + 50
    assert [line.number for line in tail.after(0)] == list(range(newest - 19, newest + 1))
    assert [line.number for line in tail.after(newest - 3)] == [newest - 2, newest - 1, newest]
    kept = tail.after(0, at_most=1000)
    assert [line.number for line in kept] == list(range(51, newest + 1))
    assert kept[0].text == "osc: line 51"
    assert tail.after(0, at_most=0) == []


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("message", "args", "extra", "error"),
    [
        ("%d voices", ("many",), {}, "TypeError"),
        ("%s", (Unprintable(),), {}, "RuntimeError"),
        ("fine", (), logs.fields(value=Unprintable()), "RuntimeError"),
        ("fine", (), {"fields": 5}, "AttributeError"),
    ],
)
def test_a_log_call_that_cannot_be_written_is_a_line_and_no_exception(
    tail: LogTail, message: str, args: tuple[object, ...], extra: dict[str, object], error: str
) -> None:
    # Straight to the tail: pytest's own handler, which may sit beside it, does raise.
    tail.handle(LOG.makeRecord(LOG.name, logging.INFO, __file__, 1, message, args, None, extra=extra))
    assert tail.after(0) == [LogLine(1, "info", f"a line of rvcd.osc could not be written: {error}")]


def test_threads_that_log_at_once_lose_no_line_and_share_no_number(tail: LogTail) -> None:
    seen: list[LogLine] = []
    writing = threading.Event()

    def write(name: int) -> None:
        writing.wait()
        for number in range(25):
            LOG.info("%d of %d", number, name)

    def read() -> None:
        writing.wait()
        for _ in range(200):
            lines = tail.after(0, at_most=1000)
            assert [line.number for line in lines] == list(range(1, len(lines) + 1))
            seen[:] = lines

    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    reader = threading.Thread(target=read)
    for thread in (*threads, reader):
        thread.start()
    writing.set()
    for thread in (*threads, reader):
        thread.join()
    lines = tail.after(0, at_most=1000)
    assert [line.number for line in lines] == list(range(1, 201))
    assert sorted(line.text for line in lines) == sorted(f"osc: {n} of {t}" for n in range(25) for t in range(8))
    assert lines[: len(seen)] == seen
