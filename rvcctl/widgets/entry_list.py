"""Voices in their slots and presets under their numbers: one row each, Enter or a click chooses."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType

from rvcctl.messages import PresetPicked, PresetUnwanted, VoicePicked
from rvcctl.view import Entry
from rvcctl.widgets.row_list import RowList

NUMBER_CELLS = 3


class EntryList(RowList):
    """Numbered names; one may be in use, one may be on its way. Fed by show()."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "pick", "choose", show=False)]
    IN_USE: ClassVar[str]
    """What is said of the one in use."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.entries: tuple[Entry, ...] | None = None
        self._in_use = ""
        self._coming = ""

    def show(self, entries: tuple[Entry, ...] | None, in_use: str, coming: str = "") -> None:
        """Show entries (None: not known yet), by name the one in use, and the one that is being loaded."""
        if (entries, in_use, coming) == (self.entries, self._in_use, self._coming):
            return
        first = self.entries is None
        self.entries, self._in_use, self._coming = entries, in_use, coming
        if first:
            self.cursor = next((row for row, entry in enumerate(entries or ()) if entry.name == in_use), 0)
        self.refresh_rows()

    def row_count(self) -> int:
        """Return how many entries are listed."""
        return len(self.entries or ())

    def empty_text(self) -> str:
        """Return what to say when there are none."""
        return "not listed yet" if self.entries is None else self.NONE

    NONE: ClassVar[str]
    """What is said when there are none."""

    def draw_row(self, index: int, cells: int, plain: Style) -> list[Segment]:
        """Return number, sign, name, and what is to be said of it."""
        entry = (self.entries or ())[index]
        in_use, coming = entry.name == self._in_use, entry.name == self._coming
        sign, remark = ("◌", "loading…") if coming else ("●", self.IN_USE) if in_use else (" ", "")
        name_cells = max(1, cells - NUMBER_CELLS - 4 - len(remark))
        style = self.part("warn") if coming else self.part("value") if in_use else plain
        return [
            Segment(f"{entry.number:>{NUMBER_CELLS}} ", self.part("key")),
            Segment(f"{sign} {set_cell_size(entry.name, name_cells)}", style),
            Segment(f" {remark}", style),
        ]

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Choose what is under the mouse."""
        index = self.row_at(event.y)
        if index is not None and event.button == 1:
            self.cursor = index
            self.action_pick()

    def action_pick(self) -> None:
        """Choose the entry under the cursor."""
        if self.at_cursor is not None:
            self.picked(self.at_cursor)

    @property
    def at_cursor(self) -> Entry | None:
        """The entry under the cursor, None in an empty list."""
        return self.entries[self.cursor] if self.entries else None

    def picked(self, entry: Entry) -> None:
        """Say that an entry was chosen."""
        raise NotImplementedError


class VoiceList(EntryList):
    """The registry's voices."""

    IN_USE = "live"
    NONE = "no voices: put NAME.pth into a folder of voices.folders"

    def footnote(self) -> str:
        """Return the keys that concern voices."""
        return "enter or 1-9 · k speaker"

    def picked(self, entry: Entry) -> None:
        """Ask for the voice."""
        self.post_message(VoicePicked(entry.name))


class PresetList(EntryList):
    """The saved parameter sets."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("delete", "remove", "delete", show=False)]
    IN_USE = "in use"
    NONE = "no presets yet"

    def footnote(self) -> str:
        """Return the keys that concern presets."""
        return "ctrl+s save · delete"

    def picked(self, entry: Entry) -> None:
        """Ask for the preset."""
        self.post_message(PresetPicked(entry.name))

    def action_remove(self) -> None:
        """Ask to delete the preset under the cursor."""
        if self.at_cursor is not None:
            self.post_message(PresetUnwanted(self.at_cursor.name))
