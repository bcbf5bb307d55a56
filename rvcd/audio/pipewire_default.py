"""What JACK's API does not tell of PipeWire: which source and sink are the default ones, and which are microphones of rvcd's."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from rvcd.audio.microphone import MARK

DUMP_LIMIT_S = 2.0
KEYS = {"input": "default.audio.source", "output": "default.audio.sink"}


def pipewire_default(kind: str) -> str:
    """Return the default device's name as a JACK client, "" where it is not known (no pw-dump, no session manager).

    kind: input or output. Blocks for up to DUMP_LIMIT_S.
    """
    return default_in(_dump(), kind)


def pipewire_microphones() -> frozenset[str]:
    """Return the names of rvcd's own microphones, of every instance, as JACK clients. Blocks for up to DUMP_LIMIT_S."""
    return microphones_in(_dump())


def _dump() -> Any:
    """Return the objects that pw-dump prints, None where it prints none."""
    try:
        dump = subprocess.run(["pw-dump"], capture_output=True, check=True, timeout=DUMP_LIMIT_S, stdin=subprocess.DEVNULL)
        return json.loads(dump.stdout)
    except (OSError, subprocess.SubprocessError, ValueError, RecursionError):
        return None


def default_in(objects: Any, kind: str) -> str:
    """Return the same from the objects that pw-dump prints."""
    listed = _entries(objects)
    wanted = ""
    for entry in listed:
        for item in entry.get("metadata") or []:
            if isinstance(item, dict) and item.get("key") == KEYS[kind] and isinstance(item.get("value"), dict):
                wanted = str(item["value"].get("name", ""))
    for props in map(_properties, listed):
        if wanted and props.get("node.name") == wanted:
            return _client_name(props)
    return ""


def microphones_in(objects: Any) -> frozenset[str]:
    """Return the same as pipewire_microphones from the objects that pw-dump prints."""
    found = map(_properties, _entries(objects))
    return frozenset(_client_name(props) for props in found if str(props.get(MARK, "")).lower() == "true")


def _entries(objects: Any) -> list[dict[str, Any]]:
    return [entry for entry in objects if isinstance(entry, dict)] if isinstance(objects, list) else []


def _properties(entry: dict[str, Any]) -> dict[str, Any]:
    info = entry.get("info")
    props = info.get("props") if isinstance(info, dict) else None
    return props if isinstance(props, dict) else {}


def _client_name(props: dict[str, Any]) -> str:
    """Return a node's name as PipeWire's libjack gives it to its clients; a colon would end the client's part."""
    return str(props.get("node.description") or props.get("node.nick") or props.get("node.name") or "").replace(":", " ")
