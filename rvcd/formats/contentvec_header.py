"""Which widths of units a content encoder makes, told by its header: no torch, no number of its weights read. Stdlib only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rvcd.errors import ModelFileError
from rvcd.formats.pickle_scan import TensorRef
from rvcd.formats.torch_file import MAX_DESCRIPTION_BYTES, open_model_file, read_outline

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
WIDTH_KEY, FINAL_KEY = "encoder.layer_norm.weight", "final_proj.weight"
LAYER_KEY = "encoder.layers.{}.final_layer_norm.weight"
FINAL_LAYER = 9
"""RVC v1's units are layer 9's, through final_proj."""
LITE_LAYOUT_KEY, LITE_UNIT_KEY = "lite.layout", "leave.weight"
"""By the first a lite encoder is known (rvcd.nets.lite_encoder_file); the second makes its units."""


def read_unit_widths(path: Path | str) -> tuple[int, ...]:
    """Return the widths of the units an encoder can make, as ContentEncoder.unit_widths does once it is loaded.

    path: a fairseq `.pt`, a Transformers folder or a weight file in one. Raises ModelFileError when it is no such thing.
    """
    path = Path(path)
    if path.is_dir():
        path = next((path / name for name in WEIGHT_FILES if (path / name).is_file()), path / WEIGHT_FILES[-1])
    shapes = _safetensors_shapes(path) if path.suffix == ".safetensors" else _torch_shapes(path)
    shapes = {key.removeprefix("hubert."): shape for key, shape in shapes.items()}
    if LITE_LAYOUT_KEY in shapes and len(shapes.get(LITE_UNIT_KEY, ())) == 2:
        return (shapes[LITE_UNIT_KEY][0],)
    width, final = shapes.get(WIDTH_KEY, ()), shapes.get(FINAL_KEY, ())
    if len(width) != 1:
        raise ModelFileError(f"{path}: is not a HuBERT content encoder: it has no usable {WIDTH_KEY}")
    widths = [width[0]]
    if len(final) == 2 and LAYER_KEY.format(FINAL_LAYER - 1) in shapes:
        widths.append(final[0])
    return tuple(dict.fromkeys(widths))


def _torch_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    root = read_outline(path).root
    tensors = root.get("model", root) if isinstance(root, dict) else {}
    items = tensors.items() if isinstance(tensors, dict) else ()
    return {key: value.shape for key, value in items if isinstance(key, str) and isinstance(value, TensorRef)}


def _safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
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
    return {key: _shape(value) for key, value in header.items()}


def _end(described: Mapping[str, Any] | Any) -> int:
    """Return where a tensor's numbers end, in bytes after the header."""
    offsets = described.get("data_offsets") if isinstance(described, dict) else None
    return offsets[1] if isinstance(offsets, list) and len(offsets) == 2 and type(offsets[1]) is int else 0


def _shape(described: Mapping[str, Any] | Any) -> tuple[int, ...]:
    sizes = described.get("shape") if isinstance(described, dict) else None
    return tuple(sizes) if isinstance(sizes, list) and all(type(size) is int for size in sizes) else ()
