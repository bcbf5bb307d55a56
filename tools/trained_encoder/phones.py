"""The 39 phones of the CMU dictionary, and how rows of classes become phones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PHONES = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH", "K", "L", "M",
    "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
SILENCE = 0
"""The class of silence and noises in alignments, and CTC's blank."""
CLASSES = len(PHONES) + 1
CLASS_OF = {phone: number for number, phone in enumerate(PHONES, 1)}
UNKNOWN = -100
"""Of a frame within a word whose pronunciation was guessed: torch's losses leave it out."""


def collapse(classes: NDArray[np.integer]) -> list[int]:
    """(N,) best classes of a CTC head -> the phones they say: repeats once, no blanks."""
    kept = np.flatnonzero(np.r_[True, classes[1:] != classes[:-1]] & (classes != SILENCE))
    return [int(c) for c in classes[kept]]


CHANGE_COST = 3.0
"""Of a change of phone, as a logarithm: least errors on offline units of the first encoder trained here, of 0, 1 .. 5."""


def best_phones(logs: NDArray[np.floating]) -> list[int]:
    """(N, classes) logarithms of each unit's probabilities -> the phones they say, each change costing CHANGE_COST (Viterbi)."""
    score, came = logs[0].copy(), np.zeros(logs.shape, int)
    for n in range(1, len(logs)):
        best = int(score.argmax())
        changed = score[best] - CHANGE_COST
        came[n] = np.where(score >= changed, np.arange(score.size), best)
        score = np.maximum(score, changed) + logs[n]
    path = np.empty(len(logs), int)
    path[-1] = score.argmax()
    for n in range(len(logs) - 1, 0, -1):
        path[n - 1] = came[n, path[n]]
    return collapse(path)


def edit_distance(said: list[int], heard: list[int]) -> int:
    """Substitutions, insertions and deletions that make one of the other (Levenshtein)."""
    row = np.arange(len(heard) + 1)
    places = np.arange(len(heard) + 1)
    wanted = np.asarray(heard)
    for count, phone in enumerate(said, 1):
        best = np.minimum(row[1:] + 1, row[:-1] + (wanted != phone))
        # Insertions run along the row: least of what lies to the left and the way from there.
        row = np.minimum.accumulate(np.r_[count, best] - places) + places
    return int(row[-1])
