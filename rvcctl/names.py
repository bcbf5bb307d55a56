"""The names that scripts use, the addresses they stand for, and what each of them takes."""

from __future__ import annotations

import difflib
import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

from rvcd import protocol
from rvcd.errors import ParamError
from rvcd.params import BY_NAME, PARAMS, Param

_ON = frozenset({"on", "1", "true", "yes"})
_OFF = frozenset({"off", "0", "false", "no"})
MAX_DIGITS = 4
"""A word of more digits than this is a name: no slot, preset or speaker has such a number."""
MAX_SLOT = 999


class Kind(enum.Enum):
    """How a value is written on the command line and on the wire."""

    NUMBER = "number"
    SWITCH = "switch"
    TEXT = "text"
    WHOLE = "whole number"
    TEXT_OR_WHOLE = "text or whole number"


@dataclass(frozen=True)
class Name:
    """One thing that can be set and read. Addresses are below /rvc.

    address: where it is asked for without arguments, and where its value comes back. set_address: where it is set.
    takes: the values it takes, as in 'pitch takes a number in -24..24 semitones'.
    slow: the daemon answers with /done or /fail once the change holds, which may take seconds.
    """

    name: str
    address: str
    kind: Kind
    takes: str
    set_address: str
    slow: bool = False
    doc: str = ""


def _takes(param: Param) -> str:
    return f"one of {param.range_text()}" if param.choices else f"a number in {param.range_text()}"


def _table() -> dict[str, Name]:
    numbers = [Name(p.name, p.address, Kind.NUMBER, _takes(p), p.address, doc=p.doc) for p in PARAMS]
    switches = [
        Name(name, at, Kind.SWITCH, "on or off", at, slow=at == "/record", doc=_SWITCH_DOCS[name])
        for at, name in ((at, protocol.switch_name(at)) for at in protocol.SWITCH_ADDRESSES)
    ]
    others = [
        Name("voice", "/voice", Kind.TEXT, "the name of a voice (see 'rvcctl voice list')", "/voice", True,
             "the voice that speaks"),
        Name("voice_slot", "/voice/slot", Kind.WHOLE, f"a slot in 1..{MAX_SLOT} (see 'rvcctl voice list')", "/voice/slot", True,
             "the same by its slot"),
        Name("speaker", "/speaker", Kind.TEXT_OR_WHOLE, "a speaker's number from 0, or its name", "/speaker", True,
             "which speaker of a voice that has several"),
        Name("f0_method", "/f0/method", Kind.TEXT, f"one of {', '.join(protocol.F0_METHODS)}", "/f0/method", True,
             "how the pitch is tracked"),
        Name("latency_preset", "/latency/preset", Kind.TEXT, f"one of {', '.join(protocol.LATENCY_PRESET_NAMES)}",
             "/latency/preset", True, "the latency of the whole stream"),
        Name("monitor_source", "/monitor/source", Kind.TEXT, f"one of {', '.join(protocol.MONITOR_SOURCES)}", "/monitor/source",
             doc="what you hear of yourself: what goes out, or your own voice"),
        Name("pitch_mode", "/pitch/mode", Kind.TEXT, f"one of {', '.join(protocol.PITCH_MODES)}", "/pitch/mode",
             doc="who transposes: you alone, or auto by the voice's register, and pitch on top"),
        Name("preset", "/preset", Kind.TEXT, "the name of a preset (see 'rvcctl preset list')", "/preset/recall", True,
             "all parameters at once, as saved"),
    ]  # fmt: skip
    return {name.name: name for name in (*numbers, *switches, *others)}


_SWITCH_DOCS = {
    "bypass": "the raw voice instead of the converted one",
    "mute": "silence",
    "record": "into a FLAC file: input and output",
    "talk": "push-to-talk or push-to-convert, as configured",
    "monitor_mute": "silence on the monitor alone",
}

SETTABLE: dict[str, Name] = _table()
"""pitch, formant, ..., monitor, bypass, mute, record, talk, monitor_mute, voice, voice_slot, speaker, ..., preset."""
MEASURED: frozenset[str] = frozenset(field.name for field in fields(protocol.Stats)) - frozenset(SETTABLE)
"""Read-only names: the fields of protocol.Stats."""
_WITH_NOTE = {"f0_hz": ("f0_hz", "note", "cents")}
STATS_NAMES: tuple[str, ...] = tuple(
    name for field in fields(protocol.Stats) for name in _WITH_NOTE.get(field.name, (field.name,))
)
"""What one push of telemetry says, in order: the fields of protocol.Stats, with the note and its cents after f0_hz."""
READABLE: tuple[str, ...] = tuple(dict.fromkeys((*SETTABLE, *STATS_NAMES)))
"""Everything that `get` and `watch` take."""


def names_of(*kinds: Kind) -> list[str]:
    """Return the settable names of some kinds, in the table's order."""
    return [name.name for name in SETTABLE.values() if name.kind in kinds]


def find_settable(name: str) -> Name:
    """Return what can be set under this name; 'gain/in' and '/gain/in' are read as 'gain_in'. Raises ParamError."""
    key = _name_of(name)
    if key in SETTABLE:
        return SETTABLE[key]
    if key in STATS_NAMES:
        raise ParamError(f"'{key}' is measured and cannot be set; these can: {', '.join(SETTABLE)}")
    raise ParamError(f"unknown name '{name}'; {_suggestion(key, SETTABLE)}")


def find_of_kind(name: str, kind: Kind, command: str) -> Name:
    """Return a settable name that has to be of the one kind that a command takes. Raises ParamError."""
    known = find_settable(name)
    if known.kind is not kind:
        raise ParamError(f"'{known.name}' is not a {kind.value}; {command} takes one of {', '.join(names_of(kind))}")
    return known


def find_readable(name: str) -> str:
    """Return a name of READABLE, written as an address or not. Raises ParamError."""
    key = _name_of(name)
    if key in READABLE:
        return key
    raise ParamError(f"unknown name '{name}'; {_suggestion(key, READABLE)}")


def parse_value(name: Name, text: str) -> str | int | float:
    """Return a command line's text as the value to send. Raises ParamError that says what the name takes.

    A number beyond its range passes: the daemon limits it, and says what it made of it.
    """
    word = text.strip()
    wrong = ParamError(f"{name.name} takes {name.takes}, not '{text}'")
    if name.kind is Kind.NUMBER:
        try:
            number = float(word)
        except ValueError:
            param = BY_NAME[name.name]
            if not param.choices or not word:
                raise wrong from None
            try:
                return param.named(word)
            except ParamError:
                raise wrong from None
        if not math.isfinite(number):
            raise wrong
        return number
    if name.kind is Kind.SWITCH:
        if word.lower() in _ON or word.lower() in _OFF:
            return int(word.lower() in _ON)
        raise wrong
    if not word:
        raise wrong
    if name.kind is Kind.WHOLE:
        if not is_number(word) or not 1 <= int(word) <= MAX_SLOT:
            raise wrong
        return int(word)
    return name_or_number(text) if name.kind is Kind.TEXT_OR_WHOLE else text


def is_number(word: str) -> bool:
    """Return whether a word is a slot's, preset's or speaker's number and not a name."""
    return word.isascii() and word.isdigit() and len(word) <= MAX_DIGITS


def name_or_number(word: str) -> str | int:
    """Return a word as a number if it is one, else as it is."""
    return int(word) if is_number(word) else word


def _name_of(address: str) -> str:
    return address.lstrip("/").replace("/", "_").lower()


def _suggestion(key: str, known: Iterable[str]) -> str:
    """Return 'did you mean ...?' or the whole list."""
    close = difflib.get_close_matches(key, list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
