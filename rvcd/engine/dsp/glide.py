"""From one value a block to one a sample, so that a moving fader is heard as a movement and not as a row of clicks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from rvcd.engine.dsp.levels import DoubleArray

CORNER_MS = 20.0
"""How long a corner is rounded for. A ramp of T seconds needs a band of 2 / T hertz to either side of a tone: here 100 Hz,
which is also what a fader with 100 values a second can ask for."""


def as_it_is(line: DoubleArray) -> DoubleArray:
    """Return line: the scale of a value that is used as it is set."""
    return line


@dataclass
class GlideState:
    """target: where the last block's line ended (None: no block yet). line: its last samples, as a running mean needs them."""

    target: float | None = None
    line: DoubleArray = field(default_factory=lambda: np.zeros(0))


class Glide:
    """Moves a value in a straight line across a block, then rounds the corners.

    A line alone has a corner at each block's edge, and a jump across one short block two sharp ones: both are heard as ticks.
    Two running means of 10 ms, one after the other, leave no corner at all. So the value is about 10 ms behind the line and
    rests on its target 20 ms after the block has ended.
    """

    def __init__(self, rate_hz: int, scale: Callable[[DoubleArray], DoubleArray] = as_it_is) -> None:
        """scale: from the unit in which the line is straight to the one in which its corners are round and which is returned."""
        self._mean_samples = max(1, round(rate_hz * CORNER_MS / 2000.0))
        self._scale = scale
        self.reset()

    def reset(self) -> None:
        """The next block's target holds at once."""
        self.state = GlideState()

    def over(self, samples: int, target: float) -> float | DoubleArray:
        """Return the value at each of the next samples, (samples,), or one number where it rests on its target (exactly)."""
        state = self.state
        at_target = float(self._scale(np.array([target]))[0])
        if state.target is None:
            state.line = np.full(2 * (self._mean_samples - 1), at_target)
            state.target = target
        if state.target == target and (state.line == at_target).all():
            return at_target
        line = self._scale(np.linspace(state.target, target, samples + 1)[1:])
        state.target = target
        joined = np.concatenate((state.line, line))
        state.line = joined[len(joined) - len(state.line) :]
        return _running_mean(_running_mean(joined, self._mean_samples), self._mean_samples)


def _running_mean(values: DoubleArray, length: int) -> DoubleArray:
    """Return the means of `length` neighbours, (len(values) - length + 1,)."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    means: DoubleArray = (sums[length:] - sums[:-length]) / length
    return means
