"""Resampling inside the stream: band-limited interpolation at any position, aligned to absolute sample numbers.

Why not soxr here: its streams hold back up to 40 ms (they work in blocks of their own), by an amount that changes from call
to call, and its variable-rate mode 6..13 ms. A windowed sinc holds back 32 samples of the lower rate, always, and can follow
a formant shift that moves while the voice speaks. Files are resampled with soxr (rvcd.audio.files).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from rvcd.engine.dsp.history_buffer import HistoryBuffer

ZERO_CROSSINGS = 32
KAISER_BETA = 10.0
PHASES = 512
ROLL_OFF = 0.97
"""Where the pass band ends when the rate goes down, relative to the lower Nyquist frequency."""
_STEPS_PER_OCTAVE = 24
_WEIGHTS_AT_ONCE = 1 << 17
"""Weights in one table: a larger one is memory that the kernel is asked for on every call, which costs more than the sums."""


@dataclass(frozen=True)
class Kernel:
    """A windowed sinc at PHASES + 1 sub-sample offsets: table (PHASES + 1, 2 * reach)."""

    table: NDArray[np.float32]
    reach: int


@lru_cache(maxsize=128)
def _kernel(step_index: int) -> Kernel:
    ratio = 2.0 ** (step_index / _STEPS_PER_OCTAVE)
    cutoff = 1.0 if step_index == 0 else ROLL_OFF / ratio
    reach = math.ceil(ZERO_CROSSINGS / cutoff)
    taps = np.arange(-reach + 1, reach + 1)
    offsets = taps[None, :] - np.linspace(0.0, 1.0, PHASES + 1)[:, None]
    inside = np.clip(1.0 - (offsets / reach) ** 2, 0.0, None)
    table = cutoff * np.sinc(cutoff * offsets) * np.i0(KAISER_BETA * np.sqrt(inside)) / np.i0(KAISER_BETA)
    table /= table.sum(axis=1, keepdims=True)
    return Kernel(table.astype(np.float32), reach)


def kernel_for(ratio: float) -> Kernel:
    """Return the kernel for ratio = input rate / output rate; its cut-off is at or a little below what the ratio asks for."""
    return _kernel(max(0, math.ceil(_STEPS_PER_OCTAVE * math.log2(ratio) - 1e-9)) if ratio > 1 else 0)


def interpolate(source: HistoryBuffer, positions: NDArray[np.float64], kernel: Kernel) -> NDArray[np.float32]:
    """Return the band-limited values of source at fractional positions (ascending, in its absolute sample numbers).

    Samples positions[0] - reach .. positions[-1] + reach must be in the buffer (before its first: zeros).
    """
    if not len(positions):
        return np.zeros(0, np.float32)
    whole = np.floor(positions).astype(np.int64)
    fraction = positions - whole
    first = int(whole[0]) - kernel.reach + 1
    if not fraction.any() and len(kernel.table[0]) == 2 * ZERO_CROSSINGS:
        # Equal rates: the kernel is a unit impulse. Exact, and free.
        values = source.rows(int(whole[0]), int(whole[-1]) + 1)
        return np.asarray(values[whole - whole[0]], np.float32)
    samples = source.rows(first, int(whole[-1]) + kernel.reach + 1)
    windows = sliding_window_view(samples, 2 * kernel.reach)
    scaled = fraction * PHASES
    phase = scaled.astype(np.int64)
    blend = (scaled - phase).astype(np.float32)[:, None]
    made = np.empty(len(positions), np.float32)
    step = max(1, _WEIGHTS_AT_ONCE // (2 * kernel.reach))
    for begin in range(0, len(made), step):
        piece = slice(begin, begin + step)
        below = kernel.table[phase[piece]]
        weights = below + (kernel.table[np.minimum(phase[piece] + 1, PHASES)] - below) * blend[piece]
        made[piece] = np.einsum("ij,ij->i", windows[whole[piece] - whole[0]], weights)
    return made


class StreamResampler:
    """Fixed-ratio resampling of a stream. Output sample m is the input at m * rate_in / rate_out, without delay of its own;
    it comes out as soon as the `reach` input samples after it are known."""

    def __init__(self, rate_in_hz: int, rate_out_hz: int, max_chunk_samples: int) -> None:
        common = math.gcd(rate_in_hz, rate_out_hz)
        self._in, self._out = rate_in_hz // common, rate_out_hz // common
        self._kernel = kernel_for(rate_in_hz / rate_out_hz)
        self.reach_samples = 0 if self._in == self._out else self._kernel.reach
        self._history = HistoryBuffer(max_chunk_samples + 4 * self._kernel.reach + 2 * self._in)
        self.reset()

    def reset(self) -> None:
        self._history.reset()
        self.produced = 0

    def process(self, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take input samples, return every output sample that is now final."""
        self._history.append(chunk)
        known = self._history.end - self.reach_samples  # positions < known are final
        end = max(self.produced, -(-known * self._out // self._in))
        numbers = np.arange(self.produced, end, dtype=np.int64)
        scaled = numbers * self._in
        # Whole and fractional parts from integers: exact after any number of hours.
        positions = scaled // self._out + (scaled % self._out) / self._out
        self.produced = end
        return interpolate(self._history, positions, self._kernel)
