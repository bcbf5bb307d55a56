"""Which files a voice is made of right now: a voice whose files were changed or replaced is another one. Looks, reads nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from rvcd.errors import ModelFileError
from rvcd.voices.registry import VoiceEntry

MAX_READS = 3
"""Of one voice that is replaced each time while it is read."""

FileFacts = tuple[str, int, int, int, int]
"""Path, time of the last change to the content and to the file (ns), size in bytes, inode."""

T = TypeVar("T")


def identity_of(voice: VoiceEntry, encoder: Path | None = None) -> str:
    """Return a short text that is another one once one of the voice's files has been changed, replaced or removed.

    They are its .pth, index and voice.toml, and the weights of its content encoder, where that is given.

    Raises nothing: a file that cannot be looked at counts as missing. Blocks on the disk.
    """
    files = (voice.path, voice.index_path, voice.toml_path, encoder)
    return hashlib.sha256(repr([file_facts(path) for path in files]).encode()).hexdigest()[:16]


def file_facts(path: Path | str | None) -> FileFacts | None:
    """Return what changes when a file does. None: there is none, or it cannot be looked at. Blocks on the disk."""
    if not path:
        return None
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return str(path), found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def read_unmixed(paths: Iterable[Path | str], read: Callable[[], T]) -> T:
    """Return read(), done again when one of the files was replaced meanwhile: never half of an old voice and half of a new one.

    Raises what read() raises for files that stay as they are, and ModelFileError for those that never do.
    """
    files = list(paths)
    for _ in range(MAX_READS):
        before = [file_facts(path) for path in files]
        try:
            result, error = read(), None
        except ModelFileError as raised:
            error = raised
        if before == [file_facts(path) for path in files]:
            if error is not None:
                raise error
            return result
    raise ModelFileError(f"{files[0]}: is being written, again and again; choose the voice once that has ended")
