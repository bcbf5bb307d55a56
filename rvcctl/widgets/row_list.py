"""Rows under a cursor, drawn line by line: what the parameters, the voices and the presets have in common."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

MARK_CELLS = 3
"""The cursor's sign before every row, with a space on both sides."""


class RowList(Widget, can_focus=True):
    """A list that scrolls with its cursor. Subclasses say how many rows there are and draw one.

    The cursor's row carries a sign and, where the theme has it, a lighter ground; both only while the list has the focus.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "up", show=False),
        Binding("down", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("home", "first", "first", show=False),
        Binding("end", "last", "last", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"row-list--{part}" for part in ("cursor", "dim", "key", "value", "warn")}

    cursor: reactive[int] = reactive(0, repaint=False)

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._top = 0

    def row_count(self) -> int:
        """Return how many rows there are."""
        raise NotImplementedError

    def draw_row(self, index: int, cells: int, plain: Style) -> list[Segment]:
        """Return one row's segments, without the cursor's sign. plain: the row's own style."""
        raise NotImplementedError

    def empty_text(self) -> str:
        """Return what to say when there are no rows."""
        return ""

    def footnote(self) -> str:
        """Return what is said below the rows where there is room; lines of it are separated by line breaks."""
        return ""

    def shown_rows(self) -> range:
        """Return the rows that are shown, with the cursor's among them; the list scrolls within them."""
        return range(self.row_count())

    def head(self) -> list[Segment] | None:
        """Return a line that stands above the rows and does not scroll, or None."""
        return None

    @property
    def _head_lines(self) -> int:
        return int(self.head() is not None)

    @property
    def _row_lines(self) -> int:
        """How many rows can be seen at once."""
        return max(1, self.size.height - self._head_lines)

    def refresh_rows(self) -> None:
        """Redraw after the rows changed; the cursor stays within them."""
        self.cursor = min(self.cursor, max(0, self.row_count() - 1))
        self._keep_cursor_visible()
        self.refresh()

    def refresh_row(self, index: int) -> None:
        """Redraw one row if it can be seen."""
        if self._top <= index < self._top + self._row_lines:
            self.refresh(Region(0, index - self._top + self._head_lines, self.size.width, 1))

    def row_at(self, y: int) -> int | None:
        """Return which row is drawn at a line of the widget."""
        index = self._top + y - self._head_lines
        return index if y >= self._head_lines and index in self.shown_rows() else None

    def validate_cursor(self, cursor: int) -> int:
        """Keep the cursor on a row."""
        return min(max(cursor, 0), max(0, self.row_count() - 1))

    def watch_cursor(self, before: int, after: int) -> None:
        """Redraw the two rows concerned, or all when the list had to scroll."""
        top = self._top
        self._keep_cursor_visible()
        if self._top != top:
            self.refresh()
        else:
            self.refresh_row(before)
            self.refresh_row(after)

    def on_resize(self) -> None:
        """Keep the cursor in sight."""
        self._keep_cursor_visible()
        self.refresh()

    def on_focus(self) -> None:
        """Show the cursor."""
        self.refresh()

    def on_blur(self) -> None:
        """Hide the cursor."""
        self.refresh()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Walk up."""
        event.stop()
        self.cursor -= 1

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Walk down."""
        event.stop()
        self.cursor += 1

    def action_move(self, rows: int) -> None:
        """Walk by so many rows."""
        self.cursor += rows

    def action_page(self, pages: int) -> None:
        """Walk by what can be seen at once."""
        self.cursor += pages * max(1, self._row_lines - 1)

    def action_first(self) -> None:
        """Walk to the first row."""
        self.cursor = 0

    def action_last(self) -> None:
        """Walk to the last row."""
        self.cursor = self.row_count() - 1

    def render_line(self, y: int) -> Strip:
        """Return one row with the cursor's sign before it."""
        width, plain = self.size.width, self.rich_style
        index = self.row_at(y)
        if y == 0 and (head := self.head()) is not None:
            return Strip(head).adjust_cell_length(width, plain)
        if index is None:
            text = " " * MARK_CELLS + self._text_below(y)
            return Strip([Segment(text, self.part("dim"))]).adjust_cell_length(width, plain)
        at_cursor = self.has_focus and index == self.cursor
        style = self.part("cursor") if at_cursor else plain
        segments = [Segment(" ▸ " if at_cursor else " " * MARK_CELLS, style)]
        segments += self.draw_row(index, max(0, width - MARK_CELLS - 1), style)
        segments = list(Strip(segments).adjust_cell_length(max(0, width - 1), style))
        segments.append(Segment(self._more(y, index), self.part("dim")))
        if at_cursor:
            segments = list(Segment.apply_style(segments, post_style=Style(bgcolor=style.bgcolor)))
        return Strip(segments).adjust_cell_length(width, style)

    def _text_below(self, y: int) -> str:
        """Return what stands at a line below the rows: why there are none, and the footnote, after a blank line if it fits."""
        count, height = len(self.shown_rows()), self.size.height
        if y == 0:
            return self.empty_text()
        lines, rows_end = self.footnote().split("\n"), max(count, 1) + self._head_lines
        first = max(rows_end, min(rows_end + 1, height - len(lines)))
        return lines[y - first] if first <= y < first + len(lines) else ""

    def _more(self, y: int, index: int) -> str:
        """Return an arrow at the edge beyond which there are more rows."""
        if y == self._head_lines and index > self.shown_rows().start:
            return "↑"
        return "↓" if y == self.size.height - 1 and index < self.shown_rows().stop - 1 else " "

    def part(self, name: str) -> Style:
        """Return the style of one of COMPONENT_CLASSES."""
        return self.get_component_rich_style(f"row-list--{name}")

    def _keep_cursor_visible(self) -> None:
        height, rows = self._row_lines, self.shown_rows()
        last_top = max(rows.start, rows.stop - height)
        self._top = min(max(self._top, self.cursor - height + 1, rows.start), self.cursor, last_top)
