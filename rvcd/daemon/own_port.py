"""The OSC port of a daemon with a name whose configuration sets none: a free one, the same again at each start if it still is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rvcd.config.settings import ANY_PORT
from rvcd.daemon import json_store

FILE_NAME = "port.json"
FORMAT = 1
WHAT = "port of the last run"


def remembered_port(folder: Path) -> int:
    """Return the port of the last run in a state folder, ANY_PORT where none is known. Never a reason not to start."""
    try:
        return json_store.read(folder / FILE_NAME, _parse)
    except (OSError, ValueError):
        return ANY_PORT


def remember_port(folder: Path, port: int) -> None:
    """Keep a port for the next run; blocks on the disk. Raises RvcdError when the folder cannot be written."""
    json_store.save({"format": FORMAT, "port": port}, folder / FILE_NAME, WHAT)


def _parse(document: Any) -> int:
    port = document.get("port") if isinstance(document, dict) and document.get("format") == FORMAT else None
    if type(port) is not int or not 1024 <= port <= 65_535:
        raise ValueError("holds no port")
    return port
