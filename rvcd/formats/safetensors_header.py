"""What a safetensors file holds: its tensors' shapes and its metadata, read without any library. Stdlib only.

A voice in this format has the tensors of a voice's 'weight' and, in the metadata, what a .pth keeps beside it: 'config' as JSON,
and, where the .pth has them, version, info, vocoder, embedder_model, speaker_info and so on, as JSON or plain text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rvcd.errors import ModelFileError
from rvcd.formats.pickle_scan import ITEM_SIZES, StorageRef, TensorRef
from rvcd.formats.torch_file import MAX_DESCRIPTION_BYTES, Outline, open_model_file

SUFFIX = ".safetensors"
KINDS = {
    "F64": "DoubleStorage", "F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage", "I64": "LongStorage",
    "I32": "IntStorage", "I16": "ShortStorage", "I8": "CharStorage", "U8": "ByteStorage", "BOOL": "BoolStorage",
}  # fmt: skip
"""What torch calls each type."""
METADATA = "__metadata__"
WEIGHT_PREFIX = "weight."
"""Before every tensor's name, where the whole .pth was flattened."""


def read_header(path: Path) -> dict[str, Any]:
    """Return the header, its tensors' places checked against the file's length. Raises ModelFileError."""
    with open_model_file(path) as (file, size_bytes):
        length = int.from_bytes(file.read(8), "little")
        data_bytes = size_bytes - 8 - length
        text = file.read(length) if length <= min(size_bytes, MAX_DESCRIPTION_BYTES) else b""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or any(_end(value) > data_bytes for value in header.values()):
        raise ModelFileError(f"{path}: is not a whole safetensors file; download or copy it again")
    return header


def shapes_of(header: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor; () for one that is not described as it should be."""
    return {key: _shape(value) for key, value in header.items()}


def read_voice_outline(path: Path) -> Outline:
    """Return a voice's outline as read_outline does for a .pth. Raises ModelFileError for a file without a voice's config."""
    header = read_header(path)
    metadata = header.pop(METADATA, None)
    if not isinstance(metadata, dict) or "config" not in metadata:
        raise ModelFileError(
            f"{path}: holds tensors without a voice's 'config' in its metadata; use the .pth that it was made from"
        )
    weight = {without_prefix(key, header): _ref(path, key, value) for key, value in header.items()}
    root = {**{key: _value(text) for key, text in metadata.items() if isinstance(text, str)}, "weight": weight}
    return Outline(path, path.stat().st_size, root, {}, (), True)


def without_prefix(key: str, keys: Mapping[str, Any]) -> str:
    """Return a tensor's name as a voice's 'weight' has it."""
    return key.removeprefix(WEIGHT_PREFIX) if all(known.startswith(WEIGHT_PREFIX) for known in keys) else key


def _ref(path: Path, key: str, described: Any) -> TensorRef:
    kind = KINDS.get(described.get("dtype", "")) if isinstance(described, dict) else None
    shape = _shape(described)
    start, end = _span(described)
    if kind is None or end - start != math.prod(shape) * ITEM_SIZES[kind]:
        raise ModelFileError(f"{path}: is damaged: the description of its tensor {key[:60]!r} is wrong; download it again")
    return TensorRef(StorageRef(kind, key, math.prod(shape)), shape)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _span(described: Any) -> tuple[int, int]:
    offsets = described.get("data_offsets") if isinstance(described, dict) else None
    whole = isinstance(offsets, list) and len(offsets) == 2 and all(type(at) is int and at >= 0 for at in offsets)
    return (offsets[0], offsets[1]) if whole and isinstance(offsets, list) else (0, 0)


def _end(described: Any) -> int:
    """Return where a tensor's numbers end, in bytes after the header."""
    return _span(described)[1]


def _shape(described: Any) -> tuple[int, ...]:
    sizes = described.get("shape") if isinstance(described, dict) else None
    return tuple(sizes) if isinstance(sizes, list) and all(type(size) is int and size >= 0 for size in sizes) else ()
