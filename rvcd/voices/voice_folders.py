"""The voices of one folder: which files are voices, which index and which voice.toml belong to each. Stdlib only.

Settings are read from NAME.toml beside NAME.pth; in a folder with a single voice, voice.toml serves as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rvcd.errors import ModelFileError
from rvcd.formats.voice_header import read_voice_spec
from rvcd.protocol import NAME_PATTERN, NAME_RULE, VOICE_SUFFIX, names_voice_file
from rvcd.voices.voice_toml import FILE_NAME, NOTHING_SAID, VoiceSettings, printable, read_voice_toml

TRAINING_FILE = re.compile(r"[GD]_\d+\.pth?", re.IGNORECASE)
TRAINING_SENTENCE = "is a training checkpoint by its name; use the small .pth that the trainer exported"
TRAINED_SO_FAR = re.compile(r"[_ -](?:e\d+|s\d+|\d+e|\d+s|best_epoch)\Z")
"""How trainers end a voice's file name: Anna_e200_s12400.pth (RVC), Anna_200e_12400s_best_epoch.pth (Applio)."""
MAX_FOLDER_ENTRIES = 10_000
NAMED_INDEXES = 3
"""Indexes of one folder that are passed over, each with a sentence of its own; more get one together."""


@dataclass(frozen=True)
class FoundVoice:
    """One voice, as its folder has it. toml_path None: it has no settings of its own. problems: why its settings are ignored."""

    name: str
    path: Path
    index_path: Path | None
    settings: VoiceSettings = NOTHING_SAID
    toml_path: Path | None = None
    problems: tuple[str, ...] = ()


def with_subfolders(root: Path, skipped: list[str]) -> list[Path]:
    """Return a folder and those directly inside it: RVC voices are often kept one to a folder. skipped: takes what went wrong."""
    # A hidden one is somebody's rubbish bin or cache, or a voice that is being imported.
    inside = [root / name for name in list_folder(root, skipped) if not name.startswith(".")]
    return [root, *(path for path in inside if os.path.isdir(path))]


def voices_in(folder: Path, skipped: list[str]) -> list[FoundVoice]:
    """Return the voices of one folder, in the order of their files' names. skipped: takes a sentence for what is passed over."""
    names = [name for name in list_folder(folder, skipped) if not name.startswith(".")]
    files = [name for name in names if may_be_voice(name) and os.path.isfile(folder / name) and _is_voice(folder / name)]
    voices = [name for name in files if not TRAINING_FILE.fullmatch(name)]
    for name in files:
        if name not in voices:
            skipped.append(f"{printable(folder / name)}: {TRAINING_SENTENCE}")
    indexes = [name for name in names if name.lower().endswith(".index") and os.path.isfile(folder / name)]
    found, asked = [], False
    used = set()
    for name in voices:
        voice = _with_settings(folder, name, indexes, names, alone=len(voices) == 1)
        if voice.index_path is not None:
            used.add(voice.index_path.name)
        if voice.settings.index is not None:  # what would have been found is not wanted
            asked, usual = True, choose_index(Path(name).stem, indexes, alone=len(voices) == 1)
            used.update([usual] if usual else [])
        skipped.extend(voice.problems)
        if re.fullmatch(NAME_PATTERN, voice.name):
            found.append(voice)
        else:
            skipped.append(f"{printable(voice.path)}: names have {NAME_RULE}; rename it, or give it a name in {FILE_NAME}")
    if FILE_NAME in names and len(voices) != 1 and not any(Path(name).stem == Path(FILE_NAME).stem for name in voices):
        skipped.append(f"{printable(folder / FILE_NAME)}: {_stray_settings(voices)}")
    if not (asked and len(voices) == 1):
        skipped.extend(_stray_indexes(folder, voices, indexes, [name for name in indexes if name not in used]))
    return found


def may_be_voice(name: str) -> bool:
    """Say whether a file may be a voice by its name."""
    return names_voice_file(name)


def _is_voice(path: Path) -> bool:
    """Say whether a file counts as a voice: a .pth always, so that what is wrong with it is told; others by their header."""
    if path.name.lower().endswith(VOICE_SUFFIX):
        return True
    try:
        read_voice_spec(path)
    except ModelFileError:
        return False
    return True


def choose_index(voice: str, names: Sequence[str], *, alone: bool) -> str | None:
    """Choose a voice's index among sorted names: the same stem; RVC's added_*_<voice>_v2; the only one beside the only voice.

    A name that ends in how far it was trained (TRAINED_SO_FAR) counts without that end too. alone: whether the voice is the
    only one.
    """
    usable = [name for name in names if not _is_first_half(name)]
    for wanted in _names_of(voice):
        if matching := _named_after(wanted, usable):
            return matching[0]
    return usable[0] if alone and len(usable) == 1 else None


def _names_of(stem: str) -> list[str]:
    """Return what an index may call the voice of a .pth of this stem, the best first, in lower case."""
    names = [stem.casefold()]
    while (bare := TRAINED_SO_FAR.sub("", names[-1])) not in ("", names[-1]):
        names.append(bare)
    return names


def _named_after(wanted: str, usable: Sequence[str]) -> list[str]:
    """Return the indexes of one voice's name, the best first."""
    alike = [name for name in usable if wanted in name.casefold()]
    same = [name for name in alike if Path(name).stem.casefold() == wanted]
    pattern = re.compile(rf"added_(?:.*_)?{re.escape(wanted)}(?:_v\d+)?\.index")
    # Sorted, so the last is the newest version (v2 after v1).
    return same + [name for name in reversed(alike) if pattern.fullmatch(name.casefold())]


def _is_first_half(name: str) -> bool:
    """Say whether an index is, by its name, what RVC's training leaves behind: one without vectors."""
    return name.lower().startswith("trained_")


def _with_settings(folder: Path, name: str, indexes: Sequence[str], names: Sequence[str], *, alone: bool) -> FoundVoice:
    stem = Path(name).stem
    usual = choose_index(stem, indexes, alone=alone)
    voice = FoundVoice(stem, folder / name, folder / usual if usual else None)
    toml = next((n for n in (f"{stem}.toml", FILE_NAME if alone else "") if n and n in names), None)
    if toml is None:
        return voice
    settings, problems = read_voice_toml(folder / toml)
    if settings.index and settings.index not in indexes:
        known = f"there are {', '.join(map(printable, indexes[:5]))}" if indexes else "there is no .index file"
        problems = (f"{printable(folder / toml)}: index: '{printable(settings.index)}' is not beside the voice; {known}",)
    if problems:
        ignored = tuple(f"{problem} (all of {toml} is ignored until then)" for problem in problems)
        return replace(voice, toml_path=folder / toml, problems=ignored)
    if settings.index is not None:
        voice = replace(voice, index_path=folder / settings.index if settings.index else None)
    return replace(voice, name=settings.name or stem, settings=settings, toml_path=folder / toml)


def _stray_indexes(folder: Path, voices: Sequence[str], indexes: Sequence[str], unused: Sequence[str]) -> list[str]:
    """Return a sentence for each index that is no voice's, and the reason; one for all where there are many."""
    # Beside one that serves, the empty first half is what everyone has.
    strays = [name for name in unused if not _is_first_half(name) or len(unused) == len(indexes)]
    if len(strays) > NAMED_INDEXES:
        some = ", ".join(printable(name) for name in strays[:NAMED_INDEXES])
        return [f"{printable(folder)}: {len(strays)} indexes are passed over ({some}, ...): no voice there has their names"]
    sentences = []
    for name in strays:
        if _is_first_half(name):
            why = "it is the empty first half of an index by its name; use the added_*.index of the same training"
        elif not voices:
            why = "there is no voice beside it; put it into the folder of its .pth"
        elif (voice := _whose(name, voices)) and (nearer := choose_index(Path(voice).stem, indexes, alone=False)):
            why = f"{printable(nearer)} is nearer to the name of {printable(voice)}"
        else:
            example = printable(Path(voices[0]).stem)
            why = f"by its name it is no voice's here; rename it after one ({example}.index), or name it in {example}.toml"
        sentences.append(f"{printable(folder / name)}: is passed over: {why}")
    return sentences


def _whose(index: str, voices: Sequence[str]) -> str:
    """Return the first voice whose name an index bears, "" for none."""
    bears = (voice for voice in voices for wanted in _names_of(Path(voice).stem) if _named_after(wanted, [index]))
    return next(bears, "")


def _stray_settings(voices: Sequence[str]) -> str:
    if not voices:
        return f"is passed over: there is no voice beside it; put the .pth there, or remove {FILE_NAME}"
    example = printable(Path(voices[0]).stem)
    return f"is passed over: {len(voices)} voices are beside it; name it after one ({example}.toml), or give each its own folder"


def list_folder(folder: Path, skipped: list[str]) -> list[str]:
    """Return a folder's names in order, at most MAX_FOLDER_ENTRIES; none when it cannot be read, which skipped then says."""
    try:
        names = sorted(os.listdir(folder))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        skipped.append(f"{printable(folder)}: cannot be read: {reason.lower()}")
        return []
    if len(names) > MAX_FOLDER_ENTRIES:
        skipped.append(f"{printable(folder)}: has {len(names)} entries; only the first {MAX_FOLDER_ENTRIES} are looked at")
    return names[:MAX_FOLDER_ENTRIES]
