"""How far one key press moves a parameter, and how its value is written."""

from __future__ import annotations

import math

from rvcd.params import Param

OCTAVE_SEMITONES = 12.0
COARSE_STEPS = 5


def fine_step(param: Param) -> float:
    """Return the smallest change offered: the largest power of ten that is at most a fifth of the parameter's step; a word."""
    if param.choices:
        return param.step
    return 10.0 ** math.floor(math.log10(param.step / 5) + 1e-9)


def coarse_step(param: Param) -> float:
    """Return the large change: an octave for the pitch, else five steps; a single one for words."""
    if param.choices:
        return param.step
    return OCTAVE_SEMITONES if param.name == "pitch" else COARSE_STEPS * param.step


def snapped(param: Param, value: float, step: float) -> float:
    """Return value on the grid of step that goes through 0, within the parameter's range."""
    return param.clamp(round(round(value / step) * step, 6))


def decimals(param: Param) -> int:
    """Return how many digits after the point show a fine step."""
    return max(0, -math.floor(math.log10(fine_step(param)) + 1e-9))


def number_text(param: Param, value: float) -> str:
    """Return a value with the digits that its fine step needs; numbers that can be negative carry their sign, 0 none."""
    rounded = round(value, decimals(param)) + 0.0  # + 0.0: no minus before zero
    return f"{rounded:{'+' if param.low < 0 and rounded else ''}.{decimals(param)}f}"


def value_text(param: Param, value: float | None) -> str:
    """Return a value as people read it: a word where it has one, 'off' where that is what it does, '–' while it is unknown."""
    if value is None:
        return "–"
    if param.choices:
        return param.word(value)
    return "off" if param.low_is_off and value <= param.low else number_text(param, value)
