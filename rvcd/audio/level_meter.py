"""Peak, clipping and loudness of audio that passes by."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rvcd.audio.loudness_meter import LoudnessMeter

FULL_SCALE = 0.9999
"""From here on a sample is at full scale: 16 bits end at 0.99997."""
CLIPPED_RUN = 3
"""So many samples at full scale one after the other have been clipped; a single one may be a peak that was normalised."""


class LevelMeter:
    """Takes audio in blocks of any length, (T, channels), and keeps what a report says of it."""

    def __init__(self, rate_hz: int, channels: int = 1) -> None:
        """rate_hz: > 0. channels: of every block."""
        self._peak = 0.0
        self._loudness = LoudnessMeter(rate_hz, channels)
        self._last = np.zeros((CLIPPED_RUN - 1, channels), np.bool_)
        self._in_run = np.zeros((1, channels), np.bool_)
        self.clipped_samples = 0
        """Samples in runs of CLIPPED_RUN or more at full scale, over all channels."""
        self.samples = 0
        """Of each channel."""

    def feed(self, frames: NDArray[np.float32]) -> None:
        """Take in the next samples, (T, channels)."""
        if not len(frames):
            return
        magnitude = np.abs(frames)
        self._peak = max(self._peak, float(magnitude.max()))
        self.samples += len(frames)
        self._loudness.feed(frames)
        hot = np.concatenate((self._last, magnitude >= FULL_SCALE))
        run = hot[2:] & hot[1:-1] & hot[:-2]  # the last CLIPPED_RUN samples up to each one
        begins = run & ~np.concatenate((self._in_run, run[:-1]))
        self.clipped_samples += int(run.sum()) + (CLIPPED_RUN - 1) * int(begins.sum())
        self._last, self._in_run = hot[-(CLIPPED_RUN - 1) :], run[-1:]

    @property
    def peak(self) -> float:
        """The largest magnitude, linear."""
        return self._peak

    def peak_dbfs(self) -> float | None:
        """Return the peak; None for silence."""
        return 20 * math.log10(self._peak) if self._peak > 0 else None

    def loudness_lufs(self) -> float | None:
        """Return the integrated loudness; None for what is silent or too short."""
        return self._loudness.integrated_lufs()
