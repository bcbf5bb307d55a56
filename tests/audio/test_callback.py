"""What the callback plays: bypass, mute, silence, fades, limits, and nothing else."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from rvcd.ipc.segment import AudioSegment, ReadStatus
from tests.audio.conftest import HandDriven

NOISE = np.random.default_rng(5).uniform(-0.9, 0.9, 60_000).astype(np.float32)
SETTLED = 480  # 10 ms: the longest ramp


def in_periods(device: HandDriven, sound: np.ndarray, period: int = 256) -> np.ndarray:
    return np.concatenate([device.process(sound[i : i + period]) for i in range(0, len(sound), period)])


@pytest.mark.parametrize("latency", [0, 1, 255, 256, 4801, 2**18 - 4096])
def test_bypass_plays_the_input_delayed_by_exactly_the_latency(segment: AudioSegment, latency: int) -> None:
    sound = np.resize(NOISE, latency + 20_000)
    segment.set_latency_samples(latency)
    segment.set_bypass(True)
    device = HandDriven(segment)
    played = in_periods(device, sound)
    assert not played[:latency].any()
    np.testing.assert_array_equal(played[latency + SETTLED :], sound[SETTLED : len(sound) - latency])
    device.close()


def test_a_latency_the_ring_cannot_remember_is_refused(segment: AudioSegment) -> None:
    with pytest.raises(ValueError, match="not in 0"):
        segment.set_latency_samples(2**18 - 4095)


@pytest.mark.parametrize("latency", [0, 1000])
def test_without_a_worker_the_output_is_exactly_zero(segment: AudioSegment, latency: int) -> None:
    segment.set_latency_samples(latency)
    device = HandDriven(segment)
    assert not in_periods(device, NOISE).any()
    device.close()


def test_the_raw_voice_is_never_heard_unless_bypass_is_exactly_set(segment: AudioSegment) -> None:
    """Whatever a worker writes, or half writes, the input does not come out; and bypass off means off."""
    segment.set_latency_samples(512)
    segment.write_output(0, np.full(3000, np.nan, np.float32))
    device = HandDriven(segment)
    assert not in_periods(device, NOISE[:20_000]).any()
    assert segment.counters().bad_output_samples == 3000
    segment.set_bypass(True)
    assert device.process(NOISE[:1000]).any()
    segment.set_bypass(False)
    device.process(NOISE[:SETTLED])
    assert not in_periods(device, NOISE[:5000]).any()
    device.close()


def test_bypass_and_voice_cross_over_without_a_step(segment: AudioSegment) -> None:
    segment.set_latency_samples(240)
    device = HandDriven(segment)
    ones = np.full(4800, 0.5, np.float32)
    segment.write_output(0, np.full(4800, 0.25, np.float32))
    before = device.process(ones[:1920])
    segment.set_bypass(True)
    after = device.process(ones[:1920])
    assert before[-1] == np.float32(0.25)
    assert after[-1] == np.float32(0.5)
    assert np.abs(np.diff(np.concatenate([before[240:], after]))).max() < 1.5 * 0.25 / 480 * 1.01
    way = np.linspace(0, 1, 481)[1:]
    np.testing.assert_allclose(after[:480], 0.25 + 0.25 * way * way * (3 - 2 * way), atol=1e-5)
    device.close()


def test_mute_takes_five_milliseconds_and_ends_in_exact_silence(segment: AudioSegment) -> None:
    segment.write_output(0, np.full(4000, 0.5, np.float32))
    device = HandDriven(segment)
    device.process(np.zeros(1000))
    segment.set_mute(True)
    played = device.process(np.zeros(1000))
    assert played[238] > 0
    assert not played[240:].any()
    segment.set_mute(False)
    assert device.process(np.zeros(1000))[241] == np.float32(0.5)
    device.close()


def test_silence_until_a_position_flushes_what_is_in_flight_and_then_fades_in(segment: AudioSegment) -> None:
    segment.write_output(0, np.full(8000, 0.5, np.float32))
    device = HandDriven(segment)
    device.process(np.zeros(1000))
    segment.silence_until(2345)
    played = np.concatenate([device.process(np.zeros(1000)), device.process(np.zeros(1000))])
    assert not played[:1345].any()
    assert 0 < played[1345] < 0.01
    assert played[1345 + 240] == np.float32(0.5)
    device.close()


@pytest.mark.parametrize("available", [0, 1, 40, 96, 200, 255])
def test_running_short_fades_out_and_back_in_without_a_click(segment: AudioSegment, available: int) -> None:
    segment.set_expect_output(True)
    device = HandDriven(segment)
    segment.write_output(0, np.full(1024 + available, 0.8, np.float32))
    played = [device.process(np.zeros(256)) for _ in range(8)]
    assert segment.counters().late_samples == 4 * 256 - available
    assert segment.counters().late_events == 1
    segment.write_output(segment.device_position(), np.full(1024, 0.8, np.float32))
    played += [device.process(np.zeros(256)) for _ in range(4)]
    whole = np.concatenate(played)
    assert np.abs(np.diff(whole)).max() < 0.8 / 96 * 1.01
    assert not whole[1024 + max(available, 96) : 2048].any()
    assert whole[2048 + 240] == np.float32(0.8)
    device.close()


def test_missing_output_is_counted_only_while_it_is_expected(segment: AudioSegment) -> None:
    device = HandDriven(segment)
    device.process(np.zeros(500))
    assert segment.counters().late_samples == 0
    segment.set_expect_output(True)
    device.process(np.zeros(300))
    assert segment.counters().late_samples == 300
    device.close()


def test_output_is_limited_to_full_scale_and_clips_are_counted_in_runs(segment: AudioSegment) -> None:
    segment.write_output(0, np.concatenate([np.zeros(480), np.full(50, 3.0), np.zeros(50), np.full(50, -3.0)]).astype(np.float32))
    device = HandDriven(segment)
    played = device.process(np.zeros(630))
    assert (played.max(), played.min()) == (1.0, -1.0)
    assert segment.counters().out_clips == 2
    assert segment.take_peaks()[1] == 3.0
    assert segment.take_peaks()[1] == 0.0
    device.close()


def test_broken_input_samples_become_zero_and_are_counted(segment: AudioSegment) -> None:
    sound = NOISE[:1000].copy()
    sound[[3, 500]], sound[700:710] = [math.nan, math.inf], -math.inf
    device = HandDriven(segment)
    device.process(sound)
    heard = np.empty(1000, np.float32)
    segment.read_input(0, heard)
    np.testing.assert_array_equal(heard, np.nan_to_num(sound, nan=0, posinf=0, neginf=0))
    assert segment.counters().bad_input_samples == 12
    device.close()


@pytest.mark.parametrize(("channel", "expected"), [(0, 0.5), (1, 0.25), (2, 0.75), (3, 0.5)])
def test_the_input_is_one_channel_or_the_average_of_all(segment: AudioSegment, channel: int, expected: float) -> None:
    segment.set_input_channel(channel)
    device = HandDriven(segment, in_channels=2, out_channels=3)
    segment.set_bypass(True)
    played = device.process(np.tile(np.float32([0.25, 0.75]), (2000, 1)))
    assert played.shape == (2000, 3)
    np.testing.assert_array_equal(played[SETTLED:], np.full((2000 - SETTLED, 3), expected, np.float32))
    device.close()


def test_periods_longer_than_a_chunk_are_played_whole(segment: AudioSegment) -> None:
    segment.set_latency_samples(100)
    segment.set_bypass(True)
    device = HandDriven(segment)
    played = device.process(NOISE[:20_000])
    np.testing.assert_array_equal(played[SETTLED + 100 :], NOISE[SETTLED:19_900])
    assert segment.counters().callbacks == 1
    device.close()


def test_a_device_opened_later_takes_over_and_the_earlier_one_falls_silent(segment: AudioSegment) -> None:
    segment.set_bypass(True)
    first = HandDriven(segment)
    first.process(NOISE[:1000])
    second = HandDriven(segment)
    assert not first.process(NOISE[:1000]).any()
    assert first.result == 2  # paAbort
    assert segment.device_position() == 1000
    assert second.process(NOISE[:1000]).any()
    assert segment.device_position() == 2000
    first.close()
    second.close()


def heard(segment: AudioSegment, count: int) -> np.ndarray:
    """What the tap holds of the last count samples."""
    tapped = np.full(count, 7.0, np.float32)
    assert segment.read_tap(segment.device_position() - count, tapped) is ReadStatus.OK
    return tapped


@pytest.mark.parametrize("period", [1, 64, 480, 4096, 9999])
def test_the_tap_holds_exactly_what_the_device_was_given(segment: AudioSegment, period: int) -> None:
    """Through voice, too loud a voice, late silence, bypass, mute and a flush, whatever the period."""
    segment.set_latency_samples(700)
    device = HandDriven(segment)
    segment.write_output(0, np.concatenate([NOISE[:3000], 3 * NOISE[:3000]]))
    played = [in_periods(device, NOISE[:8000], period)]
    segment.set_bypass(True)
    played.append(in_periods(device, NOISE[:4000], period))
    segment.silence_until(segment.device_position() + 1000)
    played.append(in_periods(device, NOISE[:4000], period))
    segment.set_mute(True)
    played.append(in_periods(device, NOISE[:4000], period))
    given = np.concatenate(played)
    np.testing.assert_array_equal(heard(segment, len(given)), given)
    assert np.abs(given[3000:6000]).max() == 1.0
    assert given[9000:12000].any() and not given[12000:13000].any() and given[13000:16000].any() and not given[17000:].any()
    device.close()


def test_the_tap_is_one_channel_whatever_the_device_has_and_goes_on_without_outputs(segment: AudioSegment) -> None:
    segment.set_bypass(True)
    for outputs in (6, 0):
        device = HandDriven(segment, out_channels=outputs)
        device.process(NOISE[:SETTLED])
        given = device.process(NOISE[:3000])
        np.testing.assert_array_equal(heard(segment, 3000), NOISE[:3000])
        assert all(np.array_equal(given[:, channel], NOISE[:3000]) for channel in range(outputs))
        device.close()


def test_a_device_that_was_given_up_does_not_write_into_the_tap(segment: AudioSegment) -> None:
    segment.set_bypass(True)
    first = HandDriven(segment)
    first.process(NOISE[:1000])
    second = HandDriven(segment)
    given = second.process(NOISE[:1000])
    first.process(NOISE[1000:3000])
    np.testing.assert_array_equal(heard(segment, 1000), given)
    first.close()
    second.close()


def test_device_flags_are_counted_as_xruns(segment: AudioSegment) -> None:
    device = HandDriven(segment)
    for flags in (0, 1, 2, 4, 8, 6):
        device.process(np.zeros(64), flags)
    counters = segment.counters()
    assert (counters.input_xruns, counters.output_xruns) == (3, 3)
    assert (counters.callbacks, counters.period_samples) == (6, 64)
    device.close()


def test_the_longest_gap_between_two_callbacks_is_taken_once(segment: AudioSegment) -> None:
    device = HandDriven(segment)
    device.process(np.zeros(64))
    assert segment.take_gap_max_ns() == 0  # one callback has no gap
    time.sleep(0.02)
    device.process(np.zeros(64))
    gap_ns = segment.counters().gap_max_ns
    assert gap_ns >= 20_000_000
    assert segment.take_gap_max_ns() == gap_ns
    assert segment.take_gap_max_ns() == 0
    device.process(np.zeros(64))
    assert segment.take_gap_max_ns() > 0
    device.close()


def test_every_sample_of_a_hung_workers_silence_is_counted_and_is_one_event(segment: AudioSegment) -> None:
    segment.set_expect_output(True)
    device = HandDriven(segment)
    segment.write_output(0, np.full(3000, 0.5, np.float32))  # then it hangs, and says nothing of it
    for _ in range(40):
        device.process(np.zeros(256))
    counters = segment.counters()
    assert (counters.late_samples, counters.late_events) == (40 * 256 - 3000, 1)
    # It wakes up and writes where it was: too late for that, and the gap it leaves is late, not a gap as well.
    written = segment.write_output(3000, np.full(1000, 0.5, np.float32))
    assert (written.written, written.expired) == (0, 1000)
    segment.write_output(40 * 256, np.full(1000, 0.5, np.float32))
    counters = segment.counters()
    assert (counters.expired_samples, counters.gap_samples, counters.overflow_samples) == (1000, 0, 0)
    device.process(np.zeros(1500))
    counters = segment.counters()
    assert (counters.late_samples, counters.late_events) == (40 * 256 - 3000 + 500, 2)
    device.close()
