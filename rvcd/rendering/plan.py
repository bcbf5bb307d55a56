"""What a batch converts, and into which files: from files, folders and patterns to pairs of source and target."""

from __future__ import annotations

import glob
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rvcd.audio.files import READ_SUFFIXES

STATE_FOLDER = ".rvcd-render"
"""In the output folder: the manifest and the lock. Hidden, so a later batch takes no file in it for audio."""


@dataclass(frozen=True)
class Item:
    """One file. target: below the output folder. problem: why it cannot be converted, in one sentence; "": it can be tried.

    size_bytes: of the source.
    """

    source: Path
    target: Path
    problem: str = ""
    size_bytes: int = 0


@dataclass
class Plan:
    """items: in the order of the command line, folders by name. notes: on what was passed over."""

    items: list[Item] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Found:
    """relative: the path below the output folder, still with the source's extension."""

    source: Path
    relative: Path
    problem: str = ""


def make_plan(inputs: Sequence[str], out: Path, extension: str) -> Plan:
    """Return what is to be done. extension: of the targets, with its dot.

    A file goes straight into `out`. Of one folder the content is mirrored into `out`; of several inputs each folder keeps its
    name there, as with `cp -r`. A pattern's files keep their place below its first part without a wildcard. Raises nothing: what
    is wrong with an input is its item's problem.
    """
    plan, found, seen = Plan(), [], set()
    for text in inputs:
        for one in _found(text, out, len(inputs) > 1, plan.notes):
            place = os.path.abspath(one.source)
            if one.problem or place not in seen:
                found.append(one)
                seen.add(place)
    plan.items = _with_targets(found, out, extension)
    return plan


def _found(text: str, out: Path, one_of_several: bool, notes: list[str]) -> Iterator[_Found]:
    path = Path(text)
    if path.is_dir():
        top = Path(os.path.basename(os.path.abspath(path))) if one_of_several else Path()
        yield from _in_folder(path, top, out, notes)
    elif os.path.lexists(path):
        yield _checked(path, Path(path.name))
    elif glob.has_magic(text):
        yield from _matches(text)
    else:
        yield _Found(path, Path(path.name), f"{path}: does not exist; check the path")


def _matches(pattern: str) -> Iterator[_Found]:
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
        yield _Found(Path(pattern), Path(pattern).relative_to(root), f"{pattern}: no audio file matches this pattern")


def _in_folder(root: Path, top: Path, out: Path, notes: list[str]) -> Iterator[_Found]:
    """Yield the audio files below a folder, by name. Links to folders come last, and none is entered twice: they may loop."""
    visited: set[tuple[int, int]] = set()
    output = _identity(out)
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
            yield _Found(folder, relative, f"{folder}: cannot be looked into: {(error.strerror or str(error)).lower()}")
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
        yield _Found(root, top / root.name, f"{root}: holds no audio file (WAV, FLAC, OGG, MP3, ...)")


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _checked(path: Path, relative: Path) -> _Found:
    """Return a file, with its problem if no look into it is needed to see one: a pipe would be waited for without end."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        reason = "a link that leads nowhere, or in a circle" if path.is_symlink() else (error.strerror or str(error)).lower()
        return _Found(path, relative, f"{path}: {reason}")
    problem = "" if stat.S_ISREG(mode) else f"{path}: is no file but a pipe, a socket or a device; only files can be converted"
    return _Found(path, relative, problem)


def _with_targets(found: Sequence[_Found], out: Path, extension: str) -> list[Item]:
    """Give each source a target. Where two would have the same (a.flac, a.mp3), those keep their extension inside the name."""
    plain = Counter(one.relative.with_suffix(extension) for one in found if not one.problem)
    sources = {os.path.realpath(one.source) for one in found}
    taken: dict[Path, Path] = {}
    items = []
    for one in found:
        target = one.relative.with_suffix(extension) if one.relative.name else Path(f"input{extension}")
        if not one.problem and plain[target] > 1 and one.relative.suffix.lower() != extension:
            target = one.relative.with_name(one.relative.name + extension)
        problem, path = one.problem, out / target
        if not problem and target in taken:
            problem = f"{one.source}: would be written to the same file as {taken[target]}; give one of them another name"
        elif not problem and os.path.realpath(path) in sources:
            problem = f"{one.source}: {path} is one of the files to be converted; choose another output folder or --format"
        if not problem:
            taken[target] = one.source
        items.append(Item(one.source, path, problem, _size_of(one.source)))
    return items


def _size_of(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
