"""A small box to choose one of a few things: nothing changes before Enter or a click."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.markup import escape
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Static

from rvcctl.widgets.row_list import RowList
from rvcctl.widgets.safety_keys import SAFETY_KEYS


class ChoiceList(RowList):
    """The things to choose from; the present one carries a sign."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "pick", "choose", show=False)]

    class Picked(Message):
        """One was chosen."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self, options: tuple[tuple[str, str], ...], present: int | None) -> None:
        super().__init__(id="choices")
        self._options = options
        self._present = present
        self.cursor = present or 0
        self.styles.height = len(options)

    def row_count(self) -> int:
        """Return how many there are."""
        return len(self._options)

    def draw_row(self, index: int, cells: int, plain: Style) -> list[Segment]:
        """Return sign, name and explanation."""
        name, text = self._options[index]
        sign = "●" if index == self._present else " "
        width = max(len(name) for name, _ in self._options)
        return [
            Segment(f"{sign} {set_cell_size(name, width)}  ", plain + Style(bold=True)),
            Segment(text, self.part("dim")),
        ]

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Choose what is under the mouse."""
        index = self.row_at(event.y)
        if index is not None and event.button == 1:
            self.cursor = index
            self.action_pick()

    def action_pick(self) -> None:
        """Choose the row under the cursor."""
        self.post_message(self.Picked(self.cursor))


class ChoiceScreen(ModalScreen[int | None]):
    """Gives the index of what was chosen, None when nothing was. options: (name, explanation). present: the one that holds."""

    AUTO_FOCUS = "*"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "leave"), *SAFETY_KEYS]

    def __init__(self, title: str, options: tuple[tuple[str, str], ...], present: int | None = None) -> None:
        super().__init__()
        self._heading = title
        self._options = options
        self._present = present

    def compose(self) -> ComposeResult:
        """Lay out the box."""
        with Vertical(id="choice", classes="box") as box:
            box.border_title = escape(self._heading)
            yield ChoiceList(self._options, self._present)
            yield Static("enter or click chooses · esc leaves", classes="hint")

    def on_choice_list_picked(self, message: ChoiceList.Picked) -> None:
        """Give back what was chosen."""
        self.dismiss(message.index)
