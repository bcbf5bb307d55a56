"""A number's last seconds as a row of columns on a fixed scale, newest at the right."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

_EIGHTHS = " ▁▂▃▄▅▆▇█"
KEPT_COLUMNS = 512


class History(Widget):
    """Title with the present value, columns below (0..1; Textual's own Sparkline would scale to the data's extremes).

    over: columns above 1 are marked as an alarm when True (load); a ring may simply be full.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"history--title", "history--column", "history--over"}

    def __init__(self, title: str, *, over: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._title = title
        self._over = over
        self._text = ""
        self.columns: deque[float] = deque(maxlen=KEPT_COLUMNS)

    def show(self, column: float, text: str) -> None:
        """Append one column (0..1) and show text beside the title."""
        self.columns.append(column)
        self._text = text
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return the title row or one row of the columns."""
        width = self.size.width
        if y == 0:
            title = Segment(f" {self._title}  ", self.get_component_rich_style("history--title"))
            return Strip([title, Segment(self._text, self.rich_style)]).adjust_cell_length(width, self.rich_style)
        rows = max(1, self.size.height - 1)
        floor_eighths = (rows - y) * 8
        newest = list(self.columns)[-(width - 2) :] if width > 2 else []
        usual, alarm = self.get_component_rich_style("history--column"), self.get_component_rich_style("history--over")
        segments = [Segment(" " * (width - 1 - len(newest)), self.rich_style)]
        for value in newest:
            alarmed = self._over and value > 1.0
            eighths = max(1, round(min(max(value, 0.0), 1.0) * rows * 8)) - floor_eighths
            char = "!" if alarmed and y == 1 else _EIGHTHS[min(max(eighths, 0), 8)]
            segments.append(Segment(char, alarm if alarmed else usual))
        return Strip(list(Segment.simplify(segments))).adjust_cell_length(width, self.rich_style)
