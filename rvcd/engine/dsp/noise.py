"""Gaussian noise as a pure function of position: streaming and offline draw the same numbers, whatever the cut.

A 64-bit counter made of (frame, channel pair) is mixed by splitmix64's finaliser (Steele, Lea & Flood 2014); the two halves of
the hash give two normal numbers by Box & Muller (1958).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MAX_WIDTH = 1 << 21
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_PAIR_BITS = np.uint64(20)
_ANGLE = np.float32(2.0 * np.pi * 2.0**-32)


def frame_noise(seed: int, first_frame: int, frames: int, width: int, stream: int = 0) -> npt.NDArray[np.float32]:
    """Return (frames, width) float32, standard normal, for frames [first_frame, first_frame + frames).

    Element (t, c) depends on (seed, stream, first_frame + t, c) only. Frames may be negative (|frame| < 2**43); seed and stream
    are any integers; different streams are independent. Raises ValueError for negative sizes or width > 2**21.
    """
    if frames < 0 or not 0 <= width <= MAX_WIDTH:
        raise ValueError(f"frames {frames} must be >= 0 and width {width} within 0..{MAX_WIDTH}")
    pairs = (width + 1) // 2
    rows = np.arange(first_frame, first_frame + frames, dtype=np.int64).view(np.uint64)
    counter = (rows << _PAIR_BITS)[:, None] + np.arange(pairs, dtype=np.uint64)[None, :]
    # Weyl step and key, as splitmix64 does before it mixes; all arithmetic wraps modulo 2**64.
    counter *= np.uint64(_GOLDEN)
    counter += np.uint64(_key(seed, stream))
    bits = _mix(counter)
    # Half a step away from 0, whose logarithm does not exist; float64 here, so that the tail is not quantised.
    radius_bits = (bits >> np.uint64(32)).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log((radius_bits + 0.5) * 2.0**-32)).astype(np.float32)
    angle = bits.astype(np.uint32).astype(np.float32) * _ANGLE
    noise = np.empty((frames, pairs, 2), np.float32)
    np.multiply(radius, np.cos(angle), out=noise[:, :, 0])
    np.multiply(radius, np.sin(angle), out=noise[:, :, 1])
    return noise.reshape(frames, 2 * pairs)[:, :width]


def frame_hashes(seed: int, first_frame: int, frames: int, stream: int = 0) -> npt.NDArray[np.uint64]:
    """Return (frames,) 64 bits each, a pure function of (seed, stream, frame), for frames as in frame_noise."""
    counter = np.arange(first_frame, first_frame + frames, dtype=np.int64).view(np.uint64) * np.uint64(_GOLDEN)
    counter += np.uint64(_key(seed, stream))
    return _mix(counter)


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """splitmix64's finaliser, in place."""
    state ^= state >> np.uint64(30)
    state *= np.uint64(_MIX_1)
    state ^= state >> np.uint64(27)
    state *= np.uint64(_MIX_2)
    state ^= state >> np.uint64(31)
    return state


def _key(seed: int, stream: int) -> int:
    """Return 64 bits from both numbers, mixed twice so that neighbouring seeds and streams share nothing."""
    return _mix_int(_mix_int(seed * _GOLDEN & _MASK) + stream * _MIX_2 + _GOLDEN & _MASK)


def _mix_int(value: int) -> int:
    value = (value ^ value >> 30) * _MIX_1 & _MASK
    value = (value ^ value >> 27) * _MIX_2 & _MASK
    return value ^ value >> 31
