"""A small box to type a name into."""

from __future__ import annotations

import re
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.markup import escape
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from rvcd.protocol import NAME_PATTERN, NAME_RULE

MAX_NAME_CHARACTERS = 64


class NameScreen(ModalScreen[str | None]):
    """Gives the name that was entered, None when there is none. taken: names that would be replaced."""

    AUTO_FOCUS = "*"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "leave")]

    def __init__(self, title: str, name: str = "", taken: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._heading = title
        self._initial = name
        self._taken = taken

    def compose(self) -> ComposeResult:
        """Lay out the box."""
        with Vertical(id="naming", classes="box") as box:
            box.border_title = escape(self._heading)
            yield Input(self._initial, placeholder="a name", max_length=MAX_NAME_CHARACTERS, select_on_focus=True)
            yield Static(self._remark(self._initial), id="remark", classes="hint")

    def on_input_changed(self, message: Input.Changed) -> None:
        """Say what would happen."""
        self.query_one("#remark", Static).update(self._remark(message.value))

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Give back the name if it can be one."""
        name = message.value.strip()
        if _is_name(name):
            self.dismiss(name)

    def _remark(self, text: str) -> str:
        name = text.strip()
        if name and not _is_name(name):
            return f"▲ a name has {NAME_RULE}"
        if name in self._taken:
            return f"▲ enter replaces '{name}' · esc leaves"
        return "enter saves · esc leaves; panic and mute work again then"


def _is_name(name: str) -> bool:
    return re.fullmatch(NAME_PATTERN, name) is not None
