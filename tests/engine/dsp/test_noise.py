from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.engine.dsp.noise import frame_noise

SEEDS = st.integers(-(2**70), 2**70)


@settings(max_examples=60, deadline=None)
@given(
    SEEDS,
    st.integers(-(2**42), 2**42),
    st.lists(st.integers(0, 9), min_size=1, max_size=8),
    st.integers(1, 50),
    st.integers(0, 5),
)
def test_any_cut_draws_the_same_noise(seed: int, first: int, sizes: list[int], width: int, stream: int) -> None:
    whole = frame_noise(seed, first, sum(sizes), width, stream)
    starts = np.cumsum([0, *sizes[:-1]])
    parts = [frame_noise(seed, first + int(start), size, width, stream) for start, size in zip(starts, sizes, strict=True)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(-1000, 1000), st.integers(1, 40), st.integers(1, 40))
def test_a_channel_does_not_depend_on_the_width(seed: int, first: int, narrow: int, more: int) -> None:
    wide = frame_noise(seed, first, 3, narrow + more)
    np.testing.assert_array_equal(frame_noise(seed, first, 3, narrow), wide[:, :narrow])


def test_it_is_standard_normal() -> None:
    noise = frame_noise(11, -1000, 4000, 256).astype(np.float64)
    count = noise.size
    assert abs(noise.mean()) < 4 / np.sqrt(count)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / count)
    assert abs((noise**3).mean()) < 4 * np.sqrt(15 / count)
    assert abs((noise**4).mean() - 3) < 4 * np.sqrt(96 / count)
    assert 4.5 < np.abs(noise).max() < 6.7
    edges = np.array([-3, -2, -1, 0, 1, 2, 3])
    shares = [(noise < edge).mean() for edge in edges]
    np.testing.assert_allclose(shares, [0.00135, 0.02275, 0.15866, 0.5, 0.84134, 0.97725, 0.99865], atol=0.002)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1])


def test_frames_channels_seeds_and_streams_are_uncorrelated() -> None:
    noise = frame_noise(5, 0, 2000, 128)
    bound = 4 / np.sqrt(noise.size)
    assert abs(correlation(noise[1:], noise[:-1])) < bound
    assert abs(correlation(noise[:, 1:], noise[:, :-1])) < bound
    assert abs(correlation(noise[:, ::2] ** 2, noise[:, 1::2] ** 2)) < 2 * bound
    assert abs(correlation(noise, frame_noise(6, 0, 2000, 128))) < bound
    assert abs(correlation(noise, frame_noise(5, 0, 2000, 128, stream=1))) < bound
    assert abs(correlation(noise, frame_noise(6, 0, 2000, 128, stream=1))) < bound


def test_every_frame_and_channel_averages_out() -> None:
    noise = frame_noise(9, 0, 1024, 1024).astype(np.float64)
    for axis in (0, 1):
        assert np.abs(noise.mean(axis=axis)).max() * 32 < 5


def test_its_values_are_fixed_for_good() -> None:
    # Recordings made with one version must render the same with the next.
    np.testing.assert_allclose(
        frame_noise(1, -1, 2, 3, 2),
        [
            [0.1654738038778305, -1.1783554553985596, 1.8389796018600464],
            [0.34715938568115234, -0.8663402795791626, 0.019514799118041992],
        ],
        rtol=1e-5,
    )


def test_sizes_of_zero_are_empty_and_wrong_ones_are_refused() -> None:
    assert frame_noise(0, 0, 0, 5).shape == (0, 5)
    assert frame_noise(0, 0, 5, 0).shape == (5, 0)
    assert frame_noise(0, 0, 1, 1).dtype == np.float32
    with pytest.raises(ValueError, match="frames -1"):
        frame_noise(0, 0, -1, 5)
    with pytest.raises(ValueError, match="width"):
        frame_noise(0, 0, 1, 2**21 + 1)


def test_a_block_costs_little_more_than_numpys_own_noise() -> None:
    def quickest(work: Callable[[], object]) -> float:
        """The best of many, so that a busy machine does not matter."""
        best = math.inf
        for _ in range(50):
            begin = time.thread_time()
            work()
            best = min(best, time.thread_time() - begin)
        return best

    own = np.random.default_rng(0)
    # It measures about a third; an implementation that loops over frames costs tens of times as much.
    assert quickest(lambda: frame_noise(1, 0, 20, 592)) < 10 * quickest(lambda: own.standard_normal((20, 592)))
