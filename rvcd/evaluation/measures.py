"""What is counted: words that differ, cents by which pitches differ, levels. numpy only."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
RATE_HZ = 16_000
"""What everything is judged at."""
GROSS_ERROR = 0.2
"""A pitch that is this part off is another one: an octave, a wrong harmonic."""


def words_of(text: str) -> list[str]:
    """Return the words of a text without case and punctuation."""
    return re.sub(r"[^a-z0-9' ]", " ", text.lower().replace("’", "'")).split()


def word_errors(said: list[str], heard: list[str]) -> int:
    """Return the least number of words to change, insert and leave out (Levenshtein 1966)."""
    distances = np.arange(len(heard) + 1)
    for i, word in enumerate(said, start=1):
        before = distances.copy()
        distances[0] = i
        for j, other in enumerate(heard, start=1):
            distances[j] = min(before[j] + 1, distances[j - 1] + 1, before[j - 1] + (word != other))
    return int(distances[-1])


@dataclass(frozen=True)
class PitchAgreement:
    """median_cents: of the absolute difference where both are voiced. agreement: share of frames voiced alike, 0..1.

    gross: share of the frames voiced in both that are more than GROSS_ERROR off.
    """

    median_cents: float
    agreement: float
    gross: float = float("nan")


def pitch_agreement(
    wanted_hz: FloatArray, wanted_voiced: NDArray[np.bool_], made_hz: FloatArray, made_voiced: NDArray[np.bool_]
) -> PitchAgreement:
    """Compare two f0 tracks (T,) frame by frame, over the length of the shorter. NaN where there is nothing to compare."""
    T = min(len(wanted_hz), len(made_hz))
    both = wanted_voiced[:T] & made_voiced[:T]
    alike = float(np.mean(wanted_voiced[:T] == made_voiced[:T])) if T else float("nan")
    if not both.any():
        return PitchAgreement(float("nan"), alike)
    cents = 1200 * np.log2(made_hz[:T][both] / wanted_hz[:T][both])
    off = np.abs(made_hz[:T][both] / wanted_hz[:T][both] - 1)
    return PitchAgreement(float(np.median(np.abs(cents))), alike, float(np.mean(off > GROSS_ERROR)))


def semitones_to(median_hz: float, register_hz: float) -> int:
    """Return the whole semitones from one register to another, within -24..24; 0 where either is unknown."""
    if not (median_hz > 0 and register_hz > 0):
        return 0
    return int(np.clip(round(12 * np.log2(register_hz / median_hz)), -24, 24))


def median_f0_hz(f0_hz: FloatArray, voiced: NDArray[np.bool_]) -> float:
    """Return the middle of the voiced frames' f0, 0 when there is none."""
    return float(np.median(f0_hz[voiced])) if voiced.any() else 0.0


def cosine(a: FloatArray, b: FloatArray) -> float:
    """Return the cosine of the angle between two vectors."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-12))


def at_level(audio: FloatArray, rms_dbfs: float = -23.0) -> FloatArray:
    """Return audio scaled to one loudness, because judges should not judge that; its peaks stay below full scale."""
    rms = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if len(audio) else 0.0
    if rms < 1e-5:
        return audio
    gain = min(10 ** (rms_dbfs / 20) / rms, 0.99 / float(np.abs(audio).max()))
    return (audio * gain).astype(np.float32)
