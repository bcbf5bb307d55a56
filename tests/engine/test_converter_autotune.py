"""Autotune in the stream: the same pitch however the blocks are cut, nothing at 0, and a voice that comes in later has it too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from rvcd.engine.converter import Converter
from rvcd.engine.pitch import PitchTrack
from rvcd.engine.pitch.track import FRAME_SAMPLES
from rvcd.engine.voice_stream import FrameBatch, VoiceStream
from rvcd.evaluation.offline import convert_offline
from rvcd.params import SCALES, Snapshot
from tests.engine.test_converter import PLAIN, RATE_HZ, make, rms, run
from tests.support import FakeEncoder, small_voice, speech_like

TUNED = replace(PLAIN, autotune=1.0, autotune_key=2.0, autotune_scale=float(SCALES.index("major")))


class Gliding:
    """A pitch that follows the loudness, frame by frame."""

    name, context_frames, lookahead_frames, grid_frames, step_frames = "gliding", 4, 2, 1, 1

    def estimate(self, audio_16k: NDArray[np.float32]) -> PitchTrack:
        frames = len(audio_16k) // FRAME_SAMPLES
        level = np.abs(np.asarray(audio_16k[: frames * FRAME_SAMPLES]).reshape(frames, FRAME_SAMPLES)).max(axis=1)
        voiced = level > 1e-3
        return PitchTrack(np.where(voiced, 150 * np.exp2(np.round(level, 3)), 0).astype(np.float32), voiced)


def heard_by(monkeypatch: pytest.MonkeyPatch) -> dict[VoiceStream, dict[int, float]]:
    """Return the final f0 that each stream is fed with, by frame; filled while converters run."""
    found: dict[VoiceStream, dict[int, float]] = {}
    feed = VoiceStream.feed

    def noting(self: VoiceStream, batch: FrameBatch, *rest: object) -> None:
        fed = found.setdefault(self, {})
        fed.update((batch.first + n, float(batch.f0_hz[n])) for n in range(max(batch.final, 0)))
        feed(self, batch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(VoiceStream, "feed", noting)
    return found


def test_the_pitch_and_the_samples_are_the_same_for_every_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    found, audio = heard_by(monkeypatch), speech_like(RATE_HZ, 1.8)
    reference = run(make(block_ms=20, pitch=Gliding()), audio, TUNED)
    pitch = next(iter(found.values()))
    notes = 12 * np.log2(np.array([f0 for f0 in pitch.values() if f0]) / 440)
    assert len(notes) > 50 and np.ptp(notes) > 3
    for block_ms in (60, 240):
        found.clear()
        assert np.abs(run(make(block_ms=block_ms, pitch=Gliding()), audio, TUNED) - reference).max() < 1e-4
        other = next(iter(found.values()))
        assert all(other[frame] == pytest.approx(f0, rel=1e-5) for frame, f0 in pitch.items() if frame in other)


def test_the_stream_is_what_a_whole_recording_gives() -> None:
    rising = np.linspace(0, 1, 8000, dtype=np.float32)  # the very first frames of a stream are heard through the offset's filter
    audio = speech_like(16000, 2.0) * np.concatenate((rising, np.ones(24000, np.float32)))
    voice = small_voice(n_layers=0, rate_hz=16000, upsample_rates=(8, 5, 2, 2), upsample_kernel_sizes=(16, 10, 4, 4))
    middle, errors, offline = slice(2000, -4000), [], []
    for snapshot in (PLAIN, TUNED):
        offline.append(convert_offline(audio, FakeEncoder(), Gliding(), voice, snapshot, seed=3))
        found = run(make(voice, lookahead_ms=400, rate_hz=16000, pitch=Gliding()), audio, snapshot)
        errors.append(rms((found[: len(offline[-1])] - offline[-1])[middle]) / rms(offline[-1][middle]))
    assert rms((offline[1] - offline[0])[middle]) > 0.2 * rms(offline[0][middle])
    assert errors[1] < 1.2 * errors[0] + 0.005


@pytest.mark.parametrize("pause", [False, True])
def test_at_0_the_samples_are_what_they_were_to_the_bit(pause: bool) -> None:
    audio = speech_like(RATE_HZ, 1.0)
    snapshot = replace(PLAIN, gate=-50.0 if pause else -90.0)
    key = replace(snapshot, autotune_key=5.0, autotune_scale=1.0, autotune_time=0.0)
    assert np.array_equal(run(make(pitch=Gliding()), audio, key), run(make(pitch=Gliding()), audio, snapshot))


def test_a_voice_that_comes_in_later_sings_the_same_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    found, audio = heard_by(monkeypatch), speech_like(RATE_HZ, 2.4) + 0.1 * speech_like(RATE_HZ, 2.4, seed=4)[::-1]
    converter = make(pitch=Gliding())
    size = converter.geometry.block_samples
    for number in range(len(audio) // size):
        if number == 25:
            converter.switch.begin(converter.new_stream(small_voice("new", seed=2, n_layers=0)))
            while converter.switch.next_step() is not None:
                converter.switch.prepare()
        converter.process(audio[number * size :][:size], TUNED)
    old, new = found.values()
    shared = old.keys() & new.keys()
    assert len(shared) > 50 and all(old[frame] == pytest.approx(new[frame], rel=1e-6) for frame in shared)


def test_it_goes_on_after_pauses_resets_lost_blocks_and_live_changes() -> None:
    converter = make(pitch=Gliding())
    size, random = converter.geometry.block_samples, np.random.default_rng(1)
    audio = np.concatenate((speech_like(RATE_HZ, 1.0), np.zeros(2 * RATE_HZ, np.float32), speech_like(RATE_HZ, 1.0)))
    for at in range(0, len(audio) - size, size):
        snapshot: Snapshot = replace(
            TUNED, gate=-50.0, autotune=float(random.integers(0, 3)) / 2, autotune_key=float(random.integers(0, 12)),
            autotune_scale=float(random.integers(0, len(SCALES))), pitch=float(random.integers(-12, 13)),
        )  # fmt: skip
        block = audio[at : at + size]
        if random.random() < 0.1:
            converter.absorb(block, snapshot)
        else:
            assert np.isfinite(converter.process(block, snapshot).audio).all()
        if random.random() < 0.05:
            converter.reset()
        if random.random() < 0.05:
            converter.recover()


def test_another_a4_reaches_the_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    found, audio = heard_by(monkeypatch), speech_like(RATE_HZ, 1.0)
    makes: tuple[Converter, ...] = (make(pitch=Gliding()), make(pitch=Gliding(), a4_hz=446.0))
    for converter in makes:
        run(converter, audio, replace(TUNED, autotune_time=0.0, autotune_scale=0.0))
    one, other = ({round(f0, 2) for f0 in fed.values() if f0} for fed in found.values())
    assert one and other and not one & other
