"""Names as people type them: without regard to case, numbers as text, and what may have been meant. Stdlib only."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

MAX_DIGITS = 4
"""A text of more digits is no slot's and no index's number."""
HINTS_FROM = 64
"""Names that a wrong one is compared with for a did-you-mean: more take milliseconds, and anybody may ask."""


def whole_in(text: str) -> int | None:
    """Return the number that a text is, as a tablet sends what was typed into a field; None where it is none."""
    word = text.strip()
    return int(word) if word.isascii() and word.isdigit() and len(word) <= MAX_DIGITS else None


def find_name(wanted: str, names: Sequence[str]) -> str | None:
    """Return the name that is meant: exactly this one, else the only one that differs in case alone."""
    if wanted in names:
        return wanted
    key = wanted.casefold()
    alike = [name for name in names if name.casefold() == key]
    return alike[0] if len(alike) == 1 else None


def did_you_mean(wanted: str, names: Sequence[str], otherwise: str) -> str:
    """Return "did you mean 'Anna'?" where a name begins like what was wanted or is close to it, else `otherwise`."""
    key = wanted.strip().casefold()
    by_key = {name.casefold(): name for name in names[:HINTS_FROM]}
    begins = [name for name in by_key if name.startswith(key)] if key else []
    close = begins[:1] or difflib.get_close_matches(key, by_key, n=1, cutoff=0.5)
    return f"did you mean '{by_key[close[0]]}'?" if close else otherwise
