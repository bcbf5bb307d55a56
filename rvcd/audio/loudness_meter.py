"""Programme loudness by EBU R 128 (ITU-R BS.1770-4), block by block: a library would want all ten hours of a file at once.

What is kept is one number for each 100 ms, 0.3 MB an hour.
"""

from __future__ import annotations

import math
from array import array
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

HOPS_PER_SECOND = 10
GATING_HOPS = 4
"""A gating block is 400 ms, three quarters of it shared with the next one."""
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
OFFSET_LU = -0.691
RESPONSE_S = 0.15
"""The K-weighting's impulse response has faded to less than 1e-14 by then."""

DoubleArray = NDArray[np.float64]


class LoudnessMeter:
    """Takes audio in blocks of any length, and then knows its integrated loudness.

    All channels count alike, as left and right do in the recommendation.
    """

    def __init__(self, rate_hz: int, channels: int = 1) -> None:
        """rate_hz: > 0. channels: of every block."""
        self._response = _k_weighting(rate_hz)
        self._hop_samples = max(1, round(rate_hz / HOPS_PER_SECOND))
        self._heard = np.zeros((len(self._response) - 1, channels))
        self._unfinished = 0.0
        self._unfinished_samples = 0
        self._energies = array("d")

    def feed(self, frames: NDArray[np.float32]) -> None:
        """Take in the next samples, (T, channels)."""
        if not len(frames):
            return
        joined = np.concatenate((self._heard, frames.astype(np.float64)))
        size = 1 << (len(joined) - 1).bit_length()
        spectrum = np.fft.rfft(joined, size, axis=0) * np.fft.rfft(self._response, size)[:, None]
        weighted = np.fft.irfft(spectrum, size, axis=0)[len(self._heard) : len(joined)]
        self._heard = joined[len(joined) - len(self._heard) :]
        self._add(np.square(weighted).sum(axis=1))

    def _add(self, power: DoubleArray) -> None:
        """Sum the power of each sample over hops; what is left over waits for the next call."""
        first = min(self._hop_samples - self._unfinished_samples, len(power))
        self._unfinished += float(power[:first].sum())
        self._unfinished_samples += first
        if self._unfinished_samples < self._hop_samples:
            return
        whole = (len(power) - first) // self._hop_samples * self._hop_samples
        self._energies.append(self._unfinished)
        self._energies.extend(power[first : first + whole].reshape(-1, self._hop_samples).sum(axis=1))
        rest = power[first + whole :]
        self._unfinished, self._unfinished_samples = float(rest.sum()), len(rest)

    def integrated_lufs(self) -> float | None:
        """Return the loudness of all that was heard; None where nothing reached -70 LUFS, or less than 400 ms was heard."""
        energies = np.frombuffer(self._energies, np.float64) if self._energies else np.zeros(0)
        if len(energies) < GATING_HOPS:
            return None
        blocks = np.lib.stride_tricks.sliding_window_view(energies, GATING_HOPS).mean(axis=1) / self._hop_samples
        loud = blocks[blocks > _power(ABSOLUTE_GATE_LUFS)]
        if not len(loud):
            return None
        loud = loud[loud > loud.mean() * 10 ** (RELATIVE_GATE_LU / 10)]
        return OFFSET_LU + 10 * math.log10(float(loud.mean()))


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - OFFSET_LU) / 10))


@lru_cache(maxsize=16)
def _k_weighting(rate_hz: int) -> DoubleArray:
    """Return the impulse response of the two filters of BS.1770, designed for a rate as in De Man (2014)."""
    impulse = np.zeros(max(2, round(RESPONSE_S * rate_hz)))
    impulse[0] = 1.0
    # The head's shelf.
    gain, quality, k = 10 ** (3.999843853973347 / 20), 0.7071752369554196, math.tan(math.pi * 1681.974450955533 / rate_hz)
    middle = gain**0.4996667741545416
    shelf = _filtered(
        impulse,
        (gain + middle * k / quality + k * k, 2 * (k * k - gain), gain - middle * k / quality + k * k),
        (1 + k / quality + k * k, 2 * (k * k - 1), 1 - k / quality + k * k),
    )
    # The high pass.
    quality, k = 0.5003270373238773, math.tan(math.pi * 38.13547087602444 / rate_hz)
    norm = 1 + k / quality + k * k
    return _filtered(shelf, (norm, -2 * norm, norm), (norm, 2 * (k * k - 1), 1 - k / quality + k * k))


def _filtered(x: DoubleArray, b: tuple[float, float, float], a: tuple[float, float, float]) -> DoubleArray:
    """Return x through one second-order section (direct form 1)."""
    y, (x1, x2, y1, y2) = np.zeros(len(x)), (0.0, 0.0, 0.0, 0.0)
    for n, x0 in enumerate(x.tolist()):
        y0 = (b[0] * x0 + b[1] * x1 + b[2] * x2 - a[1] * y1 - a[2] * y2) / a[0]
        y[n], x1, x2, y1, y2 = y0, x0, x1, y0, y1
    return y
