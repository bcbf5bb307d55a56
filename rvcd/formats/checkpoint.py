"""Loads tensors from files made by others. Nothing in a file runs.

Two locks: rvcd.formats.torch_file first reads the file without torch and refuses every name that is not on its short list and
every size the file does not back with bytes; torch.load(weights_only=True) then reads the tensors. Files of
other pickle protocols, and those with harmless objects beside their tensors, are not given to torch: the outline says where
their numbers lie, and no pickle is loaded at all.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rvcd.errors import ModelFileError
from rvcd.formats.pickle_scan import INERT_CLASSES, INERT_NAMES, TensorRef
from rvcd.formats.torch_file import Outline, damaged_entry, open_model_file, read_outline
from rvcd.yielding import yield_point


class _Inert:
    """Stands in for a class that a file names beside its tensors: takes anything, keeps nothing."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _inert_mapping(*_args: Any) -> dict[Any, Any]:
    return {}


def _stand_ins() -> list[Any]:
    # torch has its own device and dtypes; the other names need not exist on this machine.
    names = [name for name in sorted(INERT_CLASSES | INERT_NAMES) if not name.startswith("torch.")]
    return [*((type("Inert", (_Inert,), {}), name) for name in names), (_inert_mapping, "collections.defaultdict")]


def _on_cpu(storage: Any, _location: str) -> Any:
    """Leave a storage where it is read to. torch asks once for each: between two of them nothing is half done."""
    yield_point()
    return storage


_DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16,
    "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
"""What each of pickle_scan.ITEM_SIZES holds."""


def _read_numbers(outline: Outline, described: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Read the described tensors of an outlined file without any unpickler, on the CPU."""
    path = outline.path
    storages: dict[str, Tensor] = {}
    tensors: dict[str, Tensor] = {}
    with open_model_file(path) as (file, _):
        for key, ref in described.items():
            if not isinstance(ref, TensorRef) or not isinstance(key, str):
                continue
            storage = ref.storage
            if storage.key not in storages:
                file.seek(outline.starts[storage.key])
                data = bytearray(storage.size_bytes)
                if file.readinto(data) != len(data):  # type: ignore[attr-defined]  # a binary file has it
                    raise ModelFileError(f"{path}: is cut short: it ends before its last tensor; download or copy it again")
                dtype = _DTYPES[storage.kind]
                storages[storage.key] = torch.frombuffer(data, dtype=dtype) if data else torch.zeros(0, dtype=dtype)
                yield_point()
            whole = storages[storage.key]
            # Of a tensor without numbers, where they would lie was not checked.
            tensors[key] = whole.as_strided(ref.shape, ref.stride, ref.offset) if ref.size_bytes else whole.new_zeros(ref.shape)
    return tensors


def _refuse_damaged(path: Path) -> None:
    """Raises ModelFileError when the numbers do not match their checksums."""
    if (entry := damaged_entry(path)) is not None:
        raise ModelFileError(f"{path}: is damaged (checksum of {entry}); download or copy it again")


def _load_root(outline: Outline) -> Any:
    """Load the whole object of an outlined file: tensors on the CPU, plain values, inert stand-ins for known classes.

    Raises ModelFileError when torch cannot read the file.
    """
    path = outline.path
    try:
        # Read, not mapped: a mapped file that is replaced while its voice is live would kill the process (SIGBUS).
        with torch.serialization.safe_globals(_stand_ins()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(str(path), map_location=_on_cpu, weights_only=True, mmap=False)
    except (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError,
            EOFError, OSError, MemoryError, ImportError) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ModelFileError(f"{path}: torch cannot read it ({reason}); save it again with a current torch") from None


def load_tensors(path: Path | str, within: str | None = None) -> dict[str, Tensor]:
    """Load the named tensors of a .pth, .pt, .bin or .safetensors file, on the CPU, in the file's precision.

    within: key of the part that holds them ("weight", "model"); None for a file that is one flat dict. Raises ModelFileError.
    """
    path = Path(path)
    if path.suffix.lower() == ".safetensors":
        if within is not None:
            raise ModelFileError(f"{path}: is a safetensors file, which has no part {within!r}")
        return check_finite(path, _load_safetensors(path))
    outline = read_outline(path)
    return outlined_tensors(outline, within)


def outlined_tensors(outline: Outline, within: str | None = None) -> dict[str, Tensor]:
    """As load_tensors, for a torch file whose outline is known already."""
    path = outline.path
    described = outline.root if within is None else outline.root.get(within) if isinstance(outline.root, dict) else None
    if not isinstance(described, dict):
        where = f" in {within!r}" if within else ""
        raise ModelFileError(f"{path}: holds no named tensors{where}; it is not a model of this kind")
    _refuse_damaged(path)
    if not outline.as_torch_writes:
        return check_finite(path, _read_numbers(outline, described))
    loaded = _load_root(outline)
    if within is not None:
        loaded = loaded.get(within) if isinstance(loaded, dict) else None
    tensors: dict[str, Tensor] = {}
    for key, ref in described.items():
        if not isinstance(ref, TensorRef) or not isinstance(key, str):
            continue
        value = loaded.get(key) if isinstance(loaded, dict) else None
        if not isinstance(value, Tensor) or tuple(value.shape) != ref.shape:
            raise ModelFileError(f"{path}: is damaged: tensor {key!r} is not what its description says")
        tensors[key] = value
    return check_finite(path, tensors)


def check_finite(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors. Raises ModelFileError that names the first one with NaN or infinity."""
    for key, value in tensors.items():
        if not value.is_floating_point():
            continue
        yield_point()
        numbers = value.float()
        # A finite sum proves finite numbers, and is far cheaper than looking at each; the reverse does not hold.
        if not bool(torch.isfinite(numbers.sum())) and not bool(torch.isfinite(numbers).all()):
            raise ModelFileError(f"{path}: tensor {key!r} holds NaN or infinity; the file is damaged or its training failed")
    return tensors


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    with open_model_file(path):
        pass
    try:
        tensors: dict[str, Tensor] = {}
        with safe_open(str(path), framework="pt", device="cpu") as file:
            keys: list[str] = file.keys()
            for key in keys:
                tensors[key] = file.get_tensor(key)
                yield_point()
        return tensors
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelFileError(f"{path}: is not a whole safetensors file ({reason}); download or copy it again") from None
