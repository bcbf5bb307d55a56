"""OSC 1.0 datagrams, for the daemon and for rvcctl: framing checks, decoding, encoding. No sockets here.

Every byte is checked before python-osc's parser sees the packet, because that parser trusts element sizes.
Source of the format: the Open Sound Control 1.0 specification (opensoundcontrol.stanford.edu).
"""

from __future__ import annotations

import operator
import re
import struct
from dataclasses import dataclass
from typing import Any

from pythonosc import osc_message, osc_message_builder

from rvcd.errors import ProtocolError

MAX_DATAGRAM_BYTES = 8192
MAX_ADDRESS_CHARS = 255
MAX_DEPTH = 4
MAX_MESSAGES = 64
MAX_ARGUMENTS = 32

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
FLOAT32_MAX = 3.4028234663852886e38

_BUNDLE = b"#bundle\0"
_BUNDLE_HEADER_BYTES = 16  # the word and the timetag
_ADDRESS = re.compile(rb"/[!-~]*\Z")  # printable ASCII without the space
_FIXED_BYTES = {ord("i"): 4, ord("f"): 4, ord("h"): 8, ord("d"): 8, ord("T"): 0, ord("F"): 0, ord("N"): 0, ord("I"): 0}
# python-osc knows neither symbols nor the impulse: a symbol reads as a string, an impulse (a "bang") as true.
_TAGS_FOR_PARSER = bytes.maketrans(b"SI", b"sT")

OscValue = int | float | str | bytes | bool | None


@dataclass(frozen=True)
class OscMessage:
    """One decoded message. args holds int (i, h), float (f, d), str (s, S), bytes (b), bool (T, F, I) or None (N)."""

    address: str
    args: tuple[OscValue, ...] = ()


def decode(datagram: bytes, *, max_arguments: int = MAX_ARGUMENTS) -> list[OscMessage]:
    """Return the messages of a datagram in order; bundles are flattened and their timetags ignored.

    Raises ProtocolError with one short reason for anything that is not a well-formed packet within the limits above.
    Accepted type tags: i f s S b h d T F N I. Time is linear in the size of the datagram.
    """
    if not datagram:
        raise ProtocolError("empty datagram")
    if len(datagram) > MAX_DATAGRAM_BYTES:
        raise ProtocolError(f"{len(datagram)} bytes is more than {MAX_DATAGRAM_BYTES}")
    if len(datagram) % 4:
        raise ProtocolError("size is not a multiple of 4")
    messages: list[OscMessage] = []
    _read_element(bytes(datagram), 0, messages, max_arguments)
    return messages


def _read_element(packet: bytes, depth: int, messages: list[OscMessage], max_arguments: int) -> None:
    """Append the messages of one element: a whole message or a whole bundle inside `depth` bundles."""
    if packet.startswith(b"/"):
        if len(messages) >= MAX_MESSAGES:
            raise ProtocolError(f"more than {MAX_MESSAGES} messages in a bundle")
        messages.append(_read_message(packet, max_arguments))
        return
    if not packet.startswith(_BUNDLE):
        raise ProtocolError("starts with neither '/' nor '#bundle'")
    if depth >= MAX_DEPTH:
        raise ProtocolError(f"bundles nested deeper than {MAX_DEPTH}")
    if len(packet) < _BUNDLE_HEADER_BYTES:
        raise ProtocolError("bundle without a timetag")
    position = _BUNDLE_HEADER_BYTES
    while position < len(packet):
        (size,) = struct.unpack_from(">i", packet, position)
        position += 4
        if size <= 0 or size % 4 or size > len(packet) - position:
            raise ProtocolError(f"bundle element of size {size}")
        _read_element(packet[position : position + size], depth + 1, messages, max_arguments)
        position += size


def _read_message(packet: bytes, max_arguments: int) -> OscMessage:
    """Check one message's framing, then let python-osc parse it."""
    tags_at = _string_end(packet, 0)
    address = packet[: packet.index(b"\0")]
    if len(address) > MAX_ADDRESS_CHARS:
        raise ProtocolError(f"address longer than {MAX_ADDRESS_CHARS} characters")
    if not _ADDRESS.match(address):
        raise ProtocolError("address is not printable ASCII")
    if tags_at == len(packet):  # old senders leave the type tags out when there are no arguments
        return OscMessage(address.decode("ascii"))
    position = _string_end(packet, tags_at)
    tags = packet[tags_at : packet.index(b"\0", tags_at)]
    if not tags.startswith(b","):
        raise ProtocolError("type tags do not start with ','")
    if len(tags) - 1 > max_arguments:
        raise ProtocolError(f"more than {max_arguments} arguments")
    for tag in tags[1:]:
        position = _argument_end(packet, position, tag)
    if position != len(packet):
        raise ProtocolError("bytes after the last argument")
    readable = packet[:tags_at] + tags.translate(_TAGS_FOR_PARSER) + packet[tags_at + len(tags) :]
    try:
        values = tuple(osc_message.OscMessage(readable).params)
    except UnicodeDecodeError:
        raise ProtocolError("string argument is not UTF-8") from None
    except Exception as error:  # whatever a parser update may raise must not reach the event loop
        raise ProtocolError(f"parser refused it ({type(error).__name__})") from None
    return OscMessage(address.decode("ascii"), values)


def _string_end(packet: bytes, start: int) -> int:
    """Return the position after the padded string at start (a multiple of 4)."""
    nul = packet.find(b"\0", start)
    if nul < 0:
        raise ProtocolError("string without an end")
    return nul + 4 - nul % 4  # start and len(packet) are multiples of 4, so this stays inside


def _argument_end(packet: bytes, position: int, tag: int) -> int:
    """Return the position after one argument of type tag."""
    if tag in _FIXED_BYTES:
        end = position + _FIXED_BYTES[tag]
    elif tag in b"sS":
        end = _string_end(packet, position)
    elif tag == ord("b"):
        if position + 4 > len(packet):
            raise ProtocolError("argument cut short")
        (size,) = struct.unpack_from(">i", packet, position)
        if size < 0:
            raise ProtocolError(f"blob of size {size}")
        end = position + 4 + size + -size % 4
    else:
        raise ProtocolError(f"type tag {chr(tag)!r} is not accepted")
    if end > len(packet):
        raise ProtocolError("argument cut short")
    return end


def encode(address: str, *args: object) -> bytes:
    """Return one OSC message. int -> i (clamped to 32 bits), float -> f (clamped to float32), str -> s, bool -> i.

    numpy scalars are taken by their value. NUL characters and lone surrogates in strings become '?'.
    Raises TypeError for an argument that is neither text nor a number.
    """
    builder = osc_message_builder.OscMessageBuilder(address=address)
    for arg in args:
        tag, value = _typed(arg)
        builder.add_arg(value, tag)
    return bytes(builder.build().dgram)


def _typed(arg: Any) -> tuple[str, str | int | float]:
    """Return (type tag, plain Python value) of an outgoing argument."""
    if isinstance(arg, str):
        return "s", str(arg).replace("\0", "?").encode("utf-8", "replace").decode("utf-8")
    if isinstance(arg, bool) or getattr(getattr(arg, "dtype", None), "kind", "") == "b":
        return "i", int(bool(arg))  # clients read args[0] as a number; T and F carry no bytes
    if not isinstance(arg, float):
        try:
            return "i", min(max(operator.index(arg), INT32_MIN), INT32_MAX)
        except TypeError:
            pass
    if isinstance(arg, bytes | bytearray):
        raise TypeError("blobs are never sent")
    number = float(arg)
    if FLOAT32_MAX < abs(number) < float("inf"):  # struct.pack would raise OverflowError
        number = FLOAT32_MAX if number > 0 else -FLOAT32_MAX
    return "f", number
