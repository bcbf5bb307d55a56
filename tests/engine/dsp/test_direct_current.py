"""An offset is no sound: it neither opens the gate nor moves the voice, and the filter changes nothing else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.engine.dsp.direct_current import LOUDEST, OffsetFilter
from rvcd.engine.dsp.loudness import Gate
from tests.support import speech_like

RATE_HZ = 48_000
HOP = RATE_HZ // 100
RNG = np.random.default_rng(5)


def noise(seconds: float, level: float = 0.1) -> np.ndarray:
    return (level * RNG.standard_normal(round(seconds * RATE_HZ))).astype(np.float32)


def test_an_offset_from_the_start_is_gone_from_the_first_sample_and_the_gate_stays_shut() -> None:
    quiet = noise(2.0, 1e-4)
    out = OffsetFilter(RATE_HZ).process(quiet + np.float32(0.2))
    assert np.abs(out).max() < 1e-3
    gate = Gate(RATE_HZ)
    assert not gate.process(out, -50.0).any()
    assert Gate(RATE_HZ).process(quiet + np.float32(0.2), -50.0).any(), "without the filter the gate stands open"


def test_an_offset_that_comes_later_is_gone_within_four_seconds() -> None:
    stepped = noise(6.0, 1e-5)
    stepped[RATE_HZ:] += 0.5
    out = OffsetFilter(RATE_HZ).process(stepped)
    assert np.abs(out[5 * RATE_HZ :]).max() < 1e-3


@pytest.mark.parametrize("hertz", [50.0, 80.0, 333.0, 1000.0])
def test_a_voice_passes_as_it_is(hertz: float) -> None:
    tone = (0.5 * np.sin(2 * np.pi * hertz * np.arange(3 * RATE_HZ) / RATE_HZ)).astype(np.float32)
    difference = OffsetFilter(RATE_HZ).process(tone)[RATE_HZ:] - tone[RATE_HZ:]
    assert 20 * np.log10(np.sqrt(np.mean(difference**2)) / np.sqrt(np.mean(tone**2))) < -55.0


def test_speech_in_front_of_exact_silence_leaves_less_than_the_gate_hears() -> None:
    voice = speech_like(RATE_HZ, 4.0)
    out = OffsetFilter(RATE_HZ).process(voice)
    assert np.abs(out[voice == 0.0]).max() < 10 ** (-70 / 20)


def test_silence_stays_exact_silence() -> None:
    assert not OffsetFilter(RATE_HZ).process(np.zeros(RATE_HZ, np.float32)).any()


@given(st.lists(st.integers(1, 7), min_size=1, max_size=12))
def test_any_cut_into_hops_gives_the_same_samples(cuts: list[int]) -> None:
    signal = noise(sum(cuts) * 0.01) + np.float32(0.3)
    whole = OffsetFilter(RATE_HZ).process(signal)
    streamed = OffsetFilter(RATE_HZ)
    ends = np.cumsum([0, *cuts]) * HOP
    parts = [streamed.process(signal[a:b]) for a, b in itertools.pairwise(ends)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_no_number_and_monstrous_numbers_leave_nothing_behind() -> None:
    signal = noise(3.0)
    broken = signal.copy()
    broken[100:104] = [np.nan, np.inf, -np.inf, 1e30]
    out, undisturbed = OffsetFilter(RATE_HZ).process(broken), OffsetFilter(RATE_HZ).process(signal)
    assert np.isfinite(out).all() and np.abs(out).max() <= LOUDEST + 1.0
    assert np.abs(out[2 * RATE_HZ :] - undisturbed[2 * RATE_HZ :]).max() < 1e-4


def test_a_part_hop_is_refused() -> None:
    with pytest.raises(ValueError):
        OffsetFilter(RATE_HZ).process(np.zeros(HOP + 1, np.float32))
