"""Which ports of a JACK graph rvcd's own belong to: what the settings name, what the user connected, what comes back.

Pure decisions over what was seen at two moments; jack.py looks and connects. A link that is gone although both its ports are
there was taken away by the user and is not made again. One whose other port has gone is made again when the port is back.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

SETTINGS = {"input": "audio.input", "output": "audio.output", "monitor": "audio.monitor.device"}
"""What names the other end of each side."""

Link = tuple[str, str]
"""A port of ours, without the client's name, and the other port's full name."""


@dataclass(frozen=True)
class Graph:
    """What one side of rvcd sees at one moment."""

    ports: tuple[str, ...]
    """Every port that could be connected to this side, ours excepted."""
    physical: tuple[str, ...]
    """Those that are hardware, or stand for it, the server's default first."""
    links: frozenset[Link]
    port_changes: int = 0
    """How many ports have come and gone: a device that was replaced under its name is no work of the user's."""


@dataclass(frozen=True)
class Choice:
    """Ports for a side, or why there are none."""

    links: tuple[Link, ...] = ()
    problem: str = ""


@dataclass
class Side:
    """One side: kind is input, output or monitor, own the names of our ports, wanted what the settings say."""

    kind: str
    own: tuple[str, ...]
    wanted: str
    channel: int = 1
    """The input's channel, from 1; 0 takes the first two."""
    by_hand: frozenset[Link] = frozenset()
    """What the user connected, from an earlier life of rvcd or of the server; empty: the user changed nothing."""
    problem: str = ""
    _kept: frozenset[Link] = frozenset()
    _before: Graph | None = None
    _pending: bool = field(default=True)
    _suspects: frozenset[Link] = frozenset()
    """Missing since the look before, with both ports there: taken away by the user, or their device is about to go."""
    _suspected_at: int = 0

    @property
    def others(self) -> frozenset[str]:
        """The ports that this side was connected to when it was looked at last."""
        return frozenset(other for _, other in self._before.links) if self._before is not None else frozenset()

    @property
    def connected(self) -> bool:
        """Whether this side was connected to anything when it was looked at last."""
        return bool(self.others)

    def look(self, graph: Graph) -> tuple[Link, ...]:
        """Return the links to make now."""
        before, self._before = self._before, graph
        if before is None:
            self._kept, self._pending = self.by_hand, not self.by_hand
        else:
            self._notice_the_user(before, graph)
        made: tuple[Link, ...] = ()
        if self._pending and self.wanted:
            choice = choose(self, graph)
            self.problem, made = choice.problem, choice.links
            self._pending = not made
            self._kept |= frozenset(made)
        elif not self._pending:
            absent = sorted({other for _, other in self._kept if other not in graph.ports})
            lost = bool(absent) and not any(other in graph.ports for _, other in self._kept)
            self.problem = f"{self.kind} {', '.join(repr(name) for name in absent)} is gone: waiting for it" if lost else ""
            # Where another device has become what the settings mean, it is taken.
            if lost and not self.by_hand and (found := choose(self, graph)).links:
                self._kept, self.problem, made = frozenset(found.links), "", found.links
        again = (link for link in sorted(self._kept - self._suspects) if link[1] in graph.ports)
        wanted = dict.fromkeys([*made, *again])
        return tuple(link for link in wanted if link not in graph.links)

    def made(self, links: Sequence[Link]) -> None:
        """These links exist now: the next look must not take them for the user's."""
        if self._before is not None:
            self._before = replace(self._before, links=self._before.links | frozenset(links))

    def _notice_the_user(self, before: Graph, graph: Graph) -> None:
        added = graph.links - before.links - self._kept
        undone = graph.port_changes == self._suspected_at
        removed = frozenset(link for link in self._suspects - graph.links if undone and link[1] in graph.ports)
        self._suspects = frozenset(link for link in before.links - graph.links if link[1] in graph.ports)
        self._suspected_at = before.port_changes
        if added or removed:
            self._kept = (self._kept | added) - removed
            self.by_hand = self._kept
            self._pending = self._pending and not added


def choose(side: Side, graph: Graph) -> Choice:
    """Return the links that the settings mean in this graph."""
    if side.wanted.lower() == "default":
        if not graph.physical:
            what = "output device for the monitor" if side.kind == "monitor" else f"{side.kind} device"
            return Choice(problem=f"the sound server has no {what}: connect one, or name a port in {SETTINGS[side.kind]}")
        group = [port for port in graph.physical if client_of(port) == client_of(graph.physical[0])]
    else:
        found, problem = find(side.kind, side.wanted, graph.ports)
        if problem:
            return Choice(problem=problem)
        group = found
    if side.kind != "input":
        return Choice(tuple(zip(side.own, group, strict=False)))
    if side.channel > len(group):
        return Choice(
            problem=f"input channel {side.channel} does not exist: {client_of(group[0])!r} has {len(group)}; "
            "set audio.input_channel"
        )
    if side.channel == 0:
        return Choice(tuple(zip(side.own, (group * 2)[:2], strict=True)))
    return Choice(((side.own[0], group[side.channel - 1]),))


def find(kind: str, name: str, ports: Sequence[str]) -> tuple[list[str], str]:
    """Return the ports of the one client that a text names, or the one port; and a problem where that is not clear."""
    wanted = name.lower()
    exact = [port for port in ports if port.lower() == wanted]
    if exact:
        return exact, ""
    clients: dict[str, list[str]] = {}
    for port in ports:
        clients.setdefault(client_of(port), []).append(port)
    fitting = [client for client in clients if client.lower() == wanted] or [c for c in clients if wanted in c.lower()]
    if len(fitting) == 1:
        return _no_monitors(clients[fitting[0]]), ""
    if fitting:
        return [], f"{SETTINGS[kind]} {name!r} fits {_listing(fitting)}: write more of the name"
    single = [port for port in ports if wanted in port.lower()]
    if single and len({client_of(port) for port in single}) == 1:
        return single, ""
    if single:
        return [], f"{SETTINGS[kind]} {name!r} fits {_listing(single)}: write more of the name"
    near = difflib.get_close_matches(wanted, [client.lower() for client in clients], n=3, cutoff=0.4)
    meant = [client for client in clients if client.lower() in near]
    hint = f"did you mean {_listing(meant)}?" if meant else f"there is {_listing(list(clients)) or 'nothing'}"
    return [], f"{SETTINGS[kind]} {name!r} is not there; {hint} Waiting for it"


def client_of(port: str) -> str:
    """Return the client's part of a port's name."""
    return port.partition(":")[0]


def is_client(port: str, name: str) -> bool:
    """Say whether a port is of the client of that name; PipeWire gives the second of two equal names a number: 'rvcd-51'."""
    return re.fullmatch(re.escape(name) + r"(-\d+)?", client_of(port)) is not None


def _no_monitors(ports: list[str]) -> list[str]:
    return [port for port in ports if not re.match(r"monitor", port.partition(":")[2])] or ports


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:6])
    return f"{shown} and {len(names) - 6} more" if len(names) > 6 else shown


def to_document(sides: Mapping[str, Side]) -> dict[str, object]:
    """Return what is remembered of the user's connections, as JSON."""
    return {
        kind: {"for": side.wanted, "links": [list(link) for link in sorted(side.by_hand)]}
        for kind, side in sides.items()
        if side.by_hand
    }


def from_document(document: object) -> dict[tuple[str, str], frozenset[Link]]:
    """Return the links by (kind, what the settings said then). Raises ValueError for another document."""
    if not isinstance(document, dict):
        raise ValueError("is no table")
    found = {}
    for kind, entry in document.items():
        links = entry.get("links") if isinstance(entry, dict) else None
        if not isinstance(links, list) or len(links) > 256:
            raise ValueError("has wrong links")
        for link in links:
            if not (isinstance(link, list) and len(link) == 2 and all(isinstance(end, str) and len(end) < 1024 for end in link)):
                raise ValueError("has a wrong link")
        found[str(kind), str(entry.get("for"))] = frozenset((link[0], link[1]) for link in links)
    return found
