"""Takes a voice out of an untrusted archive. Names inside it never become paths; every size is bounded before it is read.

Only what may be part of a voice is unpacked, under names of our own: *.pth and the like, *.index, voice.toml. Stdlib only.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rvcd.errors import ModelFileError
from rvcd.formats.torch_file import MAX_FILE_BYTES, open_model_file
from rvcd.voices.voice_folders import TRAINING_FILE, TRAINING_SENTENCE, may_be_voice
from rvcd.voices.voice_toml import MAX_BYTES as MAX_TOML_BYTES
from rvcd.voices.voice_toml import printable

MAX_DIRECTORY_BYTES = 1 << 20
"""Bound of an archive's table of contents: some ten thousand members; zipfile would believe any number."""
MAX_UNPACKED_FILES = 16
MAX_UNPACKED_BYTES = 2 * MAX_FILE_BYTES
MAX_RATIO = 100
"""Unpacked / packed size. Weights hardly shrink at all; what shrinks more than this was made to fill a disk."""
SMALL_BYTES = 1 << 20
"""Below this any ratio is harmless."""
CHUNK_BYTES = 1 << 20
ENCRYPTED = 0x1
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError, OSError,
)  # fmt: skip
"""What zipfile raises for files that are not what they say."""


@dataclass(frozen=True)
class Part:
    """One file of a voice to import. name: the last part of its name, as it was given. label: what messages call it."""

    name: str
    label: str
    path: Path


def is_part(name: str) -> bool:
    """Say whether a file may belong to a voice by its name."""
    return not name.startswith(".") and (may_be_voice(name) or name.lower().endswith((".index", ".toml")))


def unpack_voice(archive: Path, make_folder: Callable[[], Path], notes: list[str]) -> list[Part]:
    """Unpack what may belong to a voice into a new folder, as 0, 1, ...; notes takes a sentence for what is passed over.

    make_folder: called once the archive is known to be one. Raises ModelFileError with one sentence for anything that is not
    a whole archive of plain files within bounds, OSError when the folder cannot be written.
    """
    with open_model_file(archive) as (file, size_bytes):
        try:
            opened = zipfile.ZipFile(_BoundedReads(file, size_bytes))
        except _TooMuch:
            raise ModelFileError(f"{archive}: lists more files than a voice has; unpack it, and name the .pth") from None
        except _DAMAGED as error:
            raise _damaged(archive, error) from None
        members = _wanted(archive, opened.infolist(), notes)
        _refuse_hostile(archive, members)
        folder = make_folder()
        parts = []
        for number, (name, member) in enumerate(members):
            part = Part(name, f"{printable(archive)}: {printable(member.filename)}", folder / str(number))
            _unpack(archive, opened, member, part.path)
            parts.append(part)
        return parts


def _wanted(archive: Path, members: list[zipfile.ZipInfo], notes: list[str]) -> list[tuple[str, zipfile.ZipInfo]]:
    """Return the members to unpack, each with the last part of its name."""
    wanted = []
    for member in members:
        folder, _, name = member.filename.replace("\\", "/").rpartition("/")
        if not is_part(name) or "__MACOSX" in folder:  # a folder's name ends in /, so its last part is empty
            continue
        if TRAINING_FILE.fullmatch(name):
            notes.append(f"{printable(archive)}: {printable(member.filename)}: {TRAINING_SENTENCE}")
        else:
            wanted.append((name, member))
    return wanted


def _refuse_hostile(archive: Path, members: list[tuple[str, zipfile.ZipInfo]]) -> None:
    """Raises ModelFileError unless every member is a plain, readable file of a believable size. Nothing is unpacked before."""
    if len(members) > MAX_UNPACKED_FILES:
        raise ModelFileError(f"{archive}: holds {len(members)} voices and indexes; unpack it, and import one voice at a time")
    for name, member in members:
        label = f"{archive}: {printable(member.filename)}"
        kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive was made on another kind of system
        if kind not in (0, stat.S_IFREG):
            raise ModelFileError(f"{label}: is a link or another special file; refused: pack the file itself")
        if member.flag_bits & ENCRYPTED:
            raise ModelFileError(f"{label}: is encrypted; unpack the archive with its password, and name the .pth")
        if member.compress_type not in METHODS:
            raise ModelFileError(f"{label}: is packed in an unusual way; unpack the archive, and name the .pth")
        limit = MAX_TOML_BYTES if name.lower().endswith(".toml") else MAX_FILE_BYTES
        if member.file_size > limit:
            raise ModelFileError(f"{label}: has {member.file_size:,} bytes, more than the {limit:,} that it may have")
        if member.file_size > max(SMALL_BYTES, MAX_RATIO * member.compress_size):
            raise ModelFileError(
                f"{label}: would grow from {member.compress_size:,} to {member.file_size:,} bytes, as no weights do; refused"
            )
    total = sum(member.file_size for _, member in members)
    if total > MAX_UNPACKED_BYTES:
        raise ModelFileError(
            f"{archive}: would unpack to {total:,} bytes, more than {MAX_UNPACKED_BYTES:,}; import one voice at a time"
        )


def _unpack(archive: Path, opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Write a member's bytes to a new file: never more than its directory entry says, and with the right checksum."""
    try:
        source = opened.open(member)
    except _DAMAGED as error:
        raise _damaged(archive, error) from None
    with source, target.open("xb") as file:
        while True:
            try:
                chunk = source.read(CHUNK_BYTES)
            except _DAMAGED as error:
                raise _damaged(archive, error) from None
            if not chunk:
                return
            file.write(chunk)


class _TooMuch(zipfile.BadZipFile):
    """One read asked for more than any honest table of contents has."""


class _BoundedReads:
    """A file whose single reads are bounded, so that a table of contents of any claimed size is refused before it is read."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file, self._size_bytes = file, size_bytes
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        left = self._size_bytes - self._file.tell()
        if (left if size < 0 else min(size, left)) > MAX_DIRECTORY_BYTES:
            raise _TooMuch
        return self._file.read(size)


def _damaged(archive: Path, error: Exception) -> ModelFileError:
    reason = printable(" ".join(str(error).split())[:100] or type(error).__name__)
    return ModelFileError(f"{archive}: is not a whole zip archive ({reason}); download or copy it again")
