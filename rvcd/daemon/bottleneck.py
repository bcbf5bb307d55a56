"""Why blocks come late, and what would help there: one sentence from the times of the stages. No torch, no state of others."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

from rvcd.ipc.worker_stats import WorkerStats

KEPT_LOOKS = 50
"""Blocks that the medians are of, one a look: some seconds."""
ENOUGH_SHARE = 0.8
"""A block that computes for at most this part of the time it has is not late by its own doing."""
RETRIEVAL_SHARE, PITCH_SHARE = 0.15, 0.25
"""Parts of a block's time beyond which retrieval and pitch are what to look at. Usual are 1 % and 3 to 10 %."""
HOLD_S = 3.0
FAST_METHOD = "swift"
LONGEST_PRESET = "safe"


@dataclass(frozen=True)
class Stages:
    """What a block takes, in milliseconds. synthesis_ms: without retrieval. waited_ms: of total_ms, without a processor."""

    encode_ms: float
    pitch_ms: float
    retrieval_ms: float
    synthesis_ms: float
    total_ms: float
    waited_ms: float = 0.0

    @property
    def computed_ms(self) -> float:
        """What a block takes where nothing else wants the processor."""
        return self.total_ms - self.waited_ms


class StageWatch:
    """Call look() about ten times a second. usual: the medians of the last blocks, None before the first."""

    def __init__(self) -> None:
        self._looks: deque[Stages] = deque(maxlen=KEPT_LOOKS)
        self._seen = (0.0, 0.0)

    def look(self, stats: WorkerStats) -> None:
        """Take in the newest block, once. Another worker's blocks begin anew."""
        if stats.generation != self._seen[0]:
            self._looks.clear()
        if (stats.generation, stats.blocks) == self._seen:
            return
        self._seen = (stats.generation, stats.blocks)
        if stats.total_ms > 0:
            stages = (stats.encode_ms, stats.pitch_ms, stats.retrieval_ms, stats.synthesis_ms, stats.total_ms, stats.waited_ms)
            self._looks.append(Stages(*stages))

    @property
    def usual(self) -> Stages | None:
        names = Stages.__dataclass_fields__
        return Stages(**{name: median(getattr(look, name) for look in self._looks) for name in names}) if self._looks else None


class Held:
    """A sentence that changes in its numbers all the time, held so long that it can be read."""

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self._hold_s, self._sentence, self._until_s = hold_s, "", 0.0

    def show(self, sentence: str, now_s: float) -> str:
        """Return what to show now. "" shows nothing at once, and lets the next sentence be shown at once."""
        if not sentence or not self._sentence or now_s >= self._until_s:
            self._sentence, self._until_s = sentence, now_s + self._hold_s
        return self._sentence


def advice(stages: Stages, *, deadline_ms: float, f0_method: str, latency_preset: str) -> str:
    """Return which stage is over its share and what would help there. deadline_ms: the time a block may take."""
    may = f"of the {deadline_ms:.0f} ms that a block may take"
    if stages.computed_ms <= ENOUGH_SHARE * deadline_ms:
        waits = f" and waits another {stages.waited_ms:.0f} for the processor" if stages.waited_ms >= 1.0 else ""
        return (
            f"a block takes {stages.computed_ms:.0f} {may}{waits}: another program holds the processor; "
            "close it, or let rvcd go before it (`rvcd check`)"
        )
    limits = {
        "retrieval": stages.retrieval_ms - RETRIEVAL_SHARE * stages.total_ms,
        "pitch": stages.pitch_ms - PITCH_SHARE * stages.total_ms if f0_method != FAST_METHOD else 0.0,
    }
    worst = max(limits, key=lambda name: limits[name])
    if limits[worst] <= 0:
        return f"the voice takes {stages.computed_ms:.0f} {may}: {_for_the_voice(stages, latency_preset)}"
    if worst == "retrieval":
        return f"the voice's index takes {stages.retrieval_ms:.0f} {may}: set index_rate 0, or use a smaller index"
    return f"the pitch method {f0_method} takes {stages.pitch_ms:.0f} {may}: choose f0_method {FAST_METHOD}"


def _for_the_voice(stages: Stages, latency_preset: str) -> str:
    if latency_preset != LONGEST_PRESET:
        return f"choose latency_preset {LONGEST_PRESET}"
    if stages.encode_ms > stages.synthesis_ms:
        return "its content encoder is too much for this processor; use a GPU, or the built-in voice"
    return "this processor is too slow for it; use a voice of a lower rate (32 kHz), or a GPU"
