from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.engine.dsp.glide import Glide
from rvcd.engine.dsp.levels import DoubleArray
from tests.engine.dsp.cutting import HOP, RATE_HZ, cuts


def moving(glide: Glide, samples: int, target: float) -> DoubleArray:
    """Return the value at each sample, also where it rests."""
    return np.asarray(np.broadcast_to(glide.over(samples, target), samples), np.float64)


def test_the_first_target_holds_at_once_and_again_after_a_reset() -> None:
    glide = Glide(RATE_HZ)
    assert glide.over(100, 3.0) == 3.0
    glide.over(100, 5.0)
    glide.reset()
    assert glide.over(100, -1.0) == -1.0


def test_it_rests_on_exactly_its_target_20_ms_after_the_block() -> None:
    glide = Glide(RATE_HZ)
    glide.over(HOP, 0.1)
    glide.over(HOP, 0.7)
    arriving = glide.over(2 * HOP, 0.7)
    assert not isinstance(arriving, float) and arriving[-1] == pytest.approx(0.7, abs=1e-12)
    assert glide.over(HOP, 0.7) == 0.7


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-60, 24), min_size=1, max_size=8), cuts)
def test_it_has_neither_a_step_nor_a_corner_and_never_leaves_the_targets_range(targets: list[float], sizes: list[int]) -> None:
    glide = Glide(RATE_HZ)
    pieces = [moving(glide, HOP, targets[0])]
    pieces += [moving(glide, sizes[i % len(sizes)], target) for i, target in enumerate(targets)]
    path = np.concatenate(pieces)
    reach = max(targets) - min(targets)
    # Two running means of 10 ms: the steepest slope is reach / 10 ms, the sharpest bend what that takes within 10 ms.
    assert np.abs(np.diff(path)).max() <= reach / HOP + 1e-9
    assert np.abs(np.diff(path, 2)).max() <= 2 * reach / HOP**2 + 1e-9
    assert min(targets) - 1e-9 <= path.min() and path.max() <= max(targets) + 1e-9


def test_a_fader_that_moves_evenly_is_followed_in_a_straight_line() -> None:
    glide = Glide(RATE_HZ)
    glide.over(HOP, 0.0)
    path = np.concatenate([moving(glide, 4 * HOP, float(step)) for step in range(1, 20)])
    np.testing.assert_allclose(np.diff(path[2 * HOP :]), 1 / (4 * HOP), rtol=1e-6)


def test_corners_are_round_in_the_scale_that_is_used() -> None:
    glide = Glide(RATE_HZ, np.exp2)
    assert glide.over(HOP, 0.0) == 1.0
    first = glide.over(HOP, 10.0)
    path = np.concatenate([np.asarray(first), moving(glide, 3 * HOP, 10.0)])
    assert path[-1] == pytest.approx(1024.0)
    assert np.abs(np.diff(path)).max() <= 1023 / HOP  # steeper, were they round before the scale
