"""The two layouts of a torch file, opened without torch and without running anything: what is in it, is it whole. Stdlib only.

Newer files are zip archives: `<name>/data.pkl` describes, `<name>/data/<key>` holds the numbers, uncompressed. Legacy files
are five pickles in a row (magic number, version, platform, description, keys), then each storage as a length and its numbers.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from rvcd.errors import ModelFileError
from rvcd.formats.pickle_scan import Scan, ScanError, TensorRef, UnsafeNameError, scan_pickle
from rvcd.yielding import yield_point

MAX_FILE_BYTES = 2 << 30
"""Larger files are refused unread; the largest published ones have 190 MB, training checkpoints under 1 GB."""
MAX_DESCRIPTION_BYTES = 4 << 20
"""Bound of the pickle that describes the tensors; real ones have less than 1 MB."""
MAX_ENTRIES = 100_000
NAMED = 3
"""Kinds of harmless objects in one sentence."""
ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
_END_RECORD = b"PK\x05\x06"
_CENTRAL_RECORD = b"PK\x01\x02"
_UNSET = 0xFFFFFFFF


@dataclass(frozen=True)
class Outline:
    """A torch file's content: plain values, with TensorRef in the place of tensors. root: the object that was saved.

    starts: offset in the file of each storage's first byte, by its key. harmless, as_torch_writes: as in Scan.
    """

    path: Path
    size_bytes: int
    root: Any
    starts: Mapping[str, int]
    harmless: tuple[str, ...]
    as_torch_writes: bool

    @property
    def note(self) -> str:
        """One sentence about the objects that it holds beside tensors and plain values; "" without any."""
        if not self.harmless:
            return ""
        more = f" and {len(self.harmless) - NAMED} more" if len(self.harmless) > NAMED else ""
        return (
            f"{self.path}: holds Python objects beside its tensors ({', '.join(self.harmless[:NAMED])}{more}); "
            "they are not needed, and nothing in them is run"
        )


@dataclass(frozen=True)
class ZipEntry:
    """One uncompressed member of an archive. start: offset of its first byte in the file. crc32: 0 when not recorded."""

    name: str
    start: int
    size_bytes: int
    crc32: int


def read_outline(path: Path | str) -> Outline:
    """Read what a torch file describes, and check that every number it describes is there.

    Reads the description only, not the numbers: fast for any size. Raises ModelFileError with one sentence for everything
    that is not a whole torch file of tensors and plain values.
    """
    path = Path(path)
    with open_model_file(path) as (file, size_bytes):
        head = file.read(512)
        if head.startswith(ZIP_MAGIC):
            scan, starts = _read_zip(path, file, size_bytes)
        else:
            _refuse_known_mishaps(path, head)
            scan, starts = _read_legacy(path, file, size_bytes)
    return Outline(path, size_bytes, scan.value, starts, scan.harmless, scan.as_torch_writes)


class open_model_file:
    """Context: (file, size in bytes) of a regular, non-empty file of at most MAX_FILE_BYTES. Raises ModelFileError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> tuple[BinaryIO, int]:
        path = self.path
        try:
            # is_file before open: opening a named pipe would wait for ever.
            if not path.is_file():
                what = "is a folder, not a file" if path.is_dir() else "is not a file" if path.exists() else "does not exist"
                raise ModelFileError(f"{path}: {what}; check the path")
            self.file = path.open("rb")
            size_bytes = self.file.seek(0, 2)
            self.file.seek(0)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ModelFileError(f"{path}: cannot be read: {reason.lower()}") from None
        if not 0 < size_bytes <= MAX_FILE_BYTES:
            self.file.close()
            if not size_bytes:
                raise ModelFileError(f"{path}: is empty; download or copy it again")
            raise ModelFileError(f"{path}: has {size_bytes:,} bytes, more than the {MAX_FILE_BYTES:,} that a model file may have")
        return self.file, size_bytes

    def __exit__(self, *_: object) -> None:
        self.file.close()


def damaged_entry(path: Path | str) -> str | None:
    """Return the name of the first zip member whose numbers do not match their checksum, or None. Reads the whole file.

    torch itself does not look. Legacy files and files written without checksums pass.
    """
    path = Path(path)
    with open_model_file(path) as (file, size_bytes):
        if file.read(4) != ZIP_MAGIC:
            return None
        for entry in zip_entries(path, file, size_bytes):
            if entry.crc32 and entry.crc32 != _crc32(file, entry):
                return entry.name
    return None


def tensors_in(value: Any) -> Iterator[TensorRef]:
    """Yield every TensorRef in plain containers, each container once."""
    pending, seen = [value], set()
    while pending:
        item = pending.pop()
        if isinstance(item, TensorRef):
            yield item
        elif isinstance(item, (dict, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            pending.extend(item.values() if isinstance(item, dict) else item)


def zip_entries(path: Path, file: BinaryIO, size_bytes: int) -> list[ZipEntry]:
    """Read an archive's directory. Raises ModelFileError for anything but distinct, stored members inside the file.

    Our own reader, since the file is below 4 GiB and zipfile would believe any number of members.
    """
    cut = ModelFileError(f"{path}: is cut short or damaged: its table of contents is missing; download or copy it again")
    file.seek(max(0, size_bytes - 65_557))
    tail = file.read()
    at = tail.rfind(_END_RECORD)
    if at < 0 or at + 22 > len(tail):
        raise cut
    count, directory_size, directory_start = struct.unpack("<HII", tail[at + 10 : at + 20])
    if directory_start + directory_size > size_bytes - len(tail) + at or directory_size > MAX_ENTRIES * 200:
        raise cut
    file.seek(directory_start)
    directory = file.read(directory_size)
    entries: dict[str, ZipEntry] = {}
    at = total = 0
    while at + 46 <= len(directory) and directory[at : at + 4] == _CENTRAL_RECORD:
        flags, method, crc32, packed, size = struct.unpack("<HH4xIII", directory[at + 8 : at + 28])
        name_size, extra_size, comment_size = struct.unpack("<HHH", directory[at + 28 : at + 34])
        (offset,) = struct.unpack("<I", directory[at + 42 : at + 46])
        name = directory[at + 46 : at + 46 + name_size].decode("utf-8", "replace")
        at += 46 + name_size + extra_size + comment_size
        if method != 0 or flags & 1 or packed != size or _UNSET in (size, offset):
            raise ModelFileError(
                f"{path}: is a compressed archive, not a torch file; unpack it and use the .pth, .pt or .bin file inside"
            )
        file.seek(offset)
        local = file.read(30)
        if len(local) < 30 or local[:4] != ZIP_MAGIC or name in entries:
            raise cut
        start = offset + 30 + sum(struct.unpack("<HH", local[26:30]))
        total += size
        if start + size > size_bytes or total > size_bytes:
            raise cut
        entries[name] = ZipEntry(name, start, size, crc32)
    if len(entries) & 0xFFFF != count or not entries:
        raise cut
    return list(entries.values())


def _read_zip(path: Path, file: BinaryIO, size_bytes: int) -> tuple[Scan, dict[str, int]]:
    listed = zip_entries(path, file, size_bytes)
    entries = {entry.name: entry for entry in listed}
    prefix = listed[0].name.partition("/")[0]
    if f"{prefix}/constants.pkl" in entries:
        raise ModelFileError(f"{path}: is a TorchScript program, not weights; use the file it was made from")
    description = entries.get(f"{prefix}/data.pkl")
    if description is None:
        raise ModelFileError(f"{path}: is a zip archive, not a torch file; unpack it and use the .pth, .pt or .bin file inside")
    if description.size_bytes > MAX_DESCRIPTION_BYTES:
        raise ModelFileError(
            f"{path}: describes its tensors with {description.size_bytes:,} bytes, which no model needs; refused"
        )
    file.seek(description.start)
    data = file.read(description.size_bytes)
    if description.crc32 and zlib.crc32(data) != description.crc32:
        raise ModelFileError(f"{path}: is damaged (checksum of {description.name}); download or copy it again")
    scan = _scan(path, data, 0)
    if not scan.as_torch_writes and (order := entries.get(f"{prefix}/byteorder")) is not None:
        file.seek(order.start)
        if file.read(3) == b"big":
            raise ModelFileError(f"{path}: was written by a big-endian machine; save it again with a current torch")
    starts: dict[str, int] = {}
    for storage in scan.storages.values():
        entry = entries.get(f"{prefix}/data/{storage.key}")
        if entry is None or entry.size_bytes != storage.size_bytes:
            raise ModelFileError(f"{path}: is damaged: storage {_short(storage.key)} is not what its description says")
        starts[storage.key] = entry.start
    return _checked(path, scan), starts


def _read_legacy(path: Path, file: BinaryIO, size_bytes: int) -> tuple[Scan, dict[str, int]]:
    file.seek(0)
    head = file.read(MAX_DESCRIPTION_BYTES)
    first = _scan(path, head, 0)
    if first.value != LEGACY_MAGIC:
        raise ModelFileError(
            f"{path}: is a Python pickle, but not one that torch wrote; use the file that was trained or published"
        )
    version = _scan(path, head, first.end)
    if version.value != LEGACY_VERSION:
        raise ModelFileError(f"{path}: is a torch file of an unknown version; save it again with a current torch")
    platform = _scan(path, head, version.end)
    content = _scan(path, head, platform.end)
    keys = _scan(path, head, content.end)
    if type(keys.value) is not list or len(keys.value) != len(content.storages):
        raise ModelFileError(f"{path}: is damaged: its list of storages does not match its description")
    at = keys.end
    left, starts = dict(content.storages), {}
    for key in keys.value:
        storage = left.pop(key, None) if isinstance(key, str) else None
        if storage is None:
            raise ModelFileError(f"{path}: is damaged: its list of storages does not match its description")
        file.seek(at)
        length = file.read(8)
        starts[key] = at + 8
        at += 8 + storage.size_bytes
        if at > size_bytes:
            raise ModelFileError(f"{path}: is cut short: it ends before its last tensor; download or copy it again")
        if int.from_bytes(length, "little") != storage.length:
            raise ModelFileError(f"{path}: is damaged: storage {_short(key)} is not what its description says")
    return _checked(path, content), starts


def _checked(path: Path, scan: Scan) -> Scan:
    """Return the scan, unless its tensors together claim more than the file holds: views may repeat, but not much."""
    available = sum(storage.size_bytes for storage in scan.storages.values())
    if sum(tensor.size_bytes for tensor in tensors_in(scan.value)) > 2 * available:
        raise ModelFileError(f"{path}: describes tensors that are together larger than the file; refused")
    return scan


def _scan(path: Path, data: bytes, start: int) -> Scan:
    try:
        return scan_pickle(data, start)
    except UnsafeNameError as error:
        raise ModelFileError(
            f"{path}: would run code: {error.name}; refused: a model file may hold only tensors and plain values"
        ) from None
    except ScanError as error:
        raise ModelFileError(f"{path}: is not a whole torch file: it {error}; download or copy it again") from None


_UNPACK = "an archive; unpack it and use the .pth, .pt or .bin file inside"
_SOUND = "a sound file, not a model; choose the model's .pth or .pt"
_OTHER_KINDS: tuple[tuple[bytes, str], ...] = (
    # An ONNX file is a protobuf: its version, then one of the texts about its producer, or the graph.
    (rb"\x08[\x01-\x20][\x12\x1a\x22\x2a\x32\x3a\x42]",
     "an ONNX model, which rvcd does not read; use the torch file (.pth or .pt) that it was exported from"),
    (rb"....TFL3", "a TFLite model, which rvcd does not read; use the torch file that it was made from"),
    (rb"\x89HDF", "an HDF5 file (Keras), which rvcd does not read; use a torch file"),
    (rb"GGUF", "a GGUF model, which rvcd does not read; use a torch file"),
    (rb"I[xw]F", "a FAISS index, not a model; choose the voice's .pth (its index goes beside it, as .index)"),
    (rb"\x93NUMPY", "a numpy array, not a model; choose the .pth or .pt that was trained or published"),
    (rb"7z\xbc\xaf|Rar!|\x1f\x8b|BZh[1-9]|\xfd7zXZ|\x28\xb5\x2f\xfd", _UNPACK),
    (rb"RIFF....WAVE|fLaC|OggS|ID3", _SOUND),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|%PDF", "a picture or document, not a model; choose the model's .pth or .pt"),
    (rb"MZ|\x7fELF", "a program, not a model, and is not run; choose the model's .pth or .pt"),
)  # fmt: skip
"""How files of other kinds begin, and what is said of them."""


def _refuse_known_mishaps(path: Path, head: bytes) -> None:
    text = head.lstrip()[:64].lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelFileError(f"{path}: is a web page, not a model: the download went wrong; download the file itself")
    if text.startswith(b"version https://git-lfs"):
        raise ModelFileError(f"{path}: is a Git LFS pointer, not the model; run 'git lfs pull' or download the file itself")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < MAX_DESCRIPTION_BYTES:
        raise ModelFileError(f"{path}: is a safetensors file, which is not read here; use the .pth or .pt file")
    for beginning, what in _OTHER_KINDS:
        if re.match(beginning, head, re.DOTALL):
            raise ModelFileError(f"{path}: is {what}")
    # The first instruction of a pickle without a version names a function.
    if match := re.match(rb"\(*[ci]([A-Za-z_][\w.]*)\n([A-Za-z_][\w.]*)\n", head):
        name = b".".join(match.groups()).decode("ascii", "replace")
        raise ModelFileError(f"{path}: would run code: {name}; refused: a model file may hold only tensors and plain values")
    if not head.startswith((b"\x80", b"L%d" % LEGACY_MAGIC)):  # the latter: in protocol 1
        raise ModelFileError(f"{path}: is not a torch file; use a .pth, .pt or .bin file made by torch.save")


def _crc32(file: BinaryIO, entry: ZipEntry) -> int:
    file.seek(entry.start)
    crc, left = 0, entry.size_bytes
    while left > 0 and (chunk := file.read(min(left, 1 << 20))):
        crc = zlib.crc32(chunk, crc)
        left -= len(chunk)
        yield_point()
    return crc


def _short(key: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in key[:40])
