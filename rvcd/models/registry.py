"""The voices on this machine: which files they are, their slots, their names. Reads folders, no file's content. Stdlib only."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rvcd.errors import VoiceNotFoundError

NAME_PATTERN = re.compile(r"[\w .-]{1,64}")
TRAINING_FILE = re.compile(r"[GD]_\d+\.pth", re.IGNORECASE)
MAX_FOLDER_ENTRIES = 10_000
MAX_VOICES = 999


@dataclass(frozen=True)
class VoiceEntry:
    """A voice's files. slot: 1, 2, ... in the order of names. index_path None: it has no index."""

    slot: int
    name: str
    path: Path
    index_path: Path | None


@dataclass(frozen=True)
class VoiceRegistry:
    """Voices found by a scan. skipped: one sentence for each file or folder that was passed over, starting with its path."""

    folders: tuple[Path, ...]
    entries: tuple[VoiceEntry, ...]
    skipped: tuple[str, ...] = ()

    @classmethod
    def scan(cls, folders: Iterable[Path | str]) -> VoiceRegistry:
        """Find *.pth in the folders and in the folders directly inside them. Of two voices of one name the first is kept."""
        roots = tuple(Path(folder) for folder in folders)
        found: dict[str, tuple[str, Path, Path | None]] = {}
        skipped: list[str] = []
        for root in roots:
            for folder in _with_subfolders(root, skipped):
                _scan_folder(folder, found, skipped)
        ordered = sorted(found.values(), key=lambda voice: (voice[0].casefold(), voice[0]))
        if len(ordered) > MAX_VOICES:
            skipped.append(f"{ordered[MAX_VOICES][1]}: is beyond the first {MAX_VOICES} voices; use fewer folders")
        entries = tuple(VoiceEntry(slot, *voice) for slot, voice in enumerate(ordered[:MAX_VOICES], start=1))
        return cls(roots, entries, tuple(skipped))

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of their slots."""
        return tuple(entry.name for entry in self.entries)

    def find(self, name_or_slot: str | int) -> VoiceEntry:
        """Return the voice of a name (exact, else without regard to case) or of a slot.

        Names are compared with those found, never joined into a path. Raises VoiceNotFoundError.
        """
        if not self.entries:
            where = ", ".join(map(str, self.folders)) or "no folder"
            raise VoiceNotFoundError(f"there are no voices in {where}; put a voice's .pth there")
        if isinstance(name_or_slot, int):
            if not 1 <= name_or_slot <= len(self.entries):
                raise VoiceNotFoundError(f"no voice is in slot {name_or_slot}; slots 1..{len(self.entries)} hold voices")
            return self.entries[name_or_slot - 1]
        return self._named(name_or_slot)

    def _named(self, name: str) -> VoiceEntry:
        for entry in self.entries:
            if entry.name == name:
                return entry
        alike = [entry for entry in self.entries if entry.name.casefold() == name.casefold()]
        if len(alike) == 1:
            return alike[0]
        if not NAME_PATTERN.fullmatch(name):
            raise VoiceNotFoundError("that is no voice's name: names have 1 to 64 letters, digits, spaces, dots and hyphens")
        by_lower = {entry.name.casefold(): entry.name for entry in self.entries}
        close = difflib.get_close_matches(name.casefold(), by_lower, n=1, cutoff=0.5)
        hint = f"; did you mean '{by_lower[close[0]]}'?" if close else f"; known: {_listed(self.names)}"
        raise VoiceNotFoundError(f"unknown voice '{name}'{hint}")


def _with_subfolders(root: Path, skipped: list[str]) -> list[Path]:
    folders = [root]
    for name in _listdir(root, skipped):
        # RVC voices are often kept one to a folder; a hidden one is somebody's rubbish bin or cache.
        if not name.startswith(".") and (root / name).is_dir():
            folders.append(root / name)
    return folders


def _scan_folder(folder: Path, found: dict[str, tuple[str, Path, Path | None]], skipped: list[str]) -> None:
    names = [name for name in _listdir(folder, skipped) if not name.startswith(".")]
    voices: list[str] = []
    for name in names:
        path = folder / name
        if not name.lower().endswith(".pth") or not path.is_file():
            continue
        if TRAINING_FILE.fullmatch(name):
            skipped.append(f"{path}: is a training checkpoint by its name; use the small .pth that the trainer exported")
        elif not NAME_PATTERN.fullmatch(path.stem):
            skipped.append(f"{path}: its name has more than 64 characters, or others than letters, digits, spaces, dots, hyphens")
        else:
            voices.append(name)
    indexes = [name for name in names if name.lower().endswith(".index") and (folder / name).is_file()]
    for name in voices:
        voice = Path(name).stem
        if voice in found:
            skipped.append(f"{folder / name}: is passed over for {found[voice][1]}, which has the same name")
            continue
        index = _index_for(voice, indexes, alone=len(voices) == 1)
        found[voice] = (voice, folder / name, folder / index if index else None)


def _index_for(voice: str, indexes: Sequence[str], *, alone: bool) -> str | None:
    """Choose a voice's index: the same stem; RVC's added_*_<voice>_v2; or the only one beside the only voice."""
    usable = [name for name in indexes if not name.lower().startswith("trained_")]
    wanted = voice.casefold()
    for name in usable:
        if Path(name).stem.casefold() == wanted:
            return name
    pattern = re.compile(rf"added_(?:.*_)?{re.escape(wanted)}(?:_v\d+)?\.index")
    matching = [name for name in usable if pattern.fullmatch(name.casefold())]
    if matching:
        # Sorted, so the last is the newest version (v2 after v1).
        return matching[-1]
    return usable[0] if alone and len(usable) == 1 else None


def _listdir(folder: Path, skipped: list[str]) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        skipped.append(f"{folder}: cannot be read: {(error.strerror or str(error)).lower()}")
        return []
    if len(names) > MAX_FOLDER_ENTRIES:
        skipped.append(f"{folder}: has {len(names)} entries; only the first {MAX_FOLDER_ENTRIES} are looked at")
    return names[:MAX_FOLDER_ENTRIES]


def _listed(names: Sequence[str], limit: int = 10) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
