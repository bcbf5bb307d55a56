"""The note that is being sung, how far off it is, and its frequency."""

from __future__ import annotations

from dataclasses import dataclass

from textual import events
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from rvcctl.widgets.big_text import big_text
from rvcd.protocol import note_of

KEEP_S = 0.6
"""A note stays this long after the voice stops: consonants would make it flicker."""
IN_TUNE_CENTS = 10.0
LARGE_ROWS, LARGE_CELLS = 7, 46
"""From this room on a note like G#3 with its cents fits in letters of double size."""


@dataclass(frozen=True)
class NoteModel:
    """What is shown. voiced: sounding now (False: the last note, or none when note is '-')."""

    note: str = "-"
    cents: int = 0
    hz_tenths: int = 0
    voiced: bool = False


class NoteMemory:
    """Keeps the last note for KEEP_S. Times in seconds."""

    def __init__(self) -> None:
        self._last = NoteModel()
        self._voiced_at_s = float("-inf")

    def feed(self, f0_hz: float, now_s: float) -> NoteModel:
        """Take in the newest pitch (0 when unvoiced) and return what to show."""
        note, cents = note_of(f0_hz)
        if note != "-":
            self._last = NoteModel(note, round(cents), round(10 * f0_hz), True)
            self._voiced_at_s = now_s
            return self._last
        if now_s - self._voiced_at_s < KEEP_S:
            return NoteModel(self._last.note, self._last.cents, self._last.hz_tenths, False)
        return NoteModel()


def tuner_text(cents: int, cells: int) -> str:
    """Return a needle between flat and sharp, at most `cells` wide, with the exact note in the middle."""
    inner = max(3, (cells - 5) // 2 * 2 + 1)
    row = ["─"] * inner
    row[inner // 2] = "┼"
    row[min(max(round((cents + 50) / 100 * (inner - 1)), 0), inner - 1)] = "◆"
    return "♭ " + "".join(row) + " ♯"


class NoteDisplay(Widget):
    """Big note, cents and hertz beside it, a tuner's needle below. Fed by show()."""

    model: reactive[NoteModel] = reactive(NoteModel())

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._memory = NoteMemory()

    def show(self, f0_hz: float, now_s: float) -> None:
        """Show the newest pitch in hertz (0 when unvoiced)."""
        self.model = self._memory.feed(f0_hz, now_s)

    async def on_click(self, event: events.Click) -> None:
        """A click opens the choice of pitch methods."""
        event.stop()
        await self.run_action("app.choose_f0_method")

    def render(self) -> Content:
        """Return the note as large as the room allows."""
        model, width, height = self.model, self.size.width, self.size.height
        scale = 2 if height >= LARGE_ROWS and width >= LARGE_CELLS else 1
        rows = big_text(model.note, scale)
        style = "bold $text-primary" if model.voiced else "$foreground-muted"
        beside = self._beside()
        beside = [""] * ((len(rows) - len(beside)) // 2) + beside
        content: list[Content] = []
        for index, row in enumerate(rows):
            text = beside[index] if index < len(beside) else ""
            content.append(Content.assemble(" ", (row, style), "  ", text))
        content += [Content("")] * (len(rows) > 3)
        needle = tuner_text(model.cents, width - 2) if model.note != "-" else tuner_text(0, width - 2).replace("◆", "┼")
        in_tune = model.voiced and abs(model.cents) <= IN_TUNE_CENTS
        content.append(Content.styled(" " + needle, "$text-success" if in_tune else "$foreground-muted"))
        return Content("\n").join(content)

    def _beside(self) -> list[str]:
        model = self.model
        if model.note == "-":
            return ["unvoiced", "", ""]
        tuned = "in tune" if abs(model.cents) <= IN_TUNE_CENTS else "sharp" if model.cents > 0 else "flat"
        return [f"{model.cents:+d} cents", tuned if model.voiced else "(last)", f"{model.hz_tenths / 10:.1f} Hz"]
