"""The median of somebody's pitch, of any amount of speech."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rvcd.engine.pitch.track import PitchMethod
from rvcd.geometry import FRAMES_PER_SECOND

LEAST_VOICED_S = 2.0
CENTS_OF_A_BIN = 10
LOWEST_HZ, BINS = 40.0, 600
"""A histogram of five octaves: memory does not grow with the recordings."""


class Register:
    """Collects the pitch of voiced frames."""

    def __init__(self, method: PitchMethod) -> None:
        self._method = method
        self._counts = np.zeros(BINS, np.int64)

    def hear(self, audio_16k: NDArray[np.float32]) -> None:
        """Take a piece of speech (samples,)."""
        track = self._method.estimate(audio_16k)
        cents = 1200 * np.log2(track.f0_hz[track.voiced].astype(np.float64) / LOWEST_HZ)
        self._counts += np.bincount(np.clip(cents / CENTS_OF_A_BIN, 0, BINS - 1).astype(np.int64), minlength=BINS)

    @property
    def voiced_s(self) -> float:
        """How much voiced speech has been heard."""
        return float(self._counts.sum()) / FRAMES_PER_SECOND

    def median_hz(self) -> float:
        """Return the median on a logarithmic scale, to 0.1 Hz; 0.0 for less than LEAST_VOICED_S of voiced speech."""
        if self.voiced_s < LEAST_VOICED_S:
            return 0.0
        middle = int(np.searchsorted(np.cumsum(self._counts), self._counts.sum() / 2))
        return round(float(LOWEST_HZ * 2 ** ((middle + 0.5) * CENTS_OF_A_BIN / 1200)), 1)
