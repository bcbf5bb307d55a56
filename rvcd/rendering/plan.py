"""What a batch converts, and into which files: from files, folders and patterns to pairs of source and target."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rvcd.audio.found_files import FoundFile, find_audio

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


def make_plan(inputs: Sequence[str], out: Path, extension: str) -> Plan:
    """Return what is to be done. extension: of the targets, with its dot.

    A file goes straight into `out`. Of one folder the content is mirrored into `out`; of several inputs each folder keeps its
    name there, as with `cp -r`. A pattern's files keep their place below its first part without a wildcard. Raises nothing: what
    is wrong with an input is its item's problem.
    """
    plan = Plan()
    plan.items = _with_targets(find_audio(inputs, plan.notes, out), out, extension)
    return plan


def _with_targets(found: Sequence[FoundFile], out: Path, extension: str) -> list[Item]:
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
