"""OSC messages to and from datagrams. Whatever arrives, decode() answers or raises ProtocolError: it never hangs or logs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import BuildError, OscMessageBuilder

from rvcd.errors import ProtocolError

Arg: TypeAlias = "str | int | float | bool | None"
"""What an argument may be: the tags i h f d s T F N. Blobs, arrays and timetags never travel between rvcd and rvcctl."""

ON_FROM = 0.5
"""A switch that comes as a number is on from here."""
MAX_DATAGRAM_BYTES = 8192
MAX_ARGS = 128
_TAGS = frozenset("ihfdsTFN")


@dataclass(frozen=True)
class Message:
    """One OSC message: address with the /rvc prefix, and its arguments."""

    address: str
    args: tuple[Arg, ...] = ()


def encode(address: str, *args: str | int | float) -> bytes:
    """Return the datagram of one message: bool and int go out as ,i, float as ,f, str as ,s.

    Raises ProtocolError when a value does not fit (an int beyond 32 bits, an unencodable string).
    """
    builder = OscMessageBuilder(address=address)
    try:
        for arg in args:
            if isinstance(arg, bool):
                builder.add_arg(int(arg), "i")
            elif isinstance(arg, int):
                builder.add_arg(arg, "i")
            elif isinstance(arg, float):
                builder.add_arg(arg, "f")
            else:
                builder.add_arg(arg, "s")
        return builder.build().dgram
    except (BuildError, ValueError, OverflowError) as error:
        raise ProtocolError(f"{address} cannot carry {list(args)!r:.80}: {error}") from None


def decode(datagram: bytes) -> Message:
    """Return the message in a datagram. Raises ProtocolError for anything that is not one plain, bounded OSC message.

    The framing and the type tags are checked before python-osc sees the bytes, because it logs unknown tags and
    raises different exceptions for different kinds of damage.
    """
    if not 4 <= len(datagram) <= MAX_DATAGRAM_BYTES or len(datagram) % 4 or not datagram.startswith(b"/"):
        raise ProtocolError(f"{len(datagram)} bytes that are not one OSC message")
    address_end = datagram.find(b"\0")
    if address_end < 0:
        raise ProtocolError("an OSC address without an end")
    tags_start = (address_end // 4 + 1) * 4
    if tags_start < len(datagram):
        tags_end = datagram.find(b"\0", tags_start)
        tags = datagram[tags_start:tags_end].decode("latin-1")
        if tags_end < 0 or not tags.startswith(",") or len(tags) > MAX_ARGS + 1 or not _TAGS.issuperset(tags[1:]):
            raise ProtocolError("OSC type tags that rvcctl does not use")
    try:
        parsed = OscMessage(datagram)
        return Message(parsed.address, tuple(parsed.params))
    except Exception as error:  # python-osc raises several unrelated types for damaged datagrams
        raise ProtocolError(f"a damaged OSC message: {error}") from None


def number_of(arg: Arg) -> float | None:
    """Return a finite number from an int, float or bool argument, None for anything else."""
    if isinstance(arg, (int, float)) and math.isfinite(arg):
        return float(arg)
    return None


def clean_text(text: object, limit: int = 64) -> str:
    """Return printable text of at most limit characters: nothing a daemon sends may steer the terminal."""
    kept = "".join(char if char.isprintable() else "?" for char in str(text)[: limit + 1])
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"
