from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.engine.dsp.history_buffer import HistoryBuffer
from rvcd.engine.dsp.resample import StreamResampler, interpolate, kernel_for

RATES = [(48000, 16000), (44100, 16000), (40000, 48000), (40000, 44100), (32000, 48000), (16000, 44100), (48000, 40000)]


def sine(rate_hz: int, f_hz: float, samples: int) -> np.ndarray:
    return np.sin(2 * np.pi * f_hz * np.arange(samples) / rate_hz).astype(np.float32)


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
def test_output_sample_m_is_the_input_at_the_same_time(rate_in, rate_out):
    out = StreamResampler(rate_in, rate_out, rate_in).process(sine(rate_in, 997.0, rate_in))
    middle = slice(400, len(out) - 400)
    assert np.abs(out - sine(rate_out, 997.0, len(out)))[middle].max() < 1e-5


@pytest.mark.parametrize(("rate_in", "rate_out"), [(48000, 16000), (44100, 16000), (48000, 40000)])
def test_what_the_lower_rate_cannot_hold_is_removed(rate_in, rate_out):
    out = StreamResampler(rate_in, rate_out, rate_in).process(sine(rate_in, 0.58 * rate_out, rate_in))
    assert np.abs(out[400:-400]).max() < 1e-4


@settings(max_examples=30, deadline=None)
@given(rates=st.sampled_from(RATES), cuts=st.lists(st.integers(1, 3000), min_size=1, max_size=12), seed=st.integers(0, 9))
def test_the_samples_do_not_depend_on_the_cut(rates, cuts, seed):
    noise = np.random.default_rng(seed).standard_normal(sum(cuts)).astype(np.float32)
    whole = StreamResampler(*rates, len(noise)).process(noise)
    stream, pieces, start = StreamResampler(*rates, 3000), [], 0
    for cut in cuts:
        pieces.append(stream.process(noise[start : start + cut]))
        start += cut
    assert np.array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
def test_it_never_holds_back_more_than_its_reach(rate_in, rate_out):
    stream = StreamResampler(rate_in, rate_out, 960)
    for block in range(1, 50):
        stream.process(np.zeros(960, np.float32))
        assert stream.produced >= (960 * block - stream.reach_samples) * rate_out / rate_in - 1


def test_equal_rates_pass_the_samples_through_untouched():
    noise = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert np.array_equal(StreamResampler(48000, 48000, 1000).process(noise), noise)


def test_positions_may_move_at_a_changing_pace():
    rate_hz = 40000
    history = HistoryBuffer(rate_hz)
    history.append(sine(rate_hz, 500.0, rate_hz))
    positions = 1000 + np.cumsum(np.linspace(0.6, 1.2, 20000))
    out = interpolate(history, positions, kernel_for(1.2))
    assert np.abs(out - np.sin(2 * np.pi * 500.0 * positions / rate_hz)).max() < 1e-4
