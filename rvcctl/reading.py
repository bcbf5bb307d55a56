"""Reading what a daemon sent: it may be of another version, or no daemon at all."""

from __future__ import annotations

import math

from rvcd.errors import ProtocolError
from rvcd.osc.codec import OscMessage, OscValue, decode

MAX_ARGUMENTS = 128
"""Of one message. /rvc/stats has about half as many; a newer daemon may send more."""


def messages_of(datagram: bytes) -> list[OscMessage]:
    """Return the messages of a datagram. Raises ProtocolError, as the codec does."""
    return decode(datagram, max_arguments=MAX_ARGUMENTS)


def first_arg(message: OscMessage) -> OscValue:
    """Return a message's first argument. Raises ProtocolError when it has none."""
    if not message.args:
        raise ProtocolError(f"{message.address} was answered without a value")
    return message.args[0]


def number_of(arg: OscValue) -> float | None:
    """Return a finite number from an int, float or bool argument, None for anything else."""
    if isinstance(arg, (int, float)) and math.isfinite(arg):
        return float(arg)
    return None


def clean_text(text: object, limit: int = 64) -> str:
    """Return printable text of at most limit characters: nothing a daemon sends may steer the terminal."""
    kept = "".join(char if char.isprintable() else "?" for char in str(text)[: limit + 1])
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"
