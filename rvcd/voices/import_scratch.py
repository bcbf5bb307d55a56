"""The hidden folder in which a voice is put together beside the others, and what to do with one that was left behind.

It is locked for as long as its import runs. One that nobody holds belongs to an import that was killed: the next import and the
daemon's start remove it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

NAME = re.compile(r"\.import-[0-9a-f]{16}")
WHOLE, REPLACED = "voice", "replaced"
"""The finished voice; the one whose place it takes, where the two cannot change places in one step."""


class Scratch:
    """A hidden folder beside the voices, made when it is first needed: renaming out of it is one step, on one file system."""

    def __init__(self, voices: Path) -> None:
        self._voices, self._path = voices, voices / f".import-{secrets.token_hex(8)}"
        self._made_voices = False
        self._lock: int | None = None

    def folder(self) -> Path:
        if self._lock is None:
            self._made_voices = not self._voices.exists()
            self._voices.mkdir(parents=True, exist_ok=True)
            while self._lock is None:
                self._path.mkdir(exist_ok=True)
                self._lock = _lock(self._path)  # None: taken for a leftover and removed before it was locked
        return self._path

    def unpacked(self) -> Path:
        """Return a new folder for an archive's files."""
        path = self.folder() / f"unpacked-{secrets.token_hex(4)}"
        path.mkdir()
        return path

    def remove(self) -> None:
        shutil.rmtree(self._path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._made_voices:
            with contextlib.suppress(OSError):  # it holds the new voice
                self._voices.rmdir()


@contextlib.contextmanager
def scratch_in(voices: Path) -> Iterator[Scratch]:
    """Yield a scratch folder, which is gone afterwards, and remove what killed imports have left there."""
    clear_leftovers(voices)
    scratch = Scratch(voices)
    try:
        yield scratch
    finally:
        scratch.remove()


def clear_leftovers(voices: Path) -> int:
    """Remove the scratch folders of imports that were killed, and return how many there were. Raises nothing.

    A voice that such an import had moved aside, without getting the new one into its place, comes back.
    """
    removed = 0
    with contextlib.suppress(OSError):
        for path in sorted(voices.iterdir()):
            if NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                removed += _clear(path)
    return removed


def _clear(path: Path) -> bool:
    """Remove a scratch folder that no import holds. Returns whether it is gone."""
    try:
        lock = _lock(path)
    except OSError:  # held, or on a file system that cannot say so
        return False
    if lock is None:
        return False
    try:
        _bring_back(path)
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()
    finally:
        os.close(lock)


def _bring_back(path: Path) -> None:
    """Return the replaced voice to its place if that is empty. The finished one's file has the name of the place."""
    with contextlib.suppress(OSError, IndexError, StopIteration):
        scratch = next(folder for folder in (path, *path.iterdir()) if (folder / REPLACED).is_dir())
        names = [file.stem for file in (scratch / WHOLE).iterdir() if file.suffix not in (".toml", ".index")]
        place = path.parent / names[0]
        if not os.path.lexists(place):
            os.rename(scratch / REPLACED, place)


def _lock(path: Path) -> int | None:
    """Open and lock a folder. None: it is gone. Raises OSError when somebody holds it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink and os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
