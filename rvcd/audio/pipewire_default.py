"""What PipeWire's session manager has made the default source and sink: JACK's API does not tell it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

DUMP_LIMIT_S = 2.0
KEYS = {"input": "default.audio.source", "output": "default.audio.sink"}


def pipewire_default(kind: str) -> str:
    """Return the default device's name as a JACK client, "" where it is not known (no pw-dump, no session manager).

    kind: input or output. Blocks for up to DUMP_LIMIT_S.
    """
    try:
        dump = subprocess.run(["pw-dump"], capture_output=True, check=True, timeout=DUMP_LIMIT_S, stdin=subprocess.DEVNULL)
        return default_in(json.loads(dump.stdout), kind)
    except (OSError, subprocess.SubprocessError, ValueError, RecursionError):
        return ""


def default_in(objects: Any, kind: str) -> str:
    """Return the same from the objects that pw-dump prints."""
    listed = [entry for entry in objects if isinstance(entry, dict)] if isinstance(objects, list) else []
    wanted = ""
    for entry in listed:
        for item in entry.get("metadata") or []:
            if isinstance(item, dict) and item.get("key") == KEYS[kind] and isinstance(item.get("value"), dict):
                wanted = str(item["value"].get("name", ""))
    for entry in listed:
        info = entry.get("info")
        props = info.get("props") if isinstance(info, dict) else None
        if isinstance(props, dict) and wanted and props.get("node.name") == wanted:
            # As PipeWire's libjack names its clients; a colon would end the client's part.
            name = props.get("node.description") or props.get("node.nick") or wanted
            return str(name).replace(":", " ")
    return ""
