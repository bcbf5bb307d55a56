"""Takes direct current out of the microphone's signal, ahead of the gate, which would take it for sound."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rvcd.engine.dsp.levels import FloatArray, finite, hop_samples_of
from rvcd.geometry import FRAMES_PER_SECOND

CORNER_HZ = 0.5
"""A cheap sound card's offset does not move; the lowest voice is 100 times above."""
LOUDEST = 8.0
"""18 dB above full scale, as the device callback cuts (audio/_callback.c): a file may hold any number."""


@dataclass
class OffsetState:
    """first, offset: what the two poles held at the end of the last hop; offset is subtracted. begun: there was a hop."""

    first: float = 0.0
    offset: float = 0.0
    begun: bool = False


class OffsetFilter:
    """Subtracts the running mean: of each 10 ms hop, smoothed by two one-pole low-passes of 0.5 Hz, straight lines in between.

    Two, because the mean of a hop still holds much of a voice. Streaming, mono, latency zero; any cut into whole hops gives the
    same samples. An offset that is there from the start is gone from the first sample on; one that comes later is down to a
    thousandth after three seconds.
    """

    def __init__(self, rate_hz: int) -> None:
        """rate_hz: of the audio. Raises ValueError if 10 ms are not a whole number of samples."""
        self.hop_samples = hop_samples_of(rate_hz)
        self._share = 1.0 - math.exp(-2.0 * math.pi * CORNER_HZ / FRAMES_PER_SECOND)
        self._way = (np.arange(self.hop_samples) + 1.0) / self.hop_samples
        self.reset()

    def reset(self) -> None:
        """Nothing heard."""
        self.state = OffsetState()

    def process(self, block: npt.ArrayLike) -> FloatArray:
        """Return the block (n,) without its offset, n a whole number of hops. NaN and infinity are taken as 0, the rest is
        cut to +-LOUDEST. Raises ValueError for a part hop."""
        samples = np.clip(finite(block), -LOUDEST, LOUDEST)
        hops = samples.reshape(-1, self.hop_samples)
        means = hops.mean(axis=1, dtype=np.float64)
        state = self.state
        if not state.begun and len(hops):
            state.begun = True
            if np.ptp(hops[0]) < abs(means[0]):  # an offset with little on it, and not half a wave
                state.first = state.offset = float(means[0])
        offsets = [state.offset]
        for mean in means.tolist():
            state.first += self._share * (mean - state.first)
            state.offset += self._share * (state.first - state.offset)
            offsets.append(state.offset)
        lines = np.array(offsets)[:-1, None] + np.diff(offsets)[:, None] * self._way
        return np.asarray((hops - lines).reshape(-1), np.float32)
