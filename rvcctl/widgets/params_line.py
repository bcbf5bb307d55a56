"""The live parameters in one row."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

SHORT_NAMES: tuple[tuple[str, str, str], ...] = (
    ("/pitch", "pitch", "+g"),
    ("/formant", "formant", "+g"),
    ("/index_rate", "index", ".2f"),
    ("/protect", "protect", ".2f"),
    ("/rms_mix", "rms", ".2f"),
    ("/gate", "gate", "g"),
    ("/gain/in", "in", "+g"),
    ("/gain/out", "out", "+g"),
)
"""Address below /rvc, the word shown, and how its number is written."""


class ParamsLine(Widget):
    """Names and values. Set `values` to (address, number) pairs."""

    values: reactive[tuple[tuple[str, float], ...]] = reactive(())

    def render(self) -> Content:
        """Return the row; what is not known yet is a dash."""
        known = dict(self.values)
        pieces: list[str | tuple[str, str]] = []
        for address, word, spec in SHORT_NAMES:
            number = known.get(address)
            shown = "–" if number is None else "0" if number == 0 and spec == "+g" else format(round(number, 2), spec)
            pieces += [" " if not pieces else "  ", (f"{word} ", "$foreground-muted"), (shown, "bold")]
        return Content.assemble(*pieces)
