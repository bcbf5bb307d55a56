"""The sound that is sent round the loop, and how it is found again in what comes back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHIRP_S = 0.2
LOW_HZ, HIGH_HZ = 300.0, 6000.0
EDGE_S = 0.02
CORRELATED = 0.5
"""How like the chirp something must be to be taken for it, 0..1: noise of the chirp's own level leaves 0.7, speech and music
reach 0.2, noise alone less than 0.1."""
RIVAL = 0.8
RIVAL_S = 0.01
"""A second likeness so far away and nearly as great means two ways round, and neither is to be believed."""
SILENT = 10 ** (-90 / 20)


@dataclass(frozen=True)
class Echo:
    """What came back. delay_samples: of the chirp's first sample. correlation: 0..1. level: the highest |sample| of it all."""

    delay_samples: int
    correlation: float
    level: float
    rival: float
    """The greatest correlation of anything else."""

    @property
    def found(self) -> bool:
        """Whether it is the chirp."""
        return self.correlation >= CORRELATED and self.rival < RIVAL * self.correlation

    @property
    def silent(self) -> bool:
        return self.level < SILENT


def make_chirp(rate_hz: int, level_dbfs: float) -> NDArray[np.float32]:
    """Return a tone that rises from LOW_HZ to HIGH_HZ in CHIRP_S, with soft edges, of this peak level."""
    count = round(CHIRP_S * rate_hz)
    time_s = np.arange(count) / rate_hz
    high_hz = min(HIGH_HZ, 0.4 * rate_hz)
    phase = 2 * np.pi * (LOW_HZ * time_s + (high_hz - LOW_HZ) / (2 * CHIRP_S) * time_s**2)
    edge = round(EDGE_S * rate_hz)
    window = np.ones(count)
    window[:edge] = 0.5 - 0.5 * np.cos(np.pi * np.arange(edge) / edge)
    window[-edge:] = window[:edge][::-1]
    return (10 ** (level_dbfs / 20) * window * np.sin(phase)).astype(np.float32)


def find(recorded: NDArray[np.float32], chirp: NDArray[np.float32], rate_hz: int) -> Echo:
    """Find the chirp (C,) in what was recorded (T,), T >= C, whatever its gain and sign: normalised correlation everywhere."""
    signal, wanted = np.nan_to_num(recorded.astype(np.float64)), chirp.astype(np.float64)
    size = 1 << (len(signal) + len(wanted) - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(signal, size) * np.conj(np.fft.rfft(wanted, size)), size)
    places = len(signal) - len(wanted) + 1
    energy = np.concatenate(([0.0], np.cumsum(signal**2)))
    local = energy[len(wanted) :] - energy[:places]
    level = float(np.abs(signal).max(initial=0.0))
    least = len(wanted) * SILENT**2 / 100  # no likeness is seen in the last bits of silence
    likeness = np.abs(product[:places]) / np.sqrt(np.maximum(local, least) * np.sum(wanted**2))
    at = int(np.argmax(likeness))
    around = round(RIVAL_S * rate_hz)
    elsewhere = np.concatenate((likeness[: max(0, at - around)], likeness[at + around + 1 :]))
    return Echo(at, min(1.0, float(likeness[at])), level, float(elsewhere.max(initial=0.0)))
