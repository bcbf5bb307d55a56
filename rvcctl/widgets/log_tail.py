"""The newest lines of the daemon's log."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget

from rvcctl.view import LogEntry

SIGNS: dict[str, tuple[str, str]] = {
    "debug": ("·", "debug"),
    "info": ("•", "info"),
    "warning": ("▲", "warning"),
    "error": ("✕", "error"),
    "critical": ("✕", "error"),
}
"""Level: sign and component class. The sign tells the level without colour."""
INDENT_CELLS = 3


class LogTail(Widget, can_focus=True):
    """Wrapped lines, newest at the bottom; up and down walk through what is kept. Fed by show()."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "back(1)", "older", show=False),
        Binding("down", "back(-1)", "newer", show=False),
        Binding("pageup", "page(1)", "older page", show=False),
        Binding("pagedown", "page(-1)", "newer page", show=False),
        Binding("home", "oldest", "oldest", show=False),
        Binding("end", "newest", "newest", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"log-tail--debug", "log-tail--info", "log-tail--warning", "log-tail--error"}

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._lines: tuple[LogEntry, ...] = ()
        self._rows: list[tuple[str, str, str]] = []
        self._rows_back = 0

    def show(self, lines: Iterable[LogEntry]) -> None:
        """Show these lines, oldest first."""
        shown = tuple(lines)
        if shown != self._lines:
            self._lines = shown
            self._wrap()

    def on_resize(self) -> None:
        """Wrap anew."""
        self._wrap()

    def _wrap(self) -> None:
        """Break the lines to the width; who reads older rows goes on reading them while new ones come."""
        rows_before = len(self._rows)
        self._rows = []
        for line in self._lines:
            sign, kind = SIGNS.get(line.level, ("?", "info"))
            for piece in textwrap.wrap(line.text, max(8, self.size.width - INDENT_CELLS - 1)) or [""]:
                self._rows.append((sign, kind, piece))
                sign = " "
        if self._rows_back:
            self._go_back(self._rows_back + max(0, len(self._rows) - rows_before))
        self.refresh()

    def _go_back(self, rows: int) -> None:
        self._rows_back = min(max(0, rows), max(0, len(self._rows) - self.size.height))
        self.refresh()

    def action_back(self, rows: int) -> None:
        """Walk towards older rows."""
        self._go_back(self._rows_back + rows)

    def action_page(self, pages: int) -> None:
        """Walk by what can be seen at once."""
        self._go_back(self._rows_back + pages * max(1, self.size.height - 1))

    def action_oldest(self) -> None:
        """Walk to the oldest row."""
        self._go_back(len(self._rows))

    def action_newest(self) -> None:
        """Follow the log again."""
        self._go_back(0)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Older rows."""
        event.stop()
        self.action_back(2)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Newer rows."""
        event.stop()
        self.action_back(-2)

    def render_line(self, y: int) -> Strip:
        """Return one row: the level's sign before the first row of each line."""
        width, plain = self.size.width, self.rich_style
        if not self._rows:
            text = "   nothing logged yet" if y == 0 else ""
            return Strip([Segment(text, self._style("debug"))]).adjust_cell_length(width, plain)
        end = len(self._rows) - self._rows_back
        index = max(0, end - self.size.height) + y
        if index >= end:
            return Strip([]).adjust_cell_length(width, plain)
        sign, kind, text = self._rows[index]
        if self._rows_back and y == self.size.height - 1:
            text = f"↓ {self._rows_back} newer rows (end)"
            sign, kind = " ", "debug"
        style = self._style(kind)
        return Strip([Segment(f" {sign} ", style), Segment(text, style)]).adjust_cell_length(width, plain)

    def _style(self, kind: str) -> Style:
        return self.get_component_rich_style(f"log-tail--{kind}")
