from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.engine.pitch import PitchMethod, PitchTrack, PitchTracker, create_pitch_method
from rvcd.engine.pitch.methods.rmvpe import RmvpePitch
from rvcd.engine.pitch.track import FloatArray, clean_audio
from tests.engine.voice_signals import glide, vowel
from tests.formats.hostile import PARITY

SWIFT = create_pitch_method("swift")
YIN = create_pitch_method("yin")


class FakeMethod:
    """Frame t's f0 is 100 + the mean of the frames within reach, so that a missing one shows. Counts its calls and samples."""

    name = "fake"
    context_frames = 3
    lookahead_frames = 2
    grid_frames = 1
    step_frames = 1

    def __init__(self) -> None:
        self.windows: list[int] = []

    def estimate(self, audio_16k: npt.ArrayLike) -> PitchTrack:
        audio = clean_audio(audio_16k)
        self.windows.append(len(audio))
        values = audio[: len(audio) // 160 * 160].reshape(-1, 160).mean(axis=1).astype(np.float64)
        padded = np.pad(values, (self.context_frames, self.lookahead_frames))
        reach = np.lib.stride_tricks.sliding_window_view(padded, self.context_frames + 1 + self.lookahead_frames)
        f0_hz = (100 + reach.mean(axis=1)).astype(np.float32) if len(values) else np.zeros(0, np.float32)
        return PitchTrack(f0_hz, values > 0.5)


def ramp_audio(frames: int) -> FloatArray:
    return np.repeat(np.random.default_rng(5).random(frames), 160).astype(np.float32)


def streamed(method: PitchMethod, audio: FloatArray, cuts: list[int], lookahead_frames: int) -> PitchTrack:
    """Feed audio in the given cuts (repeated) and collect each frame when it becomes final."""
    tracker = PitchTracker(method, lookahead_frames=lookahead_frames)
    parts: list[PitchTrack] = []
    position, step, done = 0, 0, 0
    while position < len(audio):
        size = cuts[step % len(cuts)]
        tracker.update(audio[position : position + size])
        position, step = position + size, step + 1
        parts.append(tracker.track(done, tracker.final_end_frame - done))
        done = tracker.final_end_frame
    return PitchTrack(np.concatenate([p.f0_hz for p in parts]), np.concatenate([p.voiced for p in parts]))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=8))
def test_with_the_lookahead_it_asks_for_any_cut_streams_to_the_offline_track(cuts: list[int]) -> None:
    audio = ramp_audio(40)
    track = streamed(FakeMethod(), audio, cuts, FakeMethod.lookahead_frames)
    offline = FakeMethod().estimate(audio)[: len(track)]
    assert len(track) == 38
    np.testing.assert_array_equal(track.f0_hz, offline.f0_hz)
    np.testing.assert_array_equal(track.voiced, offline.voiced)


@pytest.mark.parametrize("block", [320, 640, 960, 1600, 3840])
@pytest.mark.parametrize("method", [SWIFT, YIN], ids=["swift", "yin"])
def test_a_real_methods_stream_equals_its_offline_track(method: PitchMethod, block: int) -> None:
    audio = vowel(glide(90.0, 350.0, 1.6))
    audio[9000:12000] = 0
    track = streamed(method, audio, [block], method.lookahead_frames)
    offline = method.estimate(audio)[: len(track)]
    started = 5  # frames: a stream's very first windows are shorter than a method needs
    np.testing.assert_array_equal(track.voiced[started:], offline.voiced[started:])
    np.testing.assert_allclose(track.f0_hz[started:], offline.f0_hz[started:], atol=0.01)


@pytest.mark.parametrize("lookahead_frames", [0, 2])
def test_with_little_lookahead_swift_stays_close_to_offline(lookahead_frames: int) -> None:
    audio = vowel(glide(90.0, 350.0, 1.6))
    track = streamed(SWIFT, audio, [1600], lookahead_frames)
    offline = SWIFT.estimate(audio)[: len(track)]
    both = track.voiced & offline.voiced
    assert both.mean() > 0.97
    assert np.median(np.abs(1200 * np.log2(track.f0_hz[both] / offline.f0_hz[both]))) < 10


def test_a_final_frame_never_changes_and_a_provisional_one_may() -> None:
    tracker = PitchTracker(FakeMethod(), lookahead_frames=1)
    audio = ramp_audio(30)
    seen: dict[int, float] = {}
    provisional_changed = False
    for block in range(10):
        tracker.update(audio[block * 480 : (block + 1) * 480])
        everything = tracker.track(0, tracker.end_frame)
        for frame, value in seen.items():
            assert everything.f0_hz[frame] == value
        seen.update({f: float(everything.f0_hz[f]) for f in range(tracker.final_end_frame)})
        newest = float(everything.f0_hz[-1])
        if block < 9:
            tracker.update(audio[(block + 1) * 480 : (block + 1) * 480])
        provisional_changed |= newest != float(FakeMethod().estimate(audio).f0_hz[tracker.end_frame - 1])
    assert provisional_changed


def test_the_window_is_no_longer_than_the_method_needs() -> None:
    method = FakeMethod()
    tracker = PitchTracker(method, lookahead_frames=2)
    audio = ramp_audio(200)
    for block in range(20):
        tracker.update(audio[block * 1600 : (block + 1) * 1600])
    assert max(method.windows[2:]) == (3 + 10 + 2) * 160


class SteppingMethod(FakeMethod):
    """Answers with where in its window a frame lies, so that another window shows."""

    step_frames = 32

    def estimate(self, audio_16k: npt.ArrayLike) -> PitchTrack:
        audio = clean_audio(audio_16k)
        self.windows.append(len(audio))
        frames = len(audio) // 160
        return PitchTrack(100 + np.arange(frames, dtype=np.float32), np.ones(frames, np.bool_))


@pytest.mark.parametrize(("block", "lookahead", "frames"), [(4, 8, 31), (10, 8, 31), (14, 8, 31), (20, 10, 63), (28, 2, 63)])
def test_the_window_of_a_method_that_works_in_steps_is_filled_with_the_past(block: int, lookahead: int, frames: int) -> None:
    method = SteppingMethod()
    tracker = PitchTracker(method, lookahead_frames=lookahead)
    audio = ramp_audio(40 * block)
    for i in range(40):
        tracker.update(audio[i * block * 160 : (i + 1) * block * 160])
    assert set(method.windows[-20:]) == {frames * 160}
    first_final = frames - lookahead - block
    final = tracker.track(tracker.final_end_frame - block, block)
    assert final.f0_hz.tolist() == [100 + first_final + i for i in range(block)]
    assert first_final >= method.context_frames


@pytest.mark.parametrize(("block", "lookahead"), [(4, 8), (10, 8), (20, 10)])
def test_rmvpes_stream_equals_the_windows_cut_from_the_whole_recording(block: int, lookahead: int) -> None:
    method = RmvpePitch.from_file(PARITY / "rmvpe_tiny.pt")
    frames = 12 * block
    audio = vowel(glide(90.0, 350.0, frames / 100))[: frames * 160]
    track = streamed(method, audio, [block * 160], lookahead)
    compared = 0
    for end in range(block, frames + 1, block):
        window = 31 if block + lookahead + method.context_frames < 32 else 63
        if end <= window:
            continue
        alone = method.estimate(audio[(end - window) * 160 : end * 160])
        final = slice(end - block - lookahead, end - lookahead)
        seen = slice(window - block - lookahead, window - lookahead)
        np.testing.assert_array_equal(track.f0_hz[final], alone.f0_hz[seen])
        np.testing.assert_array_equal(track.voiced[final], alone.voiced[seen])
        compared += 1
    assert compared > 2
    assert track.voiced.any()


def test_digital_silence_is_not_given_to_the_method() -> None:
    method = FakeMethod()
    tracker = PitchTracker(method, lookahead_frames=2)
    for _ in range(5):
        tracker.update(np.zeros(1600, np.float32))
    assert method.windows == []
    assert not tracker.track(0, 50).voiced.any()
    tracker.update(np.ones(1600, np.float32))
    assert len(method.windows) == 1
    assert tracker.track(50, 10).voiced.all()


def test_frames_before_the_stream_are_unvoiced() -> None:
    tracker = PitchTracker(FakeMethod(), lookahead_frames=0)
    tracker.update(np.ones(480, np.float32))
    assert tracker.track(-5, 8).voiced.tolist() == [False] * 5 + [True] * 3
    assert len(tracker.track(-50, 10)) == 10


def test_frames_not_heard_or_forgotten_are_an_error() -> None:
    tracker = PitchTracker(FakeMethod(), lookahead_frames=0, history_frames=10)
    for _ in range(4):
        tracker.update(np.ones(1600, np.float32))
    assert tracker.track(30, 10).voiced.all()
    with pytest.raises(ValueError, match="40 heard"):
        tracker.track(35, 6)
    with pytest.raises(ValueError, match="kept"):
        tracker.track(29, 1)


def test_a_reset_tracker_starts_again_at_frame_0() -> None:
    tracker = PitchTracker(FakeMethod(), lookahead_frames=0)
    tracker.update(np.ones(1600, np.float32))
    tracker.reset()
    assert tracker.end_frame == 0
    tracker.update(np.zeros(320, np.float32))
    assert tracker.track(0, 2).voiced.tolist() == [False, False]
