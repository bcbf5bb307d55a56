"""Copies a voice into a folder of voices: checked before, whole or not at all, never over another voice unasked. Stdlib only.

From a .pth, a .pth and its .index, a folder or a .zip, it becomes NAME/NAME.pth, NAME/NAME.index and NAME/voice.toml.
A .pt or .safetensors keeps its end.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rvcd.errors import ModelFileError, ParamError
from rvcd.formats.index_header import IndexHeader, read_fitting_index_header
from rvcd.formats.torch_file import damaged_entry
from rvcd.formats.voice_header import VoiceSpec, read_voice_spec
from rvcd.protocol import VOICE_SUFFIXES
from rvcd.voices.archive import Part, is_part, unpack_voice
from rvcd.voices.folder_exchange import exchange
from rvcd.voices.import_scratch import REPLACED, WHOLE, Scratch, scratch_in
from rvcd.voices.registry import VoiceRegistry
from rvcd.voices.voice_folders import TRAINING_FILE, TRAINING_SENTENCE, choose_index, list_folder, may_be_voice, with_subfolders
from rvcd.voices.voice_toml import FILE_NAME, VoiceSettings, parse_voice_toml, printable, read_voice_toml, voice_toml_text

MAX_NAME_CHARACTERS = 64
NAMED_IN_ERRORS = 5
OTHER_ARCHIVES = (".7z", ".rar", ".tar", ".gz", ".xz", ".bz2", ".zst")
VOICE_FILES = (*VOICE_SUFFIXES, ".index", ".toml")


@dataclass(frozen=True)
class ImportRequest:
    """What to import. folder: where voices are kept; the voice gets a folder of its own in it.

    name "": the voice.toml's in the source, else one made of the .pth's. slot 0: none fixed. gain_db None: the source's.
    force: replace the voice of that folder, if it holds nothing else. f0_median_hz None: the source's.
    """

    sources: tuple[Path, ...]
    folder: Path
    name: str = ""
    slot: int = 0
    gain_db: float | None = None
    force: bool = False
    f0_median_hz: float | None = None


@dataclass(frozen=True)
class Imported:
    """What was written. index None: the voice has none. notes: a sentence for each thing that was passed over."""

    folder: Path
    spec: VoiceSpec
    index: IndexHeader | None
    settings: VoiceSettings
    notes: tuple[str, ...]


def import_voice(request: ImportRequest, others: VoiceRegistry) -> Imported:
    """Copy a voice into request.folder. others: the voices it must not collide with.

    Raises RvcdError with one sentence; then every voice is as it was.
    """
    notes: list[str] = []
    try:
        with scratch_in(request.folder) as scratch:
            parts, explicit_index = _gather(request.sources, scratch, notes)
            part, spec = _choose_voice([part for part in parts if may_be_voice(part.name)], request.sources, notes)
            index_part, index = _choose_index(part, spec, parts, explicit_index, notes)
            if spec.note:
                notes.append(f"{part.label}{spec.note.removeprefix(str(part.path))}")
            settings = _settings(request, part, parts, notes)
            target = request.folder / settings.name
            _check_free(target, settings, request.force, others)
            whole = scratch.folder() / WHOLE
            whole.mkdir()
            copied = whole / f"{settings.name}{Path(part.name).suffix.lower()}"
            _copy(part.path, copied)
            if (entry := damaged_entry(copied)) is not None:
                raise ModelFileError(f"{part.label}: is damaged (checksum of {printable(entry)}); download or copy it again")
            if index_part is not None:
                _copy(index_part.path, whole / f"{settings.name}.index")
            _write(whole / FILE_NAME, voice_toml_text(settings))
            _put_in_place(whole, target, scratch.folder() / REPLACED)
    except OSError as error:
        reason = printable(error.strerror or str(error)).lower()
        where = printable(error.filename or request.folder)
        raise ModelFileError(
            f"{where}: the voice cannot be copied ({reason}); mend that, or choose another --to FOLDER"
        ) from None
    return Imported(target, replace(spec, path=target / copied.name, name=settings.name), index, settings, tuple(notes))


def safe_name(text: str) -> str:
    """Return text as a voice's name that is safe as a folder's: other characters become spaces. "" when nothing is left."""
    words = re.sub(r"[^\w .-]", " ", text).split()
    return " ".join(words).lstrip(". ")[:MAX_NAME_CHARACTERS].rstrip()


# ---- what there is to import


def _gather(sources: Sequence[Path], scratch: Scratch, notes: list[str]) -> tuple[list[Part], Part | None]:
    """Return the files that may be parts of the voice, and the index that was named outright."""
    parts: list[Part] = []
    explicit: Part | None = None
    for source in sources:
        suffix = source.suffix.lower()
        if source.is_dir():
            parts += _in_folder(source, notes)
        elif suffix == ".zip":
            parts += unpack_voice(source, scratch.unpacked, notes)
        elif suffix in (*VOICE_SUFFIXES, ".index"):
            parts.append(Part(source.name, printable(source), source))
            if suffix == ".index":
                if explicit is not None:
                    raise ModelFileError(f"{source}: is a second index beside {explicit.path}; name one")
                explicit = parts[-1]
        elif not os.path.lexists(source):
            raise ModelFileError(f"{source}: does not exist; check the path")
        else:
            unpack = "unpack it first" if suffix in OTHER_ARCHIVES else "name a voice's .pth, its .index, a folder or a .zip"
            raise ModelFileError(f"{source}: is no voice that can be imported; {unpack}")
    return parts, explicit


def _in_folder(folder: Path, notes: list[str]) -> list[Part]:
    parts = []
    for inside in with_subfolders(folder, notes):
        for name in list_folder(inside, notes):
            path = inside / name
            if not is_part(name) or not os.path.isfile(path):
                continue
            if path.is_symlink():
                notes.append(f"{printable(path)}: is a link, and is passed over; name the file itself to import it")
            else:
                parts.append(Part(name, printable(path), path))
    return parts


def _choose_voice(parts: Sequence[Part], sources: Sequence[Path], notes: list[str]) -> tuple[Part, VoiceSpec]:
    """Return the one part that is a voice. Raises ModelFileError when there is none, or more than one."""
    voices: list[tuple[Part, VoiceSpec]] = []
    refused: list[str] = []
    for part in parts:
        if TRAINING_FILE.fullmatch(part.name) and len(parts) > 1:
            refused.append(f"{part.label}: {TRAINING_SENTENCE}")
            continue
        try:
            voices.append((part, read_voice_spec(part.path)))
        except ModelFileError as error:
            refused.append(f"{part.label}{str(error).removeprefix(str(part.path))}")
    where = ", ".join(printable(source) for source in sources)
    if not voices and len(refused) == 1:
        raise ModelFileError(refused[0])
    if not voices:
        reasons = [*refused, *notes]
        raise ModelFileError(
            f"{where}: holds no voice" + (f": {'; '.join(reasons[:NAMED_IN_ERRORS])}" if reasons else " (*.pth)")
        )
    if len(voices) > 1:
        names = ", ".join(printable(part.name) for part, _ in voices[:NAMED_IN_ERRORS])
        raise ModelFileError(f"{where}: holds {len(voices)} voices ({names}); import one at a time, by its .pth and .index")
    notes.extend(refused)
    return voices[0]


def _choose_index(
    voice: Part, spec: VoiceSpec, parts: Sequence[Part], explicit: Part | None, notes: list[str]
) -> tuple[Part | None, IndexHeader | None]:
    """Return the voice's index and what it holds. Raises ModelFileError for a bad one that was named outright.

    One that was only found beside the voice is left out, with a note, when it will not do.
    """
    found = {part.name: part for part in parts if part.name.lower().endswith(".index")}
    chosen = explicit or found.get(choose_index(Path(voice.name).stem, sorted(found), alone=True) or "")
    if chosen is None:
        if found:
            names = ", ".join(map(printable, sorted(found)[:NAMED_IN_ERRORS]))
            notes.append(f"no index is imported: none of {names} is the voice's by its name; name it beside the .pth")
        return None, None
    try:
        header = read_fitting_index_header(chosen.path, spec.unit_width)
    except ModelFileError as error:
        sentence = f"{chosen.label}{str(error).removeprefix(str(chosen.path))}"
        if explicit is not None:
            raise ModelFileError(sentence) from None
        notes.append(f"no index is imported: {sentence}")
        return None, None
    return chosen, header


def _settings(request: ImportRequest, voice: Part, parts: Sequence[Part], notes: list[str]) -> VoiceSettings:
    """Return what the voice.toml will say: what was asked for, else what one in the source says (but for its slot and index)."""
    stem = Path(voice.name).stem
    beside = next((part for name in (f"{stem}.toml", FILE_NAME) for part in parts if part.name == name), None)
    said = VoiceSettings()
    if beside is not None:
        said, problems = read_voice_toml(beside.path)
        notes.extend(f"{beside.label}{problem.removeprefix(str(beside.path))}" for problem in problems)
    name = request.name or said.name or safe_name(stem)
    if not name:
        raise ParamError(f"{voice.label}: no name for the voice can be made of the file's; give one with --name")
    asked = {"name": name, "slot": request.slot or None, "gain_db": request.gain_db, "f0_median_hz": request.f0_median_hz}
    settings, problems_asked = parse_voice_toml({key: value for key, value in asked.items() if value is not None})
    if problems_asked:
        raise ParamError(f"the voice's {'; '.join(problems_asked)}")
    if name.startswith(".") or TRAINING_FILE.fullmatch(f"{name}.pth"):
        raise ParamError(f"the voice's name: '{name}' is one of hidden or training files, which are passed over; choose another")
    gain_db = said.gain_db if request.gain_db is None else settings.gain_db
    f0_median_hz = said.f0_median_hz if request.f0_median_hz is None else settings.f0_median_hz
    return replace(said, name=name, slot=settings.slot, index=None, gain_db=gain_db, f0_median_hz=f0_median_hz)


# ---- where it goes


def _check_free(target: Path, settings: VoiceSettings, force: bool, others: VoiceRegistry) -> None:
    """Raises ModelFileError or ParamError when the voice's folder, name or slot is another's."""
    for entry in others.entries:
        if entry.path.parent.absolute() == target.absolute():
            continue
        if entry.name.casefold() == settings.name.casefold():
            raise ParamError(
                f"a voice called '{entry.name}' is there already ({entry.path}); choose another --name, or remove it"
            )
        if settings.slot and entry.slot == entry.slot_wanted == settings.slot:
            raise ParamError(f"slot {settings.slot} is the fixed slot of '{entry.name}'; choose another --slot, or leave it out")
    if not os.path.lexists(target):
        return
    if not force:
        raise ModelFileError(f"{target}: exists already; --force replaces it, --name chooses another name")
    if target.is_symlink() or not target.is_dir():
        raise ModelFileError(f"{target}: is no voice's folder, and is not replaced; remove it yourself, or choose another --name")
    names = os.listdir(target)
    strange = [name for name in names if not name.lower().endswith(VOICE_FILES) or not (target / name).is_file()]
    if strange or sum(map(may_be_voice, names)) > 1:
        what = f"'{printable(strange[0])}'" if strange else "several voices"
        raise ModelFileError(f"{target}: holds {what}, and is not replaced; remove it yourself, or choose another --name")


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    _flush(target)


def _write(target: Path, text: str) -> None:
    target.write_text(text, "utf-8")
    _flush(target)


def _flush(path: Path) -> None:
    """Have a file or folder on the disk before the rename that makes it the voice."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_in_place(whole: Path, target: Path, replaced: Path) -> None:
    """Rename the finished folder to its place, in one step where the system can: a daemon finds the old voice or the new one.

    Where it cannot there is a moment without either; a voice that is replaced comes back if the second step fails.
    """
    _flush(whole)
    if not os.path.lexists(target):
        os.rename(whole, target)
    elif not exchange(whole, target):
        os.rename(target, replaced)
        try:
            os.rename(whole, target)
        except BaseException:
            os.rename(replaced, target)
            raise
    with contextlib.suppress(OSError):  # it is in its place: too late to say that it is not
        _flush(target.parent)
