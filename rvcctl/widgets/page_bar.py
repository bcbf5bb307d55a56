"""The names of the pages with their keys; those on the screen are marked."""

from __future__ import annotations

from textual import events
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from rvcctl.messages import PageChosen

GAP = "  "


class PageBar(Widget):
    """One row. pages: (key, name) of each. Set `shown` to the names of the pages that can be seen; a click chooses one."""

    shown: reactive[frozenset[str]] = reactive(frozenset())

    def __init__(self, pages: tuple[tuple[str, str], ...], *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._pages = pages

    def render(self) -> Content:
        """Return the names between rules; a shown one stands in brackets."""
        pieces: list[tuple[str, str]] = [("─", "$panel-lighten-2")]
        for key, name in self._pages:
            left, right = ("[", "]") if name in self.shown else (" ", " ")
            style = "bold $foreground" if name in self.shown else "$foreground-muted"
            pieces += [(left, style), (key, "bold $accent"), (f" {name}", style), (f"{right}", style), (GAP, "")]
        used = sum(len(text) for text, _ in pieces)
        pieces.append(("─" * max(0, self.size.width - used), "$panel-lighten-2"))
        return Content.assemble(*pieces)

    def on_click(self, event: events.Click) -> None:
        """Choose the page whose name was clicked."""
        x = 1
        for key, name in self._pages:
            end = x + len(key) + len(name) + 3
            if x <= event.x < end:
                self.post_message(PageChosen(name))
            x = end + len(GAP)
