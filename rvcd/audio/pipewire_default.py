"""What PipeWire's session manager has made the default source and sink, and which sources are microphones of rvcd's.

JACK's API tells neither.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rvcd.audio.patchbay import client_of, is_client
from rvcd.instance import is_microphone_label, is_microphone_node

DUMP_LIMIT_S = 2.0
KEYS = {"input": "default.audio.source", "output": "default.audio.sink"}


@dataclass(frozen=True)
class PipeWireDevices:
    """Devices by their names as JACK clients. default: "" where it is not known. microphones: those of every rvcd here."""

    default: str = ""
    microphones: frozenset[str] = frozenset()

    def has_microphone(self, port: str) -> bool:
        """Say whether a port is one of theirs; where PipeWire has not answered, whether its client is called like one."""
        return any(is_client(port, name) for name in self.microphones) or is_microphone_label(client_of(port))


def pipewire_devices(kind: str) -> PipeWireDevices | None:
    """Ask for the devices of a kind, input or output. None: PipeWire has not answered; nothing is ever known without pw-dump.

    Blocks for up to DUMP_LIMIT_S.
    """
    try:
        dump = subprocess.run(["pw-dump"], capture_output=True, check=True, timeout=DUMP_LIMIT_S, stdin=subprocess.DEVNULL)
        return devices_in(objects_in(dump.stdout.decode()), kind)
    except FileNotFoundError:
        return PipeWireDevices()
    except (OSError, subprocess.SubprocessError, ValueError, RecursionError):
        return None


def objects_in(text: str) -> list[Any]:
    """Return the objects that pw-dump printed: one list, and another with what has changed each time the graph did meanwhile.

    Raises ValueError where there is not even the first one.
    """
    decoder, objects = json.JSONDecoder(), list[Any]()
    at = 0
    while rest := text[at:].lstrip():
        try:
            document, length = decoder.raw_decode(rest)
        except ValueError:
            if not at:
                raise
            break
        at += len(text[at:]) - len(rest) + length
        objects += document if isinstance(document, list) else []
    if not at:
        raise ValueError("pw-dump printed nothing")
    return objects


def devices_in(objects: Any, kind: str) -> PipeWireDevices:
    """Return the same from the objects that pw-dump prints."""
    listed = [entry for entry in objects if isinstance(entry, dict)] if isinstance(objects, list) else []
    wanted = ""
    for entry in listed:
        for item in entry.get("metadata") or []:
            if isinstance(item, dict) and item.get("key") == KEYS[kind] and isinstance(item.get("value"), dict):
                wanted = str(item["value"].get("name", ""))
    clients = dict(_nodes(listed))  # of several states of a node the last one counts
    default = clients.get(wanted, "") if wanted else ""
    return PipeWireDevices(default, frozenset(client for node, client in clients.items() if is_microphone_node(node)))


def _nodes(listed: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield each node's name, and its name as a JACK client."""
    for entry in listed:
        info = entry.get("info")
        props = info.get("props") if isinstance(info, dict) else None
        if isinstance(props, dict) and (node := str(props.get("node.name") or "")):
            # As PipeWire's libjack names its clients; a colon would end the client's part.
            name = props.get("node.description") or props.get("node.nick") or node
            yield node, str(name).replace(":", " ")
