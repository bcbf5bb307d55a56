"""A peak meter, -60..0 dBFS, with peak hold and a clip mark that stays until it is cleared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from rvcctl.messages import ClipClearRequested
from rvcd.protocol import SILENCE_DBFS

LOW_DBFS, HIGH_DBFS = -60.0, 0.0
HOT_DBFS, LOUD_DBFS = -6.0, -18.0
"""Where the bar changes colour: above LOUD it is a good level, above HOT there is little room left."""
HIGHEST_DBFS = 99.0
"""Floats can exceed full scale; the number shown has room for no more than this."""
HOLD_S = 1.5
FALL_DB_PER_S = 30.0
LABEL_CELLS, TEXT_CELLS = 7, 25
NUMBERS_CELLS = 17
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass
class Ballistics:
    """How the needle moves: up at once, down by FALL_DB_PER_S; the highest peak is held for HOLD_S. Seconds, dBFS."""

    level_dbfs: float = SILENCE_DBFS
    held_dbfs: float = SILENCE_DBFS
    clips: int = 0
    _held_at_s: float = 0.0
    _moved_at_s: float = 0.0
    _clips_seen: int | None = None

    def feed(self, peak_dbfs: float, clip_count: int, now_s: float) -> None:
        """Take in the newest peak and the daemon's count of clips; a count that shrank means that the daemon restarted."""
        fall_db = FALL_DB_PER_S * max(0.0, now_s - self._moved_at_s)
        self._moved_at_s = now_s
        self.level_dbfs = max(min(peak_dbfs, HIGHEST_DBFS), self.level_dbfs - fall_db, SILENCE_DBFS)
        if self.level_dbfs >= self.held_dbfs:
            self.held_dbfs, self._held_at_s = self.level_dbfs, now_s
        elif now_s - self._held_at_s > HOLD_S:
            self.held_dbfs = max(self.level_dbfs, self.held_dbfs - fall_db)
        if self._clips_seen is not None:
            self.clips += max(0, clip_count - self._clips_seen)
        self._clips_seen = clip_count

    def clear(self) -> None:
        """Forget the clips and the held peak."""
        self.clips = 0
        self.held_dbfs = self.level_dbfs


def bar_eighths(level_dbfs: float, cells: int) -> int:
    """Return how many eighths of a cell are lit in a bar of that many cells."""
    share = (level_dbfs - LOW_DBFS) / (HIGH_DBFS - LOW_DBFS)
    return round(min(max(share, 0.0), 1.0) * cells * 8)


def dbfs_text(level_dbfs: float) -> str:
    """Return a level in six characters; minus infinity for silence."""
    return "    -∞" if level_dbfs <= SILENCE_DBFS else f"{level_dbfs:6.1f}"


ZONES = ("low", "loud", "hot")


def _first_cell(dbfs: float, cells: int) -> int:
    """Return the first cell whose middle is above a level."""
    return math.floor((dbfs - LOW_DBFS) / (HIGH_DBFS - LOW_DBFS) * cells - 0.5) + 1


class LevelMeter(Widget):
    """One channel: label, bar, level, held peak, clips. Fed by show(); redrawn only when a cell changes."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "level-meter--low",
        "level-meter--loud",
        "level-meter--hot",
        "level-meter--rest",
        "level-meter--held",
        "level-meter--text",
        "level-meter--clip",
    }

    def __init__(self, label: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._label = label
        self.ballistics = Ballistics()
        self._drawn: tuple[int, int, str] | None = None

    def show(self, peak_dbfs: float, clip_count: int, now_s: float) -> None:
        """Feed the newest peak (dBFS), the daemon's clip count, and the time in seconds."""
        self.ballistics.feed(peak_dbfs, clip_count, now_s)
        self._redraw_if_changed()

    def clear_clips(self) -> None:
        """Forget clips and held peak."""
        self.ballistics.clear()
        self._redraw_if_changed()

    def on_click(self) -> None:
        """A click on a meter clears the clip marks."""
        self.post_message(ClipClearRequested())

    def _redraw_if_changed(self) -> None:
        cells = self._bar_cells()
        state = self.ballistics
        drawn = (bar_eighths(state.level_dbfs, cells), bar_eighths(state.held_dbfs, cells), self._text())
        if drawn != self._drawn:
            self._drawn = drawn
            self.refresh()

    def _bar_cells(self) -> int:
        return max(1, self.size.width - LABEL_CELLS - TEXT_CELLS)

    def _text(self) -> str:
        state = self.ballistics
        clip = "ok" if not state.clips else f"CLIP {state.clips}" if state.clips < 100 else "CLIP 99+"
        return f" {dbfs_text(state.level_dbfs)}  {dbfs_text(state.held_dbfs)}  {clip}"

    def render_line(self, y: int) -> Strip:
        """Return one row: all rows carry the bar, the first one also the label and the numbers."""
        plain = self.rich_style
        segments = [Segment(f" {self._label}".ljust(LABEL_CELLS) if y == 0 else " " * LABEL_CELLS, plain + Style(bold=True))]
        segments += self._bar()
        if y == 0:
            kind = "clip" if self.ballistics.clips else "text"
            head, clip = self._text()[:NUMBERS_CELLS], self._text()[NUMBERS_CELLS:]
            segments.append(Segment(head, self._style("text")))
            segments.append(Segment(clip, self._style(kind)))
        return Strip(segments).adjust_cell_length(self.size.width, plain)

    def _bar(self) -> list[Segment]:
        """The lit run, cut where the colour changes, then the rest with the held peak in it."""
        cells = self._bar_cells()
        full, eighths = divmod(bar_eighths(self.ballistics.level_dbfs, cells), 8)
        lit = "█" * full + (_EIGHTHS[eighths] if eighths else "")
        rest = ["·"] * (cells - len(lit))
        held = bar_eighths(self.ballistics.held_dbfs, cells)
        held_cell = min(cells - 1, held // 8) - len(lit) if held else -1
        cuts = (0, _first_cell(LOUD_DBFS, cells), _first_cell(HOT_DBFS, cells), cells)
        segments = [Segment(lit[start:end], self._style(part)) for part, start, end in zip(ZONES, cuts, cuts[1:], strict=False)]
        if held_cell >= 0:
            segments.append(Segment("·" * held_cell, self._style("rest")))
            segments.append(Segment("▌", self._style("held")))
        segments.append(Segment("".join(rest[held_cell + 1 :]), self._style("rest")))
        return [segment for segment in segments if segment.text]

    def _style(self, part: str) -> Style:
        return self.get_component_rich_style(f"level-meter--{part}")
