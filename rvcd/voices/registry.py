"""The voices on this machine: which files they are, their slots, their names. Reads folders and voice.toml files only."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rvcd.errors import VoiceNotFoundError
from rvcd.protocol import NAME_PATTERN, NAME_RULE
from rvcd.voices.voice_folders import FoundVoice, voices_in, with_subfolders
from rvcd.voices.voice_toml import MAX_SLOT, printable

LISTED = 10
"""Names and ranges of slots in one sentence."""


@dataclass(frozen=True)
class VoiceEntry:
    """A voice's files and what its voice.toml says. index_path None: it has no index. toml_path None: it has no voice.toml.

    slot: 1..999, 0 outside a registry. params: by name, in their table's units: set when the voice is switched to.
    gain_db: on top of gain_out. slot_wanted: the slot its voice.toml asks for, 0: none. problems: one sentence for each thing
    that is wrong with its voice.toml, which is then ignored. encoder: its content encoder's name by voice.toml, "": by its file.
    f0_median_hz: its register, 0: not known.
    """

    slot: int
    name: str
    path: Path
    index_path: Path | None
    speaker: int = 0
    gain_db: float = 0.0
    params: Mapping[str, float] = field(default_factory=dict)
    slot_wanted: int = 0
    problems: tuple[str, ...] = ()
    toml_path: Path | None = None
    encoder: str = ""
    f0_median_hz: float = 0.0


@dataclass(frozen=True)
class VoiceRegistry:
    """Voices found by a scan, in the order of their slots.

    skipped: one sentence for each file or folder that was passed over, or is not obeyed, starting with its path.
    """

    folders: tuple[Path, ...]
    entries: tuple[VoiceEntry, ...]
    skipped: tuple[str, ...] = ()

    @classmethod
    def scan(cls, folders: Iterable[Path | str]) -> VoiceRegistry:
        """Find *.pth in the folders and in the folders directly inside them. Of two voices of one name the first is kept."""
        roots = tuple(Path(folder) for folder in folders)
        found: dict[str, FoundVoice] = {}
        skipped: list[str] = []
        for root in roots:
            for folder in with_subfolders(root, skipped):
                for voice in voices_in(folder, skipped):
                    kept = found.setdefault(voice.name, voice)
                    if kept is not voice:
                        path, first = printable(voice.path), printable(kept.path)
                        skipped.append(f"{path}: is passed over for {first}, which has the same name")
        slots = assign_slots({voice.name: voice.settings.slot for voice in found.values()})
        for name in sorted(found, key=_in_order):
            sentence = _about_slot(found[name], slots)
            skipped.extend([sentence] if sentence else [])
        entries = [_entry(found[name], slot) for name, slot in slots.items()]
        return cls(roots, tuple(sorted(entries, key=lambda entry: entry.slot)), tuple(skipped))

    def joined_by(self, others: VoiceRegistry) -> VoiceRegistry:
        """Return these voices and others behind them, in the highest free slots; of two of one name the one of here stays."""
        taken, known = {entry.slot for entry in self.entries}, {entry.name for entry in self.entries}
        free = (slot for slot in range(MAX_SLOT, 0, -1) if slot not in taken)
        new = [entry for entry in others.entries if entry.name not in known]
        placed = [replace(entry, slot=slot) for entry, slot in zip(new, free, strict=False)]
        return replace(self, entries=tuple(sorted((*self.entries, *placed), key=lambda entry: entry.slot)))

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of their slots."""
        return tuple(entry.name for entry in self.entries)

    def find(self, name_or_slot: str | int) -> VoiceEntry:
        """Return the voice of a name (exact, else without regard to case) or of a slot.

        Names are compared with those found, never joined into a path. Raises VoiceNotFoundError.
        """
        if not self.entries:
            where = ", ".join(map(printable, self.folders)) or "no folder"
            raise VoiceNotFoundError(f"there are no voices in {where}; put a voice's .pth there")
        return self._in_slot(name_or_slot) if isinstance(name_or_slot, int) else self._named(name_or_slot)

    def _in_slot(self, slot: int) -> VoiceEntry:
        for entry in self.entries:
            if entry.slot == slot:
                return entry
        holding = _listed(_ranges([entry.slot for entry in self.entries]))
        raise VoiceNotFoundError(f"no voice is in slot {slot}; slots {holding} hold voices")

    def _named(self, name: str) -> VoiceEntry:
        for entry in self.entries:
            if entry.name == name:
                return entry
        alike = [entry for entry in self.entries if entry.name.casefold() == name.casefold()]
        if len(alike) == 1:
            return alike[0]
        if not re.fullmatch(NAME_PATTERN, name):
            raise VoiceNotFoundError(f"that is no voice's name: names have {NAME_RULE}")
        by_lower = {entry.name.casefold(): entry.name for entry in self.entries}
        close = difflib.get_close_matches(name.casefold(), by_lower, n=1, cutoff=0.5)
        hint = f"; did you mean '{by_lower[close[0]]}'?" if close else f"; known: {_listed(self.names)}"
        raise VoiceNotFoundError(f"unknown voice '{name}'{hint}")


def voice_of_file(path: Path) -> VoiceEntry:
    """Return a .pth file as a voice with the index and the settings beside it, as a scan of its folder finds them; its slot is 0.

    A file that no scan would take, or that is not there, is returned bare: reading it says what is wrong.
    """
    if os.path.isfile(path):
        for voice in voices_in(path.parent, []):
            if voice.path.name == path.name:
                return _entry(voice, 0)
    return VoiceEntry(0, path.stem, path, None)


def assign_slots(wanted: Mapping[str, int]) -> dict[str, int]:
    """Give each name a slot, 1..MAX_SLOT: the one it wants (0: none), unless a name before it does; then the lowest free one.

    The order of names decides, never the mapping's. Names for which no slot is left are missing in the result.
    """
    ordered = sorted(wanted, key=_in_order)
    holders: dict[int, str] = {}
    for name in ordered:
        if wanted[name]:
            holders.setdefault(wanted[name], name)
    slots = {name: slot for slot, name in holders.items()}
    free = (slot for slot in range(1, MAX_SLOT + 1) if slot not in holders)
    slots.update(zip((name for name in ordered if name not in slots), free, strict=False))
    return slots


def _in_order(name: str) -> tuple[str, str]:
    return name.casefold(), name


def _entry(voice: FoundVoice, slot: int) -> VoiceEntry:
    said = voice.settings
    return VoiceEntry(
        slot, voice.name, voice.path, voice.index_path, said.speaker, said.gain_db, said.params, said.slot, voice.problems,
        voice.toml_path, said.encoder, said.f0_median_hz,
    )  # fmt: skip


def _about_slot(voice: FoundVoice, slots: Mapping[str, int]) -> str:
    """Return a sentence about a voice that has no slot, or not the one it wants; "" when all is well."""
    slot, wanted = slots.get(voice.name), voice.settings.slot
    if slot is None:
        return f"{printable(voice.path)}: is beyond the first {MAX_SLOT} voices, and has no slot; use fewer folders"
    if wanted in (0, slot):
        return ""
    holder = next(name for name, taken in slots.items() if taken == wanted)
    return (
        f"{printable(voice.toml_path)}: slot: {wanted} is also the slot of '{holder}', which has it; "
        f"'{voice.name}' is in slot {slot} until one of them is changed"
    )


def _ranges(numbers: Sequence[int]) -> list[str]:
    """Return ascending numbers as ranges: [1, 2, 3, 7] as ['1..3', '7']."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return ["..".join(map(str, ends)) for ends in ranges]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
