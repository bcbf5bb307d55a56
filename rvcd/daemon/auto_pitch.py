"""pitch_mode "auto": the transposition that brings the speaker's median pitch to the voice's register. No I/O, no clock.

It follows the voiced speech of about the last minute, moves in whole semitones only, and in a pause, so that no word is bent.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

MEMORY_S = 60.0
"""Voiced speech that counts."""
LEAST_S = 3.0
"""Voiced speech before it moves for the first time: a phrase or two."""
HYSTERESIS_SEMITONES = 0.75
"""It stays while it is no further off than this: half a semitone would let it go to and fro."""
PAUSE_S = 0.4
"""Unvoiced and quiet for so long is a pause: the longest consonants take half of it."""
QUIETER_DB = 10.0
"""Quiet is that far below the usual level of the voiced speech."""
FURTHEST_SEMITONES = 24


@dataclass(frozen=True)
class _Heard:
    semitones: float  # above 1 Hz
    level_dbfs: float
    seconds: float


class AutoPitch:
    """Fed with what each block says of the speaker. semitones: the transposition now, whole."""

    def __init__(self, semitones: int = 0) -> None:
        """semitones: to begin with, until enough has been heard."""
        self.semitones = semitones
        self._register_hz = 0.0
        self._heard: deque[_Heard] = deque()
        self._voiced_s = self._quiet_s = 0.0

    @property
    def ready(self) -> bool:
        """Whether enough of the speaker has been heard."""
        return self._voiced_s >= LEAST_S

    @property
    def speaker_hz(self) -> float:
        """The speaker's median, 0.0 while nothing was heard."""
        return 2 ** (self._median() / 12) if self._heard else 0.0

    def use_register(self, register_hz: float) -> None:
        """Another voice is live: go to its register at once, as the voice changes in any case. register_hz 0: not known."""
        if register_hz == self._register_hz:
            return
        is_first = self._register_hz == 0.0
        self._register_hz = register_hz
        if register_hz and self.ready and not is_first:
            self.semitones = _whole(self._wanted())
        elif register_hz and self.ready:
            self._move()

    def hear(self, seconds: float, f0_hz: float, voiced: bool, level_dbfs: float) -> bool:
        """Take in one block: its length, its newest pitch and its level. Returns whether the transposition moved."""
        if voiced and f0_hz > 0:
            self._heard.append(_Heard(12 * math.log2(f0_hz), level_dbfs, seconds))
            self._voiced_s += seconds
            while self._voiced_s - self._heard[0].seconds >= MEMORY_S:
                self._voiced_s -= self._heard.popleft().seconds
            self._quiet_s = 0.0
            return False
        is_quiet = not self._heard or level_dbfs <= self._usual_level_dbfs() - QUIETER_DB
        self._quiet_s = self._quiet_s + seconds if is_quiet else 0.0
        if self._quiet_s < PAUSE_S or not self._register_hz or not self.ready:
            return False
        return self._move()

    def _move(self) -> bool:
        wanted = self._wanted()
        if abs(wanted - self.semitones) <= HYSTERESIS_SEMITONES:
            return False
        before, self.semitones = self.semitones, _whole(wanted)
        return self.semitones != before

    def _wanted(self) -> float:
        return 12 * math.log2(self._register_hz) - self._median()

    def _median(self) -> float:
        return _weighted_median([(one.semitones, one.seconds) for one in self._heard])

    def _usual_level_dbfs(self) -> float:
        return _weighted_median([(one.level_dbfs, one.seconds) for one in self._heard])


def _whole(semitones: float) -> int:
    return max(-FURTHEST_SEMITONES, min(FURTHEST_SEMITONES, round(semitones)))


def _weighted_median(values: list[tuple[float, float]]) -> float:
    values.sort()
    half, so_far = sum(weight for _, weight in values) / 2, 0.0
    for value, weight in values:
        so_far += weight
        if so_far >= half:
            return value
    return values[-1][0]
