"""Synthetic audio whose f0 is known exactly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RATE_HZ = 16000


def steady(f0_hz: float, seconds: float = 1.0) -> npt.NDArray[np.float64]:
    """Return f0 per sample, constant."""
    return np.full(int(seconds * RATE_HZ), f0_hz)


def glide(low_hz: float, high_hz: float, seconds: float = 2.0) -> npt.NDArray[np.float64]:
    """Return f0 per sample, exponential from low to high."""
    samples = int(seconds * RATE_HZ)
    return np.asarray(low_hz * (high_hz / low_hz) ** (np.arange(samples) / samples))


def tone(f0_hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return a sine with the f0 given per sample."""
    return (0.3 * np.sin(2 * np.pi * np.cumsum(f0_hz) / RATE_HZ)).astype(np.float32)


def vowel(f0_hz: npt.NDArray[np.float64], harmonics: int = 30) -> npt.NDArray[np.float32]:
    """Return harmonics of the f0 given per sample, under two formants (600 and 1500 Hz)."""
    phase = 2 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    wave = np.zeros(len(f0_hz))
    for k in range(1, harmonics + 1):
        at_hz = k * f0_hz
        level = 1 / (1 + ((at_hz - 600) / 200) ** 2) + 0.5 / (1 + ((at_hz - 1500) / 300) ** 2) + 0.05
        wave += np.where(at_hz < 7600, level / k, 0.0) * np.sin(k * phase)
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)
