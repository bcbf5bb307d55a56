"""What several pitch methods agree on, where nobody knows the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pitch_methods.clip import Floats
from rvcd.engine.pitch import PitchTrack

AGREE_CENTS = 50.0


def agreement(tracks: Sequence[PitchTrack], share: float = 0.75) -> Floats:
    """Return the median f0 (frames,) where at least `share` of the tracks are voiced and within 50 cents of it.

    0 where as many are unvoiced, NaN elsewhere.
    """
    heard = np.array([one.voiced for one in tracks])
    f0_hz = np.where(heard, np.array([one.f0_hz for one in tracks], float), np.nan)
    need = int(np.ceil(share * len(tracks)))
    truth = np.full(heard.shape[1], np.nan)
    truth[(~heard).sum(axis=0) >= need] = 0.0
    for frame in np.flatnonzero(heard.sum(axis=0) >= need):
        middle = np.nanmedian(f0_hz[:, frame])
        if np.sum(np.abs(1200 * np.log2(f0_hz[:, frame] / middle)) < AGREE_CENTS) >= need:
            truth[frame] = middle
    return truth
