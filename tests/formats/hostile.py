"""Untrusted files: pickles that call functions, and voices with one thing wrong."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

PARITY = Path(__file__).parent.parent / "data" / "parity"
ZIP_VOICE, LEGACY_VOICE = PARITY / "v2_40k_f0.pth", PARITY / "v1_40k_f0.pth"


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.args


def voice_dict(path: Path = ZIP_VOICE, **changes: Any) -> dict[str, Any]:
    """Return the content of a good voice file, changed."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return {**content, **changes}


def write_voice(path: Path, *, legacy: bool = False, **changes: Any) -> Path:
    """Write a voice file that is good but for the changes."""
    torch.save(voice_dict(**changes), path, _use_new_zipfile_serialization=not legacy)
    return path


def write_shaped(path: Path, reshape: Callable[[OrderedDict[str, Any]], None]) -> Path:
    """Write a voice file whose weights were changed in place."""
    content = voice_dict()
    reshape(content["weight"])
    torch.save(content, path)
    return path


def attacks(marker: Path) -> dict[str, Any]:
    """Objects whose loading would create the marker file, or would load something else."""
    touch = f"touch '{marker}'"
    state: OrderedDict[str, Any] = OrderedDict()
    state["enc_p.emb_phone.weight"] = Calls(os.system, touch)
    return {
        "a shell command": Calls(os.system, touch),
        "an evaluated expression": Calls(eval, f"open({str(marker)!r}, 'w').close()"),
        "an executed program": Calls(exec, f"open({str(marker)!r}, 'w').close()"),
        "an opened file": Calls(open, str(marker), "w"),
        "a nested torch.load": Calls(torch.load, str(marker)),
        "a call in the weights": {"weight": state, "config": [1] * 18},
        "a call in the config": {"weight": OrderedDict(), "config": [Calls(os.system, touch)]},
        "a call as a key": {"weight": {Calls(os.system, touch): 1}},
        "a call under a model": {"model": {"x": Calls(os.system, touch)}, "cfg": None},
        "attribute access": Calls(getattr, "text", "upper"),
    }


def as_zip(content: Any, path: Path) -> Path:
    """Save as torch does now."""
    torch.save(content, path)
    return path


def as_legacy(content: Any, path: Path) -> Path:
    """Save as torch did before 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def as_pickle(protocol: int) -> Callable[[Any, Path], Path]:
    """Save as a bare pickle."""

    def save(content: Any, path: Path) -> Path:
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        return path

    return save


WRITERS: dict[str, Callable[[Any, Path], Path]] = {
    "zip": as_zip, "legacy": as_legacy, "pickle 0": as_pickle(0), "pickle 2": as_pickle(2), "pickle 4": as_pickle(4),
}  # fmt: skip


def write_zip(path: Path, description: bytes, storages: dict[str, bytes]) -> Path:
    """Write a torch archive around any description, without checksums."""
    members = {"x/data.pkl": description, "x/version": b"3\n", **{f"x/data/{key}": data for key, data in storages.items()}}
    body, directory = io.BytesIO(), io.BytesIO()
    for name, data in members.items():
        sizes = struct.pack("<III", 0, len(data), len(data)) + struct.pack("<HH", len(name), 0)
        directory.write(b"PK\x01\x02" + struct.pack("<HHHHHH", 0, 0, 0, 0, 0, 0) + sizes)
        directory.write(struct.pack("<HHHII", 0, 0, 0, 0, body.tell()) + name.encode())
        body.write(b"PK\x03\x04" + struct.pack("<HHHHH", 0, 0, 0, 0, 0) + sizes + name.encode() + data)
    start = body.tell()
    body.write(directory.getvalue())
    body.write(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory.getvalue()), start, 0))
    path.write_bytes(body.getvalue())
    return path
