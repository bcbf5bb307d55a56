from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from rvcd.engine.dsp.loudness import GATE_HOLD_HOPS, Gate
from tests.engine.dsp.cutting import HOP, RATE_HZ, FloatArray, in_blocks, sine, speech_like, whole_hop_cuts


def burst(before_hops: int, hops: int, after_hops: int, offset: int = 0) -> FloatArray:
    audio = np.zeros((before_hops + hops + after_hops) * HOP, np.float32)
    first = before_hops * HOP + offset
    audio[first : first + hops * HOP - offset] = 0.5
    return audio


@settings(max_examples=40, deadline=None)
@given(whole_hop_cuts)
def test_any_cut_into_whole_hops_gives_the_same_output(sizes: list[int]) -> None:
    audio = speech_like(160 * HOP)
    whole, cut = Gate(RATE_HZ), Gate(RATE_HZ)
    opened: list[np.ndarray] = []

    def process(part: slice) -> FloatArray:
        answer = cut.process(audio[part], -40.0)
        opened.append(cut.open)
        return answer

    joined = in_blocks(process, len(audio), sizes)
    np.testing.assert_array_equal(joined, whole.process(audio, -40.0))
    np.testing.assert_array_equal(np.concatenate(opened), whole.open)
    assert 0 < whole.open.mean() < 1


def test_what_is_below_the_threshold_is_exact_silence() -> None:
    gate = Gate(RATE_HZ)
    assert not gate.process(sine(200, 0.001, 20 * HOP), -50.0).any()
    assert gate.open.tolist() == [False] * 20


def test_what_is_above_the_threshold_passes_unchanged_after_the_opening_ramp() -> None:
    gate = Gate(RATE_HZ)
    audio = sine(200, 0.1, 20 * HOP)
    out = gate.process(audio, -50.0)
    np.testing.assert_array_equal(out[HOP // 2 :], audio[HOP // 2 :])
    assert gate.open.all()


def test_an_onset_late_in_a_hop_is_not_softened_at_all() -> None:
    audio = burst(10, 10, 0, offset=HOP // 2)
    out = Gate(RATE_HZ).process(audio, -50.0)
    np.testing.assert_array_equal(out, audio)


def test_the_gate_stays_open_for_the_rms_frame_and_the_hold_and_then_closes() -> None:
    gate = Gate(RATE_HZ)
    gate.process(burst(5, 10, 30), -50.0)
    open_until = int(np.flatnonzero(gate.open)[-1]) + 1
    tail_of_the_rms_frame, closing_ramp = 3, 1
    assert open_until == 15 + tail_of_the_rms_frame + GATE_HOLD_HOPS + closing_ramp
    assert not gate.open[:5].any()


def test_a_threshold_that_sinks_below_the_sound_opens_over_a_whole_hop_and_a_sound_that_rises_in_4_ms() -> None:
    steady = np.full(10 * HOP, 0.1, np.float32)
    gate = Gate(RATE_HZ)
    gate.process(steady, -10.0)
    by_threshold = gate.process(steady, -50.0)[:HOP]
    gate.reset()
    by_sound = gate.process(steady, -50.0)[:HOP]
    attack = RATE_HZ * 4 // 1000
    assert by_sound[attack] == np.float32(0.1) and by_sound[0] < 0.001
    assert by_threshold[HOP // 2] == pytest.approx(0.05, rel=0.05) and by_threshold[-1] < 0.1
    assert (np.diff(by_threshold) > 0).all()


def test_opening_and_closing_do_not_click() -> None:
    # A constant makes the gate's gain itself visible.
    audio = np.full(60 * HOP, 0.003, np.float32)
    audio[: 20 * HOP] = 0.0005
    audio[40 * HOP :] = 0.0005
    out = Gate(RATE_HZ).process(audio, -55.0)
    assert out[:HOP].max() == 0.0
    assert out[-HOP:].max() == 0.0
    assert np.abs(np.diff(out[: 20 * HOP + HOP])).max() < 0.003 * 0.1
    closing = out[41 * HOP :]
    assert np.abs(np.diff(closing)).max() < 0.0005 * 0.1


def test_minus_90_turns_it_off_and_back_on_again() -> None:
    gate = Gate(RATE_HZ)
    quiet = sine(200, 1e-6, 20 * HOP)
    out = gate.process(quiet, -90.0)
    np.testing.assert_array_equal(out[HOP:], quiet[HOP:])
    assert gate.open.all()
    gate.process(quiet, -60.0)
    assert not gate.process(quiet, -60.0).any()


def test_silence_with_the_gate_off_counts_as_open() -> None:
    gate = Gate(RATE_HZ)
    gate.process(np.zeros(HOP, np.float32), -90.0)
    assert gate.open.tolist() == [True]


def test_broken_samples_become_silence_and_leave_no_trace() -> None:
    gate = Gate(RATE_HZ)
    audio = sine(200, 0.1, 20 * HOP)
    audio[100] = np.nan
    audio[200] = np.inf
    out = gate.process(audio, -50.0)
    assert np.isfinite(out).all()
    assert gate.open.all()


def test_a_part_hop_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number of 160-sample hops"):
        Gate(RATE_HZ).process(np.zeros(HOP + 1), -50.0)


def test_a_rate_without_whole_hops_is_refused() -> None:
    with pytest.raises(ValueError, match="22050"):
        Gate(22050)


@pytest.mark.parametrize("rate_hz", [8000, 44100, 48000, 192000])
def test_every_device_rate_works(rate_hz: int) -> None:
    block = np.full(rate_hz // 50, 0.1, np.float32)
    assert Gate(rate_hz).process(block, -50.0)[-1] == np.float32(0.1)


def test_a_reset_gate_is_closed() -> None:
    gate = Gate(RATE_HZ)
    gate.process(sine(200, 0.5, 4 * HOP), -50.0)
    gate.reset()
    assert not gate.process(np.zeros(HOP, np.float32), -50.0).any()


def test_an_empty_block_is_an_empty_answer() -> None:
    gate = Gate(RATE_HZ)
    assert len(gate.process(np.zeros(0), -50.0)) == 0
