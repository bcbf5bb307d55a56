"""A parameter's place in its range as a row of cells."""

from __future__ import annotations

from rvcd.params import Param

TRACK, FILL, KNOB, HOME = "─", "━", "●", "┼"


def slider_text(param: Param, value: float | None, cells: int) -> tuple[str, int, int]:
    """Return (row of `cells` characters, first and end cell of its lit part).

    Lit is the way from zero, or from the low bound where zero is not inside the range, to the knob; of words the knob alone. HOME
    marks the default.
    """
    row = [TRACK] * cells
    row[cell_of(param, param.default, cells)] = HOME
    if value is None:
        return "".join(row), 0, 0
    knob = cell_of(param, value, cells)
    origin = knob if param.choices else cell_of(param, 0.0 if param.low < 0 < param.high else param.low, cells)
    first, end = min(origin, knob), max(origin, knob) + 1
    for cell in range(first, end):
        if row[cell] == TRACK:
            row[cell] = FILL
    row[knob] = KNOB
    return "".join(row), first, end


def cell_of(param: Param, value: float, cells: int) -> int:
    """Return the cell in which a value lies."""
    return min(max(round(param.normalised(value) * (cells - 1)), 0), cells - 1)


def value_of(param: Param, cell: int, cells: int) -> float:
    """Return the value in the middle of a cell; the first and the last are the bounds."""
    return param.from_normalised(cell / max(1, cells - 1))
