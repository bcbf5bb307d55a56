"""The names that scripts use, and the addresses they stand for."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, fields

from rvcd import protocol
from rvcd.errors import ParamError

_ON = frozenset({"on", "1", "true", "yes"})
_OFF = frozenset({"off", "0", "false", "no"})


class Kind(enum.Enum):
    """How a value is written on the command line and on the wire."""

    NUMBER = "number"
    SWITCH = "switch"
    TEXT = "text"


@dataclass(frozen=True)
class Name:
    """One thing that can be set and read. address is complete, prefix included."""

    name: str
    address: str
    kind: Kind


def _table() -> dict[str, Name]:
    rows: list[tuple[str, Kind]] = [
        *((address, Kind.NUMBER) for address in protocol.NUMBER_ADDRESSES),
        *((address, Kind.SWITCH) for address in protocol.SWITCH_ADDRESSES),
        ("/f0/method", Kind.TEXT),
        ("/voice", Kind.TEXT),
    ]
    return {name: Name(name, protocol.PREFIX + address, kind) for address, kind in rows for name in [_name_of(address)]}


def _name_of(address: str) -> str:
    return address.lstrip("/").replace("/", "_")


SETTABLE: dict[str, Name] = _table()
"""pitch, formant, ..., gain_in, gain_out, bypass, mute, f0_method, voice."""
MEASURED: frozenset[str] = frozenset(field.name for field in fields(protocol.Stats)) - frozenset(SETTABLE)
"""Read-only names: the fields of protocol.Stats."""


def find_settable(name: str) -> Name:
    """Return what can be set under this name; 'gain/in' and '/gain/in' are read as 'gain_in'. Raises ParamError."""
    key = _name_of(name)
    if key in SETTABLE:
        return SETTABLE[key]
    if key in MEASURED:
        raise ParamError(f"'{key}' is measured and cannot be set; these can: {', '.join(SETTABLE)}")
    raise ParamError(f"unknown name '{name}'; known: {', '.join(SETTABLE)}")


def parse_value(name: Name, text: str) -> str | int | float:
    """Return a command line's text as the value to send. Raises ParamError that says what the name takes."""
    if name.kind is Kind.TEXT:
        if not text.strip():
            raise ParamError(f"{name.name} takes a name, not an empty text")
        return text
    if name.kind is Kind.SWITCH:
        word = text.strip().lower()
        if word in _ON or word in _OFF:
            return int(word in _ON)
        raise ParamError(f"{name.name} takes on or off, not '{text}'")
    try:
        number = float(text)
    except ValueError:
        raise ParamError(f"{name.name} takes a number, not '{text}'") from None
    if not math.isfinite(number):
        raise ParamError(f"{name.name} takes a finite number, not '{text}'")
    return number
