"""Hostile datagrams, reproducible from a seed: known killers, noise, mutations, and valid-looking messages with wrong contents.

The killers are the ones known to hang or flood python-osc's servers (shared CONTROL notes), and others like them. Used by the
tests and by tools/hostile_osc.py.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable, Iterator

from rvcd.errors import ProtocolError
from rvcd.osc.codec import OscMessage, decode, encode
from rvcd.osc.patterns import is_pattern
from rvcd.osc.verbs import VERBS, Action, Limit, Verb, find_verb
from rvcd.protocol import F0_METHODS, LATENCY_PRESET_NAMES, PREFIX

HEADER = b"#bundle\0" + struct.pack(">Q", 1)
FAR_FUTURE = 2**64 - 1


def bundle(*elements: bytes, timetag: int = 1) -> bytes:
    return b"#bundle\0" + struct.pack(">Q", timetag) + b"".join(struct.pack(">i", len(e)) + e for e in elements)


def nested(depth: int, inner: bytes) -> bytes:
    for _ in range(depth):
        inner = bundle(inner)
    return inner


def padded(text: bytes) -> bytes:
    """Return an OSC string: at least one NUL, to a multiple of 4. The text is not looked at, so it may be anything."""
    return text + b"\0" * (4 - len(text) % 4)


def message(address: str | bytes, tags: str = "", payload: bytes = b"") -> bytes:
    """Return a well-framed message whose contents nobody has checked. payload: the bytes of its arguments."""
    raw = address.encode("utf-8", "surrogatepass") if isinstance(address, str) else address
    return padded(raw) + padded(b"," + tags.encode("ascii")) + payload


KILLERS: dict[str, bytes] = {
    "element of size -4 (hangs python-osc for good)": HEADER + struct.pack(">i", -4),
    "element of size 0 (never advances)": HEADER + struct.pack(">i", 0) * 3,
    "element of size -8 after a message, 32 bytes (memory grows 28 MB/s)": HEADER
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
    "lone surrogate": message("/rvc/voice", "s", padded(b"\xed\xa0\x80")),
    "overlong UTF-8": message("/rvc/voice", "s", padded(b"\xc0\xae\xc0\xae\xc0\xaf")),
    "address not ASCII": b"/\xff\0\0,\0\0\0",
    "address with a control character": b"/\x1b[\0,\0\0\0",
    "address with a newline": message("/rvc/ping\n/rvc/panic"),
    "unbalanced array": b"/a\0\0,]\0\0",
    "unknown tag": b"/a\0\0,z\0\0",
    "more tags than arguments": b"/a\0\0,iiiiii\0" + bytes(4),
    "bytes after the last argument": b"/a\0\0,i\0\0" + bytes(8),
    "33 arguments": message("/rvc/ping", "i" * 33, bytes(4 * 33)),
    "two thousand tags": b"/a\0\0," + b"T" * 2003 + bytes(4),
    "tags without a comma": b"/a\0\0i\0\0\0" + bytes(4),
    "empty": b"",
    "one byte": b"/",
    "odd size": b"/abcd\0\0",
    "too large": encode("/rvc/ping", "x" * 9000),
    "the largest that UDP carries": encode("/rvc/ping", "x" * 65000),
    "too many messages": bundle(*[b"/a\0\0,\0\0\0"] * 65),
    "bundle cut in its timetag": b"#bundle\0" + bytes(4),
    "bundle word only": b"#bundle\0",
}
"""Each is refused by decode."""

STARS = "/rvc/" + "*" * 24 + "x"
PATTERNS = (
    STARS, "/rvc/" + "*" * 120, "/rvc/*/*/*", "/rvc/*", "/*/*", "/rvc/" + "?" * 24, "/rvc/{" + "a," * 60 + "}",
    "/rvc/[!-~]*[!-~]*[!-~]*", "/rvc/{panic,record,mute}", "/rvc/*/{on,off,toggle}", "/rvc/panic*", "/rvc/preset/*",
    "/rvc/[", "/rvc/}{", "/rvc/{}", "/rvc/[z-a]", "/rvc/" + "*a" * 60, "/rvc/" + "{a,aa,aaa}" * 12,
)  # fmt: skip
"""Address patterns: slow to match for a matcher that backtracks, or aimed at what a pattern must never trigger."""

DEAREST: dict[str, bytes] = {
    "64 questions to everything": bundle(*[message("/rvc/*/*")] * 64),
    "64 questions to every first part": bundle(*[message("/rvc/*")] * 64),
    "58 patterns of 120 stars": bundle(*[message("/rvc/" + "*" * 120)] * 58),
    "58 patterns that have to look at every character": bundle(*[message("/rvc/" + "*[!-~]" * 20)] * 55),
    "64 settings of everything": bundle(*[message("/rvc/*", "f", struct.pack(">f", 0.5))] * 64),
    "64 lists of voices": bundle(*[message("/rvc/voice/list")] * 64),
    "64 lists of presets": bundle(*[message("/rvc/preset/list")] * 64),
    "64 presets that there are not": bundle(*[encode("/rvc/preset/recall", "n1n1n1n1n1n1n1n1n1n2")] * 64),
    "64 voices that there are not": bundle(*[encode("/rvc/voice", "voice number one hundred")] * 64),
    "64 times the telemetry": bundle(*[message("/rvc/stats")] * 64),
    "64 subscriptions": bundle(*[encode("/rvc/subscribe", 0, 30)] * 64),
}
"""Well-formed datagrams that ask for as much work as one datagram can."""

TEXTS: tuple[bytes, ...] = (
    b"", b" ", b".", b"..", b"-", b"--help", b"*", b"~",
    b"../../etc/passwd", b"/etc/passwd", b"..\\..\\boot.ini", b"file:///etc/passwd", b"voices/../../x", b"a/b", b"CON",
    b"line\nfeed", b"carriage\rreturn", b"\ttab", b"bell\x07", b"\x1b[2J\x1b[31mred", b"\x1b]0;owned\x07", b"\x7f\x9b",
    b"%s%s%n", b"{0.__class__}", b"${HOME}", b"$(reboot)", b"`reboot`", b"'; DROP TABLE voices; --", b"<script>", b"#bundle",
    "é".encode(), "e\u0301".encode(), "\ufb01".encode(), "\uff21nna".encode(), "\u0410nna".encode(), "شخص".encode(),
    "\u202egnp.anna".encode(), "\u200bAnna\ufeff".encode(), "👩\u200d🎤".encode(), "𝕬𝖓𝖓𝖆".encode(), "\u2028\u0085".encode(),
    b"Anna ", b"anna", b"a" * 64, b"a" * 65, "ü".encode() * 64, "ü".encode() * 65, b"x" * 4000,
    b"nan", b"inf", b"-1", b"1e999", b"0x10", "\u0663".encode(),
    b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf8\x88\x80\x80\x80", b"cut \xe2\x82",
)  # fmt: skip
"""What may be sent where a name is meant: paths, escapes, look-alikes, nothing, far too much, and bytes that are no text."""

INTEGERS = (0, 1, -1, 2, 3, 5, 7, 30, 31, 64, 999, 1000, 9999, 65535, 65536, 2**31 - 1, -(2**31))
NUMBERS = (
    0.0, -0.0, 0.4999, 0.5, 1.0, -1.0, 1.5, 24.0, -90.0, 1e-45, 1e9, 1e38, -1e38, 3.4e38, math.nan, math.inf, -math.inf,
)  # fmt: skip


def argument(rng: random.Random, tag: str) -> bytes:
    """Return the bytes of one hostile argument of a type tag."""
    if tag == "i":
        return struct.pack(">i", rng.choice(INTEGERS))
    if tag == "h":
        return struct.pack(">q", rng.choice((*INTEGERS, 2**63 - 1, -(2**63))))
    if tag == "f":
        return struct.pack(">f", rng.choice(NUMBERS))
    if tag == "d":
        return struct.pack(">d", rng.choice((*NUMBERS, 1e308, 5e-324)))
    if tag in "sS":
        return padded(rng.choice(TEXTS))
    if tag == "b":
        blob = rng.randbytes(rng.choice((0, 1, 4, 63)))
        return struct.pack(">i", len(blob)) + blob + bytes(-len(blob) % 4)
    return b""  # T F N I carry nothing


def addresses() -> Iterator[tuple[Verb, str]]:
    """Yield every verb of the table with an address that finds it."""
    for verb in VERBS:
        yield verb, verb.full_address.replace("/N", "/1")


def valid_looking(rng: random.Random, verb: Verb | None = None) -> bytes:
    """Return a well-framed message to an address of the verb table (now and then nearly one), with hostile arguments."""
    verb = verb or rng.choice(VERBS)
    number = rng.choice(("0", "1", "2", "999", "1000", "9999", "99999", "-1", "1.5", "%31", "N", "1/1"))
    address = verb.full_address.replace("/N", "/" + number)
    if rng.random() < 0.1:
        nearly = (address + "/", address.upper(), address + "/../panic", address.replace("/rvc", "/rvc/"), address + "x" * 240)
        address = rng.choice(nearly)
    tags = "".join(rng.choice("iihfffdssSbTFNI") for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 2, 3, 5, 32))))
    return message(address, tags, b"".join(argument(rng, tag) for tag in tags))[:60000]


def patterned(rng: random.Random) -> bytes:
    """Return a message to an address pattern, without an argument or with one."""
    tags = rng.choice(("", "f", "i", "s", "T"))
    return message(rng.choice(PATTERNS), tags, b"".join(argument(rng, tag) for tag in tags))


def bundled(rng: random.Random) -> bytes:
    """Return a bundle of hostile messages, its time at once or a hundred years off."""
    parts = [rng.choice((valid_looking, patterned, mutated))(rng) for _ in range(rng.choice((0, 1, 2, 8, 70)))]
    whole = bundle(*(part + bytes(-len(part) % 4) for part in parts), timetag=rng.choice((0, 1, FAR_FUTURE)))
    return nested(rng.choice((0, 1, 3, 4)), whole)[:60000]


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


def killer(rng: random.Random) -> bytes:
    """Return one of the known killers."""
    return rng.choice(tuple(KILLERS.values()))


KINDS: dict[str, tuple[float, Callable[[random.Random], bytes]]] = {
    "valid-looking": (0.45, valid_looking),
    "mutated": (0.25, mutated),
    "pattern": (0.12, patterned),
    "bundle": (0.08, bundled),
    "killer": (0.10, killer),
}
"""How often each kind is drawn."""


def hostile(seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield (kind, datagram) without end; the same seed yields the same."""
    rng = random.Random(seed)
    kinds, weights = list(KINDS), [weight for weight, _ in KINDS.values()]
    while True:
        kind = rng.choices(kinds, weights)[0]
        yield kind, KINDS[kind][1](rng)


SWITCH_ACTIONS = (Action.SWITCH, Action.SWITCH_ON, Action.SWITCH_OFF, Action.SWITCH_TOGGLE)
CHOICES = (Action.VOICE, Action.SPEAKER, Action.LATENCY_PRESET, Action.F0_METHOD)
LISTS_AND_LEASES = (Action.VOICE_LIST, Action.PRESET_LIST, Action.SUBSCRIBE)


def reaches_further(datagram: bytes, *, own_daemon: bool) -> bool:
    """Return whether a datagram may do, by its right, what an attack should leave undone.

    Always: pushing to the ports of other programs; loading a voice, choosing another latency or pitch method and beginning to
    record, which cost a gap, or more computing than the machine may have: what is heard then says nothing about hostile input.
    On somebody else's daemon also: ending a recording, bypass and talk (the raw voice would be heard), and whatever changes
    the presets.
    """
    try:
        messages = decode(datagram)
    except ProtocolError:
        return False
    return any(_reaches_further(sent, own_daemon) for sent in messages)


def _reaches_further(sent: OscMessage, own_daemon: bool) -> bool:
    found = None if is_pattern(sent.address) else find_verb(sent.address[len(PREFIX) :])
    if found is None:
        return False
    verb, first = found[0], sent.args[0] if sent.args else None
    is_number = isinstance(first, int | float) and math.isfinite(first)
    if verb.action is Action.SUBSCRIBE:
        return any(isinstance(value, int | float) and value > 1023 for value in sent.args)
    if verb.action in CHOICES:
        return is_number or first in (*LATENCY_PRESET_NAMES, *F0_METHODS) or (bool(sent.args) and not own_daemon)
    acts = bool(sent.args) or verb.trigger
    if verb.action in (Action.VOICE_NEXT, Action.VOICE_PREV, Action.VOICE_SLOT):
        return acts
    if verb.subject == "record" and verb.action is not Action.SWITCH_OFF:
        return acts
    if own_daemon or not acts:
        return False
    turns_a_switch = verb.action in SWITCH_ACTIONS and verb.subject != "mute"
    return turns_a_switch or (verb.limit is Limit.HEAVY and verb.action not in LISTS_AND_LEASES)
