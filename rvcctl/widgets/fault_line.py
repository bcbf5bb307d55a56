"""Why what is wanted does not run, in the daemon's own words. Takes no room while all is well."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget


class FaultLine(Widget):
    """One sentence on at most two rows. Set `fault`; "" hides the widget."""

    fault: reactive[str] = reactive("", layout=True)

    def on_mount(self) -> None:
        """Begin without a fault."""
        self.display = False

    def watch_fault(self, fault: str) -> None:
        """Appear with a fault and disappear without one."""
        self.display = bool(fault)

    def render(self) -> Content:
        """Return a sign, the word and the sentence: nothing depends on the colour."""
        return Content.assemble(("▲ FAULT  ", "bold"), self.fault)
