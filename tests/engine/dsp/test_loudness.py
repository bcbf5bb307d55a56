from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.engine.dsp.loudness import GainRamp, Limiter, RmsMix
from tests.engine.dsp.cutting import HOP, RATE_HZ, cuts, in_blocks, sine, speech_like, whole_hop_cuts


# --- RmsMix
@settings(max_examples=40, deadline=None)
@given(whole_hop_cuts, st.sampled_from([0.0, 0.25, 0.7]))
def test_rms_mix_gives_the_same_output_for_any_cut_into_whole_hops(sizes: list[int], rate: float) -> None:
    dry, wet = speech_like(80 * HOP), sine(300, 0.2, 80 * HOP)
    mix = RmsMix(RATE_HZ)
    joined = in_blocks(lambda part: mix.process(dry[part], wet[part], rate), len(wet), sizes)
    np.testing.assert_array_equal(joined, RmsMix(RATE_HZ).process(dry, wet, rate))


def test_rate_1_keeps_the_generators_samples_exactly() -> None:
    wet = sine(300, 0.2, 20 * HOP)
    mix = RmsMix(RATE_HZ)
    out = mix.process(speech_like(20 * HOP), wet, 1.0)
    np.testing.assert_array_equal(out[mix.delay_samples :], wet[: -mix.delay_samples])
    assert not out[: mix.delay_samples].any()


def test_the_loudness_changes_when_the_voice_does_and_not_after_it() -> None:
    dry = sine(200, 0.4, 40 * HOP)
    dry[: 20 * HOP] *= 0.1
    mix = RmsMix(RATE_HZ)
    out = mix.process(dry, sine(300, 0.1, 40 * HOP), 0.0)[mix.delay_samples :]
    level = np.sqrt(2 * np.mean(out.reshape(-1, HOP).astype(np.float64) ** 2, axis=1))
    assert level[17] == pytest.approx(0.04, rel=0.1) and level[22] == pytest.approx(0.4, rel=0.1)
    assert 0.1 < level[19:21].mean() < 0.35


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0.4), (0.5, 0.2), (0.75, 0.1 * 4**0.25)])
def test_the_level_moves_towards_the_inputs_by_the_formula(rate: float, expected: float) -> None:
    mix = RmsMix(RATE_HZ)
    out = mix.process(sine(200, 0.4, 40 * HOP), sine(300, 0.1, 40 * HOP), rate)
    settled = out[10 * HOP :]
    assert np.sqrt(2 * np.mean(settled.astype(np.float64) ** 2)) == pytest.approx(expected, rel=0.01)


def test_a_silent_generator_is_not_amplified_beyond_the_floor() -> None:
    out = RmsMix(RATE_HZ).process(sine(200, 0.5, 20 * HOP), np.full(20 * HOP, 1e-6, np.float32), 0.0)
    assert np.abs(out).max() < 1e-6 * 0.5 / 1e-3


def test_a_changed_rate_glides_across_the_block_and_arrives_20_ms_after_it() -> None:
    dry, wet = np.full(40 * HOP, 0.4, np.float32), np.full(40 * HOP, 0.1, np.float32)
    mix = RmsMix(RATE_HZ)
    before = mix.process(dry[: 20 * HOP], wet[: 20 * HOP], 1.0)
    during = mix.process(dry[20 * HOP :], wet[20 * HOP :], 0.0)
    after = mix.process(dry[: 2 * HOP], wet[: 2 * HOP], 0.0)
    joined = np.concatenate([before, during, after])
    assert joined[20 * HOP - 1] == np.float32(0.1)
    assert during[10 * HOP + HOP] == pytest.approx(0.2, rel=0.01)  # half way in dB, 10 ms behind
    assert joined[-1] == pytest.approx(0.4, rel=1e-3)
    assert np.abs(np.diff(joined[mix.delay_samples :])).max() < 0.001
    assert mix.process(dry[:HOP], wet[:HOP], 0.0)[0] == pytest.approx(0.4, rel=1e-3)


def test_rms_mix_refuses_what_is_not_aligned() -> None:
    with pytest.raises(ValueError, match="one length"):
        RmsMix(RATE_HZ).process(np.zeros(HOP), np.zeros(2 * HOP), 0.5)
    with pytest.raises(ValueError, match="whole number"):
        RmsMix(RATE_HZ).process(np.zeros(10), np.zeros(10), 0.5)


def test_rms_mix_survives_broken_samples() -> None:
    dry, wet = sine(200, 0.4, 20 * HOP), sine(300, 0.1, 20 * HOP)
    dry[5], wet[7] = np.nan, -np.inf
    assert np.isfinite(RmsMix(RATE_HZ).process(dry, wet, 0.0)).all()


def test_a_reset_rms_mix_starts_afresh() -> None:
    dry, wet = sine(200, 0.4, 10 * HOP), sine(300, 0.1, 10 * HOP)
    mix = RmsMix(RATE_HZ)
    first = mix.process(dry, wet, 0.3)
    mix.reset()
    np.testing.assert_array_equal(mix.process(dry, wet, 0.3), first)


# --- Limiter
@settings(max_examples=40, deadline=None)
@given(cuts)
def test_the_limiter_gives_the_same_output_for_any_cut(sizes: list[int]) -> None:
    audio = speech_like(60 * HOP) * 8
    limiter = Limiter(RATE_HZ)
    joined = in_blocks(lambda part: limiter.process(audio[part]), len(audio), sizes)
    np.testing.assert_allclose(joined, Limiter(RATE_HZ).process(audio), atol=1e-6)


def test_below_minus_1_dbfs_the_limiter_is_transparent() -> None:
    audio = sine(200, 0.89, 20 * HOP)
    np.testing.assert_array_equal(Limiter(RATE_HZ).process(audio), audio)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=200))
def test_the_limiter_never_exceeds_full_scale_whatever_comes(samples: list[float]) -> None:
    limiter = Limiter(48000)
    for _ in range(2):
        out = limiter.process(np.array(samples, np.float32))
        assert np.isfinite(out).all()
        assert np.abs(out).max() <= 1.0


def test_the_limiter_answers_broken_samples_with_silence() -> None:
    assert Limiter(48000).process(np.array([np.nan, np.inf, -np.inf, 0.5])).tolist() == [0, 0, 0, 0.5]


def test_the_limiters_gain_has_no_steps() -> None:
    audio = sine(200, 4.0, 40 * HOP)
    out = Limiter(RATE_HZ).process(audio)
    loud = np.abs(audio) > 0.1
    gain = out[loud] / audio[loud]
    # The first quarter wave rounds off as fast as the signal itself rises; from then on the gain only breathes.
    settled = gain[200:]
    assert np.abs(np.diff(settled)).max() < 0.01
    assert np.abs(np.diff(out)).max() <= np.abs(np.diff(audio)).max()


def test_after_a_loud_moment_the_gain_comes_back_slowly_to_exactly_1() -> None:
    limiter = Limiter(RATE_HZ)
    limiter.process(sine(200, 4.0, 10 * HOP))
    quiet = np.full(50 * HOP, 0.5, np.float32)
    out = limiter.process(quiet)
    assert out[0] < 0.2
    assert (np.diff(out) >= -1e-7).all()
    assert out[-1] == 0.5


def test_a_loud_sine_comes_out_near_full_scale_and_hardly_distorted() -> None:
    out = Limiter(RATE_HZ).process(sine(200, 2.0, 100 * HOP))[50 * HOP :].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(out * np.hanning(len(out))))
    fundamental = round(200 * len(out) / RATE_HZ)
    rest = spectrum.copy()
    rest[fundamental - 3 : fundamental + 4] = 0
    assert 0.95 < np.abs(out).max() <= 1.0
    assert 20 * np.log10(np.sqrt(np.sum(rest**2)) / spectrum[fundamental]) < -25


# --- GainRamp
def test_a_steady_0_db_is_exact() -> None:
    audio = speech_like(10 * HOP)
    np.testing.assert_array_equal(GainRamp(RATE_HZ).process(audio, 0.0), audio)


@settings(max_examples=30, deadline=None)
@given(cuts, st.floats(-60, 24))
def test_a_steady_gain_is_the_same_for_any_cut(sizes: list[int], gain_db: float) -> None:
    audio = speech_like(20 * HOP)
    ramp = GainRamp(RATE_HZ)
    joined = in_blocks(lambda part: ramp.process(audio[part], gain_db), len(audio), sizes)
    np.testing.assert_array_equal(joined, GainRamp(RATE_HZ).process(audio, gain_db))


def test_a_gain_change_is_straight_in_db_and_arrives_20_ms_after_the_block() -> None:
    ramp = GainRamp(RATE_HZ)
    ones = np.ones(20 * HOP, np.float32)
    ramp.process(ones, 0.0)
    moving, arriving = ramp.process(ones, -20.0), ramp.process(ones, -20.0)
    db = 20 * np.log10(moving)
    assert db[0] == pytest.approx(0.0, abs=1e-3)
    straight = np.arange(2 * HOP, 20 * HOP)
    np.testing.assert_allclose(db[straight], -20.0 * (straight - HOP) / (20 * HOP), atol=0.02)  # 10 ms behind the line
    np.testing.assert_array_equal(arriving[2 * HOP :], np.full(18 * HOP, 0.1, np.float32))
    assert (np.diff(np.concatenate([moving, arriving])) <= 1e-7).all()


def test_a_gain_that_is_on_its_way_is_the_same_for_blocks_of_any_size_after_the_one_it_moved_in() -> None:
    audio = speech_like(20 * HOP)
    outputs = []
    for sizes in ([HOP], [2 * HOP], [7, 300]):
        ramp = GainRamp(RATE_HZ)
        ramp.process(audio, 0.0)
        ramp.process(audio[:HOP], -30.0)
        outputs.append(in_blocks(lambda part, ramp=ramp: ramp.process(audio[part], -30.0), len(audio), sizes))
    for other in outputs[1:]:
        np.testing.assert_allclose(other, outputs[0], atol=1e-7)


def test_the_first_gain_applies_at_once_and_again_after_a_reset() -> None:
    ramp = GainRamp(RATE_HZ)
    assert ramp.process(np.ones(4), 20.0).tolist() == [10.0] * 4
    ramp.reset()
    assert ramp.process(np.ones(4), -20.0) == pytest.approx([0.1] * 4)


def test_the_gain_ramp_answers_broken_samples_with_silence() -> None:
    assert GainRamp(RATE_HZ).process(np.array([np.nan, np.inf, 1.0]), 0.0).tolist() == [0, 0, 1]
