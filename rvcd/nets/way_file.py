"""Where the choices of rvcd.nets.conv_ways are kept: a JSON file in the cache folder, for one processor and one torch.

It is a cache: what cannot be read, or was measured on another machine, is measured again; what cannot be written is not kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path

import torch

from rvcd.nets.tiled_conv import instruction_set_name

FORMAT = 1
"""Raise it when the kernels change so much that other choices may be better."""
MAX_BYTES = 1 << 20


class WayFile:
    """Whole numbers by name. Several processes may write it: the last one's additions stay, and nothing is ever half written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, int] | None = None

    def get(self, name: str) -> int | None:
        """Return what is kept under a name, if it was measured on a machine like this."""
        if self._known is None:
            self._known = self._read()
        return self._known.get(name)

    def put(self, name: str, number: int) -> None:
        """Keep a number."""
        self._known = {**self._read(), **(self._known or {}), name: number}
        with contextlib.suppress(OSError):
            self._write({"machine": machine(), "ways": self._known})

    def _read(self) -> dict[str, int]:
        try:
            with self._path.open("rb") as file:
                document = json.loads(file.read(MAX_BYTES + 1)[:MAX_BYTES])
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(document, dict) or document.get("machine") != machine():
            return {}
        ways = document.get("ways")
        return {name: way for name, way in ways.items() if type(way) is int} if isinstance(ways, dict) else {}

    def _write(self, document: dict[str, object]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=1, sort_keys=True)
            os.replace(temporary, self._path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def machine() -> str:
    """Return what a choice depends on besides the shape."""
    return f"{FORMAT}; {_processor()}; {instruction_set_name()}; torch {torch.__version__}"


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "processor without a name"
