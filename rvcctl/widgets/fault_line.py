"""What is wrong, in the daemon's own words: what is wanted does not run, blocks are late, the monitor, or what is around rvcd.

Takes no room while all is well.
"""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from rvcd import protocol

NOTHING = ("", "")


def said_of(stats: protocol.Stats | None) -> tuple[str, str]:
    """Return the word and the sentence for what weighs most of what is known."""
    if stats is None:
        return NOTHING
    known = (("FAULT", stats.fault), ("LATE", stats.advice), ("HINT", stats.hint), ("MONITOR", stats.monitor_problem))
    return next((said for said in known if said[1]), NOTHING)


class FaultLine(Widget):
    """One sentence on at most two rows. Set `said`: the word before it and the sentence; an empty sentence hides the widget."""

    said: reactive[tuple[str, str]] = reactive(NOTHING, layout=True)

    def on_mount(self) -> None:
        """Begin with nothing to say."""
        self.display = False

    def watch_said(self, said: tuple[str, str]) -> None:
        """Appear with a sentence and disappear without one."""
        self.display = bool(said[1])

    def render(self) -> Content:
        """Return a sign, the word and the sentence: nothing depends on the colour."""
        word, sentence = self.said
        return Content.assemble((f"▲ {word}  ", "bold"), sentence)
