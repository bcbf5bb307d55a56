"""Which audio files a command line means: files, folders and quoted patterns."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rvcd.audio.files import READ_SUFFIXES


@dataclass(frozen=True)
class FoundFile:
    """relative: where it lies below what was named. problem: why it cannot be read, in one sentence; "": it can be tried."""

    source: Path
    relative: Path
    problem: str = ""


def find_audio(inputs: Sequence[str], notes: list[str], without: Path | None = None) -> list[FoundFile]:
    """Return what is named, in that order, each file once; folders by name. notes: takes a sentence for what is passed over.

    without: a folder that is passed over, as what it holds was made of these files. Raises nothing: what is wrong with an input
    is its problem.
    """
    found, seen = [], set()
    for text in inputs:
        for one in _found(text, without, len(inputs) > 1, notes):
            place = os.path.abspath(one.source)
            if one.problem or place not in seen:
                found.append(one)
                seen.add(place)
    return found


def _found(text: str, without: Path | None, one_of_several: bool, notes: list[str]) -> Iterator[FoundFile]:
    path = Path(text)
    if path.is_dir():
        top = Path(os.path.basename(os.path.abspath(path))) if one_of_several else Path()
        yield from _in_folder(path, top, without, notes)
    elif os.path.lexists(path):
        yield _checked(path, Path(path.name))
    elif glob.has_magic(text):
        yield from _matches(text)
    else:
        yield FoundFile(path, Path(path.name), f"{path}: does not exist; check the path")


def _matches(pattern: str) -> Iterator[FoundFile]:
    """Yield the audio files that a pattern matches; ** stands for any number of folders."""
    parts = Path(pattern).parts
    first = next(n for n, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:first])
    nothing = True
    for name in sorted(glob.iglob(pattern, recursive=True)):
        path = Path(name)
        if path.suffix.lower() in READ_SUFFIXES and not path.is_dir():
            nothing = False
            yield _checked(path, path.relative_to(root))
    if nothing:
        yield FoundFile(Path(pattern), Path(pattern).relative_to(root), f"{pattern}: no audio file matches this pattern")


def _in_folder(root: Path, top: Path, without: Path | None, notes: list[str]) -> Iterator[FoundFile]:
    """Yield the audio files below a folder, by name. Links to folders come last, and none is entered twice: they may loop."""
    visited: set[tuple[int, int]] = set()
    output = _identity(without) if without is not None else None
    folders: list[tuple[Path, Path]] = [(root, top)]
    links: list[tuple[Path, Path]] = []
    others, nothing = 0, True
    while folders or links:
        folder, relative = folders.pop(0) if folders else links.pop(0)
        here = _identity(folder)
        if here is not None and (here == output or here in visited):
            if here != output:
                notes.append(f"{folder}: leads to a folder that was looked into already, and is passed over")
            continue
        if here is not None:
            visited.add(here)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            nothing = False
            yield FoundFile(folder, relative, f"{folder}: cannot be looked into: {(error.strerror or str(error)).lower()}")
            continue
        below: list[tuple[Path, Path]] = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = folder / entry.name
            if path.is_dir():
                (links if entry.is_symlink() else below).append((path, relative / entry.name))
            elif path.suffix.lower() in READ_SUFFIXES:
                nothing = False
                yield _checked(path, relative / entry.name)
            else:
                others += 1
        folders = below + folders
    if others:
        notes.append(f"{root}: {others} file(s) without an extension of audio were passed over")
    if nothing:
        yield FoundFile(root, top / root.name, f"{root}: holds no audio file (WAV, FLAC, OGG, MP3, ...)")


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _checked(path: Path, relative: Path) -> FoundFile:
    """Return a file, with its problem if no look into it is needed to see one: a pipe would be waited for without end."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        reason = "a link that leads nowhere, or in a circle" if path.is_symlink() else (error.strerror or str(error)).lower()
        return FoundFile(path, relative, f"{path}: {reason}")
    problem = "" if stat.S_ISREG(mode) else f"{path}: is no file but a pipe, a socket or a device; only files can be read"
    return FoundFile(path, relative, problem)
