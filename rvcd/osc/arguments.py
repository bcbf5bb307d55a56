"""Reading arguments as clients really send them: tablets send only floats, some switches send booleans or a release 0."""

from __future__ import annotations

import math
import re

from rvcd.errors import ProtocolError
from rvcd.osc.codec import OscValue
from rvcd.protocol import NAME_PATTERN, NAME_RULE, ON_FROM

Args = tuple[OscValue, ...]
MAX_WHOLE = 2**31
_NAME = re.compile(NAME_PATTERN + r"\Z")


def number(args: Args, at: int = 0) -> float:
    """Return an int, float or boolean argument as a float. Raises ProtocolError for anything else, NaN and infinity."""
    value = args[at] if at < len(args) else None
    if not isinstance(value, int | float):
        raise ProtocolError(f"needs a number, not {_kind(value)}")
    if not math.isfinite(value):
        raise ProtocolError(f"needs a finite number, not {value}")
    return float(value)


def whole(args: Args, at: int = 0) -> int:
    """Return a number rounded to the nearest whole one. Raises ProtocolError as number does, and beyond 32 bits."""
    value = number(args, at)
    if abs(value) >= MAX_WHOLE:
        raise ProtocolError(f"{value:g} is no number that anything here has")
    return round(value)


def is_on(args: Args) -> bool:
    """Return a switch's argument: at or above 0.5 is on. Raises ProtocolError as number does."""
    return number(args) >= ON_FROM


def fires(args: Args) -> bool:
    """Return whether a trigger fires: on no argument, nil, or a number >= 0.5. Raises ProtocolError as number does."""
    return not args or args[0] is None or number(args) >= ON_FROM


def is_text(args: Args) -> bool:
    """Return whether the first argument is a string."""
    return bool(args) and isinstance(args[0], str)


def name_or_number(args: Args) -> str | int:
    """Return the first argument as a name of a voice or preset, or as a whole number.

    Raises ProtocolError for text that no name has, for anything but text and numbers, and when there is no argument.
    """
    if not is_text(args):
        return whole(args)
    name = str(args[0])
    if not _NAME.match(name):
        raise ProtocolError(f"a name has {NAME_RULE}")
    return name


def _kind(value: OscValue) -> str:
    return "text" if isinstance(value, str) else "a blob" if isinstance(value, bytes) else "nothing"
