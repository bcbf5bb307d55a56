"""Presets: named sets of parameters, in the order in which they were made. One file beside the saved state. Stdlib only."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvcd.daemon import json_store
from rvcd.errors import PresetError
from rvcd.osc.names import find_name, whole_in
from rvcd.params import VOICE_BY_NAME
from rvcd.protocol import NAME_PATTERN, NAME_RULE

FILE_NAME = "presets.json"
FORMAT = 1
WHAT = "presets"
MAX_PRESETS = 128
HINTS_FROM = 16
"""A name that is not there is compared with so many, for a did-you-mean."""


@dataclass(frozen=True)
class Preset:
    """params: values by name, in their table's units; a parameter that is missing is left as it is."""

    name: str
    params: Mapping[str, float]


@dataclass(frozen=True)
class PresetBook:
    """All presets; the first is number 1. A change gives a new book."""

    presets: tuple[Preset, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of their numbers."""
        return tuple(preset.name for preset in self.presets)

    def find(self, name_or_number: str | int) -> Preset:
        """Return a preset by its name (else without regard to case) or its number from 1, also as text. Raises PresetError."""
        if isinstance(name_or_number, int):
            if not 1 <= name_or_number <= len(self.presets):
                raise PresetError(f"there is no preset {name_or_number}; {self._which()}")
            return self.presets[name_or_number - 1]
        for preset in self.presets:
            if preset.name == name_or_number:
                return preset
        if (found := find_name(name_or_number, self.names)) is not None:
            return self.find(found)
        if (number := whole_in(name_or_number)) is not None:
            return self.find(number)
        # Comparing with many names takes milliseconds, and anybody may ask.
        close = difflib.get_close_matches(name_or_number, self.names[:HINTS_FROM], n=1, cutoff=0.5)
        hint = f"did you mean '{close[0]}'?" if close else self._which()
        raise PresetError(f"no preset is called '{name_or_number}'; {hint}")

    def put(self, name_or_number: str | int, params: Mapping[str, float]) -> tuple[PresetBook, str]:
        """Return a book with params kept under a name, or in place of a number, and the name.

        The number after the last makes a new one, 'preset N'. Raises PresetError for a name that cannot be one, a number
        further on, and a full book.
        """
        if isinstance(name_or_number, int):
            is_next = name_or_number == len(self.presets) + 1
            name = self._free_name(name_or_number) if is_next else self.find(name_or_number).name
        else:
            name = name_or_number.strip()
            if not re.fullmatch(NAME_PATTERN, name):
                raise PresetError(f"a preset's name has {NAME_RULE}")
        kept = Preset(name, dict(params))
        if name in self.names:
            return PresetBook(tuple(kept if preset.name == name else preset for preset in self.presets)), name
        if len(self.presets) >= MAX_PRESETS:
            raise PresetError(f"there are {MAX_PRESETS} presets, which is the most; delete one first")
        return PresetBook((*self.presets, kept)), name

    def without(self, name_or_number: str | int) -> tuple[PresetBook, str]:
        """Return a book without a preset, and its name. Raises PresetError for one there is not."""
        gone = self.find(name_or_number)
        return PresetBook(tuple(preset for preset in self.presets if preset.name != gone.name)), gone.name

    def _free_name(self, number: int) -> str:
        names = (f"preset {count}" for count in range(number, number + MAX_PRESETS + 1))
        return next(name for name in names if name not in self.names)

    def _which(self) -> str:
        return f"there are 1..{len(self.presets)}: {', '.join(self.names)[:200]}" if self.presets else "none has been saved yet"


def presets_path(state_file: Path) -> Path:
    """Return where the presets lie: beside the saved state."""
    return state_file.with_name(FILE_NAME)


def load_presets(path: Path) -> tuple[PresetBook, str | None]:
    """Return the presets and a warning for the log, or None. See json_store.load."""
    return json_store.load(path, _parse, PresetBook(), WHAT)


def read_presets(path: Path) -> PresetBook:
    """Return the presets, changing nothing. Raises as json_store.read does."""
    return json_store.read(path, _parse)


def save_presets(book: PresetBook, path: Path) -> None:
    """Write the presets atomically; blocks on the disk. Raises RvcdError when the folder cannot be written."""
    entries = [{"name": preset.name, "params": dict(preset.params)} for preset in book.presets]
    json_store.save({"format": FORMAT, "presets": entries}, path, WHAT)


def _parse(document: Any) -> PresetBook:
    """Check and return a document. Raises ValueError naming the first thing that is wrong."""
    if not isinstance(document, dict) or document.get("format") != FORMAT or not isinstance(document.get("presets"), list):
        raise ValueError(f"are not presets of format {FORMAT}")
    book = PresetBook()
    for number, entry in enumerate(document["presets"], start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise ValueError(f"have no name for number {number}")
        try:
            known = json_store.known_params(entry.get("params"))
            book, _ = book.put(entry["name"], {name: known[name] for name in known if name in VOICE_BY_NAME})
        except (PresetError, ValueError) as error:
            raise ValueError(f"are wrong at number {number}: {error}") from None
    return book
