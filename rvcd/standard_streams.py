"""The three streams that a command is given: closed, full, or of another encoding than UTF-8. Stdlib only: rvcctl uses it too."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from typing import Any, TextIO

from rvcd.errors import OutputError

READABLE = "rvcd.readable"
"""Name of the error handler for what an encoding lacks: signs become their nearest ASCII, everything else an escape."""
_NEAREST = {
    "…": "...", "–": "-", "—": "-", "−": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "•": "*", "·": ".", "×": "x", "≤": "<=",
    "≥": ">=", "→": "->", "←": "<-", "►": ">", "◄": "<", "─": "-", "━": "-", "═": "=", "│": "|", "┃": "|", "║": "|", "█": "#",
    "✓": "x", "°": " deg", "┌": "+", "┐": "+", "└": "+", "┘": "+", "├": "+", "┤": "+", "┬": "+", "┴": "+", "┼": "+", "╸": "-",
    "╺": "-", "\u00a0": " ",
}  # fmt: skip


def prepare() -> None:
    """Make the standard streams of this process such that a command can use them. Call first, from the main program only.

    A closed descriptor is opened, or the next file that is opened would become the output. Writing to a standard output that
    is closed or full raises OutputError, BrokenPipeError when the reader is gone. What cannot be told on stderr is lost. Text
    that the terminal's encoding lacks is written readably.
    """
    was_closed = [_is_closed(descriptor) for descriptor in range(3)]
    for descriptor, closed in enumerate(was_closed):
        if closed:
            # For reading only at 1: what is written there fails, as it should.
            os.open(os.devnull, os.O_WRONLY if descriptor == 2 else os.O_RDONLY)
            os.set_inheritable(descriptor, True)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")
    # Under a test, or another program's, somebody else has put the streams in place.
    if sys.stdout is sys.__stdout__:
        sys.stdout = text_stream(_Output(1), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = text_stream(_Complaints(2), sys.stderr)
        if was_closed[2]:
            sys.__stderr__ = sys.stderr  # type: ignore[misc, assignment]


def complaints(descriptor: int) -> TextIO:
    """Return a stream like the standard error, on another descriptor: what cannot be written is lost."""
    return text_stream(_Complaints(descriptor), sys.stderr)


def text_stream(raw: io.FileIO, like: TextIO | None) -> TextIO:
    """Return a line-buffered text stream over raw, in the encoding of another stream; None: it was closed."""
    encoding = getattr(like, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError, ValueError, AttributeError):
        like.flush()  # type: ignore[union-attr]
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors=READABLE, line_buffering=True)


def finish() -> None:
    """Write out what waits for the standard output. Raises as writing does."""
    if sys.stdout is not None:
        sys.stdout.flush()


def take_output() -> io.BufferedWriter:
    """Return the standard output for bytes. What anybody prints from now on goes to the standard error, in C too."""
    sys.stdout.flush()
    descriptor = os.dup(1)
    os.dup2(2, 1)
    return io.BufferedWriter(_Output(descriptor))


def give_up_output() -> None:
    """Let what waits for the standard output go nowhere: the interpreter flushes it once more when it ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        descriptor = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def can_show(stream: TextIO | None, text: str) -> bool:
    """Return whether a stream's encoding has every character of a text."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeError, LookupError):
        return False
    return True


class _Output(io.FileIO):
    """The standard output. Raises OutputError where it takes nothing, BrokenPipeError where nobody reads."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(_why(error)) from error


class _Complaints(io.FileIO):
    """The standard error. There is nobody to tell that it takes nothing."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


def _why(error: OSError) -> str:
    if error.errno == errno.EBADF:
        return "cannot write the output: it is closed; use '>/dev/null' where it is not wanted"
    reason = (error.strerror or str(error)).lower()
    advice = "; free some space, or write elsewhere" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return f"cannot write the output: {reason}{advice}"


def _is_closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return True
    return False


def _readable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_written, error.object[error.start : error.end])), error.end


def _written(char: str) -> str:
    # A byte of a file's name that is no UTF-8: Python keeps it as U+DC80..U+DCFF.
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    return _NEAREST.get(char) or char.encode("ascii", "backslashreplace").decode("ascii")


codecs.register_error(READABLE, _readable)
