"""What an ONNX file says of itself, read without its weights and without any library: nothing in it is run. Stdlib only.

An ONNX file is one protobuf message, ModelProto: fields of a number and a kind, in any order (onnx.proto3; protobuf's encoding).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from rvcd.errors import ModelFileError
from rvcd.formats.torch_file import open_model_file

METADATA_PREFIX = "rvcd."
"""Of the names of what rvcd says in its own exports."""
VC_CLIENT = "VC_CLIENT"
"""What w-okada's voice changer calls itself in the exports it makes."""
MAX_FIELDS = 10_000
MAX_TEXT_BYTES = 1 << 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PRODUCER, _PRODUCER_VERSION, _GRAPH, _OPSET, _METADATA = 2, 3, 7, 8, 14


@dataclass(frozen=True)
class OnnxHeader:
    """producer: what made it, in its words. opset: of ONNX's own operators, 0 for none. metadata: what else it says."""

    path: Path
    size_bytes: int
    producer: str
    opset: int
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def exported_by_rvcd(self) -> dict[str, str]:
        """What rvcd wrote, without its prefix; empty for another program's file."""
        return {k.removeprefix(METADATA_PREFIX): v for k, v in self.metadata.items() if k.startswith(METADATA_PREFIX)}

    @property
    def of_vc_client(self) -> dict[str, Any]:
        """What w-okada's VC Client wrote of an RVC voice; empty for another program's file."""
        try:
            said = json.loads(self.metadata.get("metadata", ""))
        except (ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) and said.get("application") == VC_CLIENT else {}


def is_onnx_name(path: Path) -> bool:
    return path.suffix.lower() == ".onnx"


def read_onnx_header(path: Path | str) -> OnnxHeader:
    """Read the fields beside the graph. Raises ModelFileError for a missing or damaged file, or one that is no ONNX model."""
    path = Path(path)
    producer, version, opset, metadata, has_graph = "", "", 0, {}, False
    with open_model_file(path) as (file, size_bytes):
        try:
            for number, start, length in _fields(file, 0, size_bytes):
                if number == _GRAPH and length is not None:
                    has_graph = True
                elif number == _PRODUCER and length is not None:
                    producer = _text(file, start, length)
                elif number == _PRODUCER_VERSION and length is not None:
                    version = _text(file, start, length)
                elif number == _OPSET and length is not None:
                    domain, value = _opset(file, start, length)
                    opset = value if domain in ("", "ai.onnx") else opset
                elif number == _METADATA and length is not None:
                    key, text = _pair(file, start, length)
                    metadata[key] = text
        except _Damaged as problem:
            raise ModelFileError(f"{path}: is not a whole ONNX model: {problem}; download or export it again") from None
    if not has_graph:
        raise ModelFileError(f"{path}: is not an ONNX model: it has no graph; choose the file that was exported")
    return OnnxHeader(path, size_bytes, " ".join(filter(None, (producer, version))), opset, metadata)


class _Damaged(Exception):
    """The bytes are not what they should be. The message continues 'is not a whole ONNX model: '."""


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int | None]]:
    """Yield each field of a message from `start` to `end`: its number, and where its bytes are, or its value and None."""
    at = start
    for _ in range(MAX_FIELDS):
        if at == end:
            return
        key, at = _varint(file, at, end)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(file, at, end)
            yield number, value, None
            continue
        if kind == _BYTES:
            length, at = _varint(file, at, end)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise _Damaged(f"it has a field of the unknown kind {kind}")
        if length > end - at:
            raise _Damaged("it ends in the middle of a field")
        if kind == _BYTES:
            yield number, at, length
        at += length
    raise _Damaged(f"it has more than {MAX_FIELDS:,} fields beside its graph")


def _varint(file: BinaryIO, at: int, end: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and where it ends."""
    file.seek(at)
    data = file.read(min(10, max(end - at, 0)))
    value = 0
    for i, byte in enumerate(data):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise _Damaged("it ends in the middle of a number" if len(data) < 10 else "it has a number of more than ten bytes")


def _text(file: BinaryIO, start: int, length: int) -> str:
    if length > MAX_TEXT_BYTES:
        raise _Damaged(f"it has a text of {length:,} bytes beside its graph, of at most {MAX_TEXT_BYTES:,}")
    file.seek(start)
    return file.read(length).decode("utf-8", "replace")


def _pair(file: BinaryIO, start: int, length: int) -> tuple[str, str]:
    """Read a StringStringEntryProto."""
    texts = {1: "", 2: ""}
    for number, at, inner in _fields(file, start, start + length):
        if number in texts and inner is not None:
            texts[number] = _text(file, at, inner)
    return texts[1], texts[2]


def _opset(file: BinaryIO, start: int, length: int) -> tuple[str, int]:
    """Read an OperatorSetIdProto: its domain and version."""
    domain, version = "", 0
    for number, at, inner in _fields(file, start, start + length):
        if number == 1 and inner is not None:
            domain = _text(file, at, inner)
        elif number == 2 and inner is None:
            version = at
    return domain, version
