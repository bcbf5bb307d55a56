"""Overload, as the user has it: nothing audible gets through because blocks are late; and the log's line about late blocks."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from rvcd.ipc.worker_stats import WorkerStats

WINDOW_S = 1.0
"""What the state is judged by."""
BEGINS_SHARE, ENDS_SHARE = 0.9, 0.5
"""So much of what was played in the window must have been missing for an overload to begin, and to go on."""
LINE_S = 10.0
LINE_SHARE = 0.1
"""The log has a line where more than this part of the last ten seconds' blocks was late."""


@dataclass(frozen=True)
class Look:
    """At one moment: samples that the device has played, and those among them that were missing."""

    at_s: float
    played_samples: int
    late_samples: int


@dataclass(frozen=True)
class LateBlocks:
    """Of the last ten seconds."""

    late: int
    all: int


class OverloadWatch:
    """Call look() about ten times a second.

    active: whether nothing audible gets through at the moment. many_late: whether late_blocks() had something to tell last.
    """

    def __init__(self) -> None:
        self.active = self.many_late = False
        self._looks: deque[Look] = deque()
        self._line_at_s = 0.0
        self._counted = (0.0, 0.0, 0.0)

    def look(self, now_s: float, played_samples: int, late_samples: int) -> bool:
        """Take in the callback's counters; return whether `active` has changed."""
        self._looks.append(Look(now_s, played_samples, late_samples))
        while len(self._looks) > 2 and self._looks[1].at_s <= now_s - WINDOW_S:
            self._looks.popleft()
        first = self._looks[0]
        played = played_samples - first.played_samples
        if now_s - first.at_s < WINDOW_S or played <= 0:
            return False
        share = (late_samples - first.late_samples) / played
        was, self.active = self.active, share >= (ENDS_SHARE if self.active else BEGINS_SHARE)
        return was is not self.active

    def late_blocks(self, now_s: float, stats: WorkerStats) -> LateBlocks | None:
        """Return the last ten seconds' blocks if too many of them were late, once in ten seconds; None otherwise."""
        if now_s < self._line_at_s:
            return None
        self._line_at_s = now_s + LINE_S
        before, self._counted = self._counted, (stats.generation, stats.blocks + stats.skipped_blocks, stats.late_blocks)
        if before[0] != stats.generation:
            before = (0.0, 0.0, 0.0)  # another worker counts from nothing
        done, late = int(self._counted[1] - before[1]), int(self._counted[2] - before[2])
        self.many_late = done > 0 and late > LINE_SHARE * done
        return LateBlocks(late, done) if self.many_late else None
