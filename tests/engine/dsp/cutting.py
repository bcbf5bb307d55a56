"""Cutting a signal into blocks: what the streaming tests have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

RATE_HZ = 16000
HOP = RATE_HZ // 100
FloatArray = npt.NDArray[np.float32]

cuts = st.lists(st.integers(1, 400), min_size=1, max_size=10)
whole_hop_cuts = st.lists(st.integers(1, 8).map(lambda hops: hops * HOP), min_size=1, max_size=10)


def in_blocks(process: Callable[[slice], FloatArray], samples: int, sizes: Sequence[int]) -> FloatArray:
    """Call process for consecutive slices of the given sizes (repeated) and join the answers."""
    parts, position, step = [], 0, 0
    while position < samples:
        end = min(position + sizes[step % len(sizes)], samples)
        parts.append(process(slice(position, end)))
        position, step = end, step + 1
    return np.concatenate(parts)


def sine(f_hz: float, level: float, samples: int) -> FloatArray:
    """Return a sine of the given peak level at 16 kHz."""
    return (level * np.sin(2 * np.pi * f_hz * np.arange(samples) / RATE_HZ)).astype(np.float32)


def speech_like(samples: int) -> FloatArray:
    """Return bursts of a 200 Hz tone between stretches of faint noise."""
    rng = np.random.default_rng(7)
    bursts = (np.arange(samples) // (HOP * 25)) % 2
    return (sine(200, 0.3, samples) * bursts + 1e-4 * rng.standard_normal(samples)).astype(np.float32)
