"""The target's spectral envelope: what the encoder is to guess from somebody else's voice, and the generator to sing.

Without the pitch (WORLD's CheapTrick, Morise 2015), so that it is about the same at every f0.
"""

from __future__ import annotations

import numpy as np
import pyworld
from kokoro import F0_RATE_HZ, RATE_HZ, VOICED_FROM_HZ
from numpy.typing import NDArray

BANDS = 56
FLOOR = 1e-10
STEP_S = 0.005
"""Two looks a unit, this much before and after its middle."""


def envelope(audio: NDArray[np.int16], f0_hz: NDArray[np.floating], times_s: NDArray[np.float64]) -> NDArray[np.float32]:
    """audio at 24 kHz, its f0 at 80 Hz -> (len(times_s), BANDS) log10 powers, mean of the looks around each time."""
    looks = np.sort(np.concatenate((times_s - STEP_S, times_s + STEP_S))).clip(0)
    at = np.clip((looks * F0_RATE_HZ).astype(np.int64), 0, len(f0_hz) - 1)
    pitch = np.where(f0_hz[at] > VOICED_FROM_HZ, f0_hz[at], 0.0).astype(np.float64)
    spectrum = pyworld.cheaptrick(audio.astype(np.float64) / 32768, pitch, looks, RATE_HZ)
    powers = np.log10(spectrum @ _bands(spectrum.shape[1]) + FLOOR)
    return powers.reshape(len(times_s), 2, BANDS).mean(axis=1).astype(np.float32)


def band_centres_hz() -> NDArray[np.float64]:
    """Return where each band has its middle."""
    return _edges_hz()[1:-1]


def _edges_hz() -> NDArray[np.float64]:
    top = 2595 * np.log10(1 + RATE_HZ / 2 / 700)
    return 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)  # type: ignore[no-any-return]


def _bands(bins: int) -> NDArray[np.float64]:
    """Return triangles (bins, BANDS) evenly spaced in mel from 0 to half the rate, each with a sum of one."""
    edges = _edges_hz()
    hz = np.linspace(0, RATE_HZ / 2, bins)[:, None]
    rising = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    triangles = np.minimum(rising, falling).clip(0)
    nearest = np.abs(hz - edges[1:-1]).argmin(axis=0)
    triangles[nearest, np.arange(BANDS)] += 1e-3
    return triangles / triangles.sum(axis=0)
