"""The scale under the meters: decibel marks and the titles of the numbers."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from rvcctl.widgets.level_meter import HIGH_DBFS, LABEL_CELLS, LOW_DBFS, TEXT_CELLS

MARKS_DBFS = (-60, -50, -40, -30, -18, -6, 0)


def scale_text(width: int) -> str:
    """Return the scale for meters of that width: each number stands around its level's cell."""
    cells = max(1, width - LABEL_CELLS - TEXT_CELLS)
    row = [" "] * (LABEL_CELLS + cells)
    for mark in MARKS_DBFS:
        text = str(mark)
        cell = LABEL_CELLS + round((mark - LOW_DBFS) / (HIGH_DBFS - LOW_DBFS) * cells)
        start = min(max(LABEL_CELLS, cell - len(text) // 2), LABEL_CELLS + cells - len(text))
        row[start : start + len(text)] = text
    return "".join(row) + "   dBFS    peak  clip"


class LevelScale(Widget):
    """One row, aligned with LevelMeter's bar."""

    def render(self) -> Content:
        """Return the row of marks."""
        return Content(scale_text(self.size.width)[: self.size.width])
