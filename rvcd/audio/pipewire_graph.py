"""PipeWire's graph as its own tool `pw-cli` tells and changes it: nodes, ports, links, and which process they belong to.

pw-cli and pw-link belong to package pipewire-bin, as the server does, so they are there where PipeWire is. Every call has a
time limit; none belongs on the event loop.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rvcd.errors import AudioDeviceError

COMMAND_LIMIT_S = 2.0
_OBJECT = re.compile(r"\s*id (\d+), type PipeWire:Interface:(\w+)/\d+")
_PROPERTY = re.compile(r'[\s*]*([\w.-]+) = "(.*)"\s*$')


@dataclass(frozen=True)
class GraphObject:
    """One object of the server: id, kind (Node, Port, Link, Client, ...), properties."""

    id: int
    kind: str
    properties: Mapping[str, str] = field(default_factory=dict)

    def get(self, key: str) -> str:
        """Return a property, "" where it is absent."""
        return self.properties.get(key, "")


@dataclass(frozen=True)
class Graph:
    """All objects at one moment."""

    objects: Sequence[GraphObject]

    def of_kind(self, kind: str) -> list[GraphObject]:
        """Return the objects of a kind."""
        return [thing for thing in self.objects if thing.kind == kind]

    def nodes_named(self, name: str) -> list[GraphObject]:
        """Return the nodes with this node.name."""
        return [node for node in self.of_kind("Node") if node.get("node.name") == name]

    def ports(self, node: GraphObject, direction: str) -> list[GraphObject]:
        """Return a node's ports, first one first; direction is in or out."""
        own = [p for p in self.of_kind("Port") if p.get("node.id") == str(node.id) and p.get("port.direction") == direction]
        return sorted(own, key=lambda port: (int(port.get("port.id") or 0), port.id))

    def links(self, *, source: GraphObject | None = None, sink: GraphObject | None = None) -> list[GraphObject]:
        """Return the links out of a node, into a node, or both."""
        return [
            link
            for link in self.of_kind("Link")
            if (source is None or link.get("link.output.node") == str(source.id))
            and (sink is None or link.get("link.input.node") == str(sink.id))
        ]


def parse_graph(text: str) -> Graph:
    """Return what `pw-cli ls` printed; lines that it does not know are passed over."""
    objects: list[GraphObject] = []
    properties: dict[str, str] = {}
    for line in text.splitlines():
        if head := _OBJECT.match(line):
            properties = {}
            objects.append(GraphObject(int(head[1]), head[2], properties))
        elif found := _PROPERTY.match(line):
            properties[found[1]] = found[2]
    return Graph(objects)


def read_graph() -> Graph:
    """Ask the server. Raises AudioDeviceError where none answers."""
    return parse_graph(run_tool("pw-cli", "ls"))


def is_marked(node: GraphObject, mark: str) -> bool:
    """Say whether a node carries our mark, which only its full properties show."""
    return f'{mark} = "true"' in run_tool("pw-cli", "info", str(node.id))


def run_tool(*command: str) -> str:
    """Run one of the sound server's tools and return what it printed. Raises AudioDeviceError."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=COMMAND_LIMIT_S, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        package = {"pactl": "pulseaudio-utils"}.get(command[0], "pipewire-bin")
        raise AudioDeviceError(f"{command[0]} is not installed: run `sudo apt install {package}`") from None
    except OSError as error:
        raise AudioDeviceError(f"{command[0]} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise AudioDeviceError(f"the sound server has not answered {command[0]} for {COMMAND_LIMIT_S:g} s: restart it") from None
    complaint = done.stderr.strip() or (done.stdout.strip() if "Error:" in done.stdout else "")
    if done.returncode != 0 or "Error:" in done.stdout or "Error:" in done.stderr:
        last = complaint.splitlines()[-1] if complaint else f"exit code {done.returncode}"
        raise AudioDeviceError(f"`{' '.join(command[:2])}` failed: {last}")
    return done.stdout
