"""Measuring levels: the 40 ms RMS that gate and loudness match are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rvcd.geometry import FRAMES_PER_SECOND

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]

HOPS_PER_RMS_FRAME = 4
"""RMS over 40 ms, every 10 ms, as upstream; ours ends with the hop instead of being centred on it: nothing later is known."""


def finite(block: npt.ArrayLike) -> FloatArray:
    """Return block as float32 (n,) with NaN and infinity replaced by 0; the same array when there is nothing to do."""
    samples = np.asarray(block, np.float32)
    known = np.isfinite(samples)
    return samples if known.all() else np.where(known, samples, np.float32(0))


def hop_samples_of(rate_hz: int) -> int:
    """Return the samples of 10 ms. Raises ValueError for a rate that is not a positive multiple of 100 Hz."""
    if rate_hz <= 0 or rate_hz % FRAMES_PER_SECOND:
        raise ValueError(f"the rate {rate_hz} Hz must be a positive multiple of {FRAMES_PER_SECOND} Hz")
    return rate_hz // FRAMES_PER_SECOND


@dataclass
class HopEnergies:
    """The energies of the last three hops: what a 40 ms RMS frame still needs of the past."""

    past: DoubleArray = field(default_factory=lambda: np.zeros(HOPS_PER_RMS_FRAME - 1))


def trailing_rms(block: FloatArray, hop_samples: int, state: HopEnergies) -> DoubleArray:
    """Return (hops,): the RMS of the 40 ms that end with each hop of block, and carry the state.

    Raises ValueError for a part hop.
    """
    hops, rest = divmod(len(block), hop_samples)
    if rest:
        raise ValueError(f"a block of {len(block)} samples is not a whole number of {hop_samples}-sample hops")
    energies = np.concatenate([state.past, np.square(block.astype(np.float64)).reshape(hops, hop_samples).sum(axis=1)])
    state.past = energies[len(energies) - (HOPS_PER_RMS_FRAME - 1) :]
    # Four explicit additions in a fixed order: a running sum would depend on where the blocks were cut.
    total = energies[3:] + energies[2:-1] + energies[1:-2] + energies[:-3]
    return np.asarray(np.sqrt(total / (HOPS_PER_RMS_FRAME * hop_samples)))
