"""What the demo's singer sings: pitch and loudness as functions of time alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

QUIET_DBFS = -72.0
"""The room, while nobody sings."""
VIBRATO_HZ, VIBRATO_CENTS = 5.4, 28.0
GLIDE_S = 0.07
CONSONANT_S = 0.06
"""Unvoiced beginning of a note."""


@dataclass(frozen=True)
class SungNote:
    """One note of the phrase. midi: 69 is A4. peak_dbfs: at its loudest."""

    start_s: float
    length_s: float
    midi: int
    peak_dbfs: float


def _phrase() -> tuple[SungNote, ...]:
    written = (
        (57, 0.9, -16), (60, 0.5, -13), (64, 1.3, -9), (62, 0.5, -12), (60, 0.9, -14), (0, 0.7, 0),
        (57, 0.5, -15), (60, 0.5, -12), (65, 1.5, -7), (64, 0.6, -10), (60, 0.7, -13), (62, 1.6, -11), (0, 0.9, 0),
        (64, 0.6, -11), (67, 1.4, -5), (65, 0.5, -8), (64, 0.5, -10), (62, 0.6, -12), (57, 1.9, -14), (0, 1.4, 0),
    )  # fmt: skip
    notes, start_s = [], 0.4
    for midi, length_s, peak_dbfs in written:
        if midi:
            notes.append(SungNote(start_s, length_s, midi, peak_dbfs))
        start_s += length_s
    return (*notes, SungNote(start_s, 0.0, 57, QUIET_DBFS))


PHRASE = _phrase()
PHRASE_S = PHRASE[-1].start_s


def sung(at_s: float) -> tuple[float, float]:
    """Return (f0 in hertz, 0 when unvoiced; peak level in dBFS) at a time since the start."""
    inside_s = at_s % PHRASE_S
    index = next((i for i, note in enumerate(PHRASE) if note.start_s <= inside_s < note.start_s + note.length_s), None)
    if index is None:
        return 0.0, QUIET_DBFS + 2.0 * math.sin(9.0 * at_s)
    note = PHRASE[index]
    since_s, left_s = inside_s - note.start_s, note.start_s + note.length_s - inside_s
    if since_s < CONSONANT_S:
        return 0.0, note.peak_dbfs - 14.0
    before = PHRASE[index - 1].midi if index else note.midi
    glide = math.exp(-(since_s - CONSONANT_S) / GLIDE_S) * (before - note.midi)
    vibrato = VIBRATO_CENTS / 100 * min(1.0, since_s / 0.8) * math.sin(2 * math.pi * VIBRATO_HZ * since_s)
    swell_db = -10.0 * math.exp(-since_s / 0.12) - 9.0 * max(0.0, 1.0 - left_s / 0.25)
    tremor_db = 1.2 * math.sin(2 * math.pi * 11.0 * at_s)
    return 440.0 * 2 ** ((note.midi + glide + vibrato - 69) / 12), note.peak_dbfs + swell_db + tremor_db
