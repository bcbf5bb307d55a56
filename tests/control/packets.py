"""Hostile datagrams: the ones known to hang or flood python-osc's servers (shared CONTROL notes), and others like them."""

from __future__ import annotations

import random
import struct

from rvcd.control.osc import encode

HEADER = b"#bundle\0" + struct.pack(">Q", 1)


def bundle(*elements: bytes, timetag: int = 1) -> bytes:
    return b"#bundle\0" + struct.pack(">Q", timetag) + b"".join(struct.pack(">i", len(e)) + e for e in elements)


def nested(depth: int, inner: bytes) -> bytes:
    for _ in range(depth):
        inner = bundle(inner)
    return inner


KILLERS: dict[str, bytes] = {
    "element of size -4 (hangs python-osc for good)": HEADER + struct.pack(">i", -4),
    "element of size 0 (never advances)": HEADER + struct.pack(">i", 0) * 3,
    "element of size -16 after a message (memory grows 28 MB/s)": HEADER
    + struct.pack(">i", 4)
    + b"/a\0\0"
    + struct.pack(">ii", -8, 0),
    "element larger than the packet": HEADER + struct.pack(">i", 2**31 - 4) + b"/a\0\0",
    "deep nesting": nested(5, encode("/rvc/ping")),
    "very deep nesting": nested(300, b"/a\0\0,\0\0\0"),
    "blob of size -1": b"/a\0\0,b\0\0" + struct.pack(">i", -1),
    "blob of 2 GiB": b"/a\0\0,b\0\0" + struct.pack(">i", 2**31 - 1),
    "blob of size -2147483648": b"/a\0\0,b\0\0" + struct.pack(">i", -(2**31)),
    "string without an end": b"/a\0\0,s\0\0abcd",
    "address without an end": b"/abc",
    "not UTF-8": b"/a\0\0,s\0\0\xff\xfe\x80\0",
    "address not ASCII": b"/\xff\0\0,\0\0\0",
    "address with a control character": b"/\x1b[\0,\0\0\0",
    "unbalanced array": b"/a\0\0,]\0\0",
    "unknown tag": b"/a\0\0,z\0\0",
    "more tags than arguments": b"/a\0\0,iiiiii\0" + bytes(4),
    "bytes after the last argument": b"/a\0\0,i\0\0" + bytes(8),
    "two thousand tags": b"/a\0\0," + b"T" * 2003 + bytes(4),
    "tags without a comma": b"/a\0\0i\0\0\0" + bytes(4),
    "empty": b"",
    "one byte": b"/",
    "odd size": b"/abcd\0\0",
    "too large": encode("/rvc/ping", "x" * 9000),
    "too many messages": bundle(*[b"/a\0\0,\0\0\0"] * 65),
    "bundle cut in its timetag": b"#bundle\0" + bytes(4),
    "bundle word only": b"#bundle\0",
}

STARS = "/rvc/" + "*" * 24 + "x"


def mutated(rng: random.Random) -> bytes:
    """Return a datagram near a valid one, or pure noise."""
    valid = (
        encode("/rvc/pitch", 3.0),
        encode("/rvc/voice", "Anna"),
        encode("/rvc/ping", 1, 2.5, "text", True),
        bundle(encode("/rvc/gain/in", -3), bundle(encode("/rvc/mute", 0))),
    )
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(0, 64))
    data = bytearray(rng.choice(valid if rng.random() < 0.7 else tuple(KILLERS.values()))[:2048])
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data) + 1)
        if kind == 1 and at < len(data):
            data[at] = rng.randrange(256)
        elif kind == 2:
            del data[at : at + rng.choice((1, 4, 8))]
        else:
            data[at:at] = rng.randbytes(rng.choice((1, 4, 8)))
    return bytes(data)
