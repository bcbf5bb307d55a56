from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soxr
import torch

from rvcd.engine.converter import Converter, EngineError
from rvcd.engine.pitch import PitchTracker
from rvcd.engine.voice_stream import Voice
from rvcd.evaluation.offline import convert_offline
from rvcd.geometry import StreamGeometry
from rvcd.params import Snapshot
from tests.support import FakeEncoder, FakePitch, small_voice, speech_like

PLAIN = Snapshot(gate=-90.0, rms_mix=1.0, index_rate=0.0, protect=0.5)
RATE_HZ = 40000


def make(voice: Voice | None = None, *, block_ms=60, lookahead_ms=120, rate_hz=RATE_HZ, pitch=None, **options) -> Converter:
    geometry = StreamGeometry.from_ms(
        rate_hz=rate_hz, block_ms=block_ms, lookahead_ms=lookahead_ms, deadline_ms=block_ms, context_ms=1000
    )
    tracker = PitchTracker(pitch or FakePitch(), lookahead_frames=geometry.settle_frames)
    return Converter(geometry, FakeEncoder(), tracker, voice or small_voice(n_layers=0), seed=3, **options)


def run(converter: Converter, audio: np.ndarray, snapshot: Snapshot = PLAIN) -> np.ndarray:
    """Convert whole blocks of audio, and as much silence as it takes to get everything out; aligned with the input."""
    size, delay = converter.geometry.block_samples, converter.geometry.lookahead_samples
    padded = np.pad(audio, (0, -len(audio) % size + size * (1 + delay // size)))
    blocks = [converter.process(padded[i : i + size], snapshot).audio for i in range(0, len(padded), size)]
    return np.concatenate(blocks)[delay:][: len(audio)]


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def test_the_whole_pipeline_gives_the_same_samples_for_every_block_size():
    audio = speech_like(RATE_HZ, 1.8)
    reference = run(make(block_ms=20), audio)
    assert rms(reference) > 0.003
    for block_ms in (40, 60, 100, 240):
        assert np.abs(run(make(block_ms=block_ms), audio) - reference).max() < 1e-4


def test_the_whole_pipeline_equals_offline_when_nothing_reaches_beyond_the_lookahead():
    audio_16k = speech_like(16000, 2.0)
    audio = soxr.resample(audio_16k, 16000, RATE_HZ, quality="VHQ")
    voice = small_voice(n_layers=0)
    expected = convert_offline(audio_16k, FakeEncoder(), FakePitch(), voice, PLAIN, seed=3)
    found = run(make(voice, lookahead_ms=400), audio)
    middle = slice(4000, len(expected) - 8000)
    # The two 16 kHz signals come from different resamplers, so the units differ a little.
    error = rms(found[: len(expected)][middle] - expected[middle]) / rms(expected[middle])
    assert error < 0.02


@pytest.mark.parametrize("rate_hz", [16000, 44100, 48000, 96000])
def test_output_belongs_to_the_input_at_the_same_time_at_any_rate(rate_hz):
    audio = np.zeros(rate_hz * 2, np.float32)
    start = rate_hz
    audio[start : start + rate_hz // 2] = speech_like(rate_hz, 0.5) + 0.05
    out = run(make(rate_hz=rate_hz), audio, replace(PLAIN, gate=-50.0))
    heard = np.flatnonzero(np.abs(out) > 0.01)
    assert abs(heard[0] - start) < 0.06 * rate_hz
    assert not out[: start - round(0.06 * rate_hz)].any()


def test_silence_gives_exact_silence_and_runs_no_network():
    converter = make()
    out = run(converter, np.zeros(RATE_HZ, np.float32), replace(PLAIN, gate=-60.0))
    assert not out.any()
    assert converter.encoder.calls == 0


def test_the_first_word_after_a_silence_is_converted_whole():
    audio = np.concatenate((np.zeros(RATE_HZ, np.float32), speech_like(RATE_HZ, 1.0)))
    always, skipping = run(make(), audio), run(make(), audio, replace(PLAIN, gate=-55.0))
    word = slice(RATE_HZ + RATE_HZ // 20, RATE_HZ + RATE_HZ // 2)
    assert rms(skipping[word]) == pytest.approx(rms(always[word]), rel=0.15)


def test_a_switch_to_a_voice_of_another_rate_leaves_no_gap_and_keeps_the_latency():
    converter = make(small_voice("old", n_layers=0))
    other = small_voice(
        "new",
        seed=2,
        n_layers=0,
        rate_hz=48000,
        unit_width=32,
        upsample_rates=(12, 10, 2, 2),
        upsample_kernel_sizes=(24, 20, 4, 4),
    )
    audio, size = speech_like(RATE_HZ, 2.0) + 0.1 * speech_like(RATE_HZ, 2.0, seed=4)[::-1], converter.geometry.block_samples
    out = []
    for number in range(len(audio) // size):
        if number == 12:
            converter.switch.begin(converter.new_stream(other))
            while converter.switch.next_step() is not None:
                converter.switch.prepare()
        out.append(converter.process(audio[number * size :][:size], PLAIN).audio)
        assert converter.voice.name == ("new" if number >= 12 else "old")
    joined = np.concatenate(out)
    loudness = [rms(joined[i : i + 800]) for i in range(8 * size, 18 * size, 800)]
    assert min(loudness) > 0.2 * float(np.median(loudness))
    # From then on it is what the new voice alone would have said.
    alone = make(other)
    expected = np.concatenate([alone.process(audio[i * size :][:size], PLAIN).audio for i in range(len(audio) // size)])
    later = slice(16 * size, None)
    assert rms(joined[later]) == pytest.approx(rms(expected[later]), rel=0.1)


def test_a_network_that_gives_nan_is_an_error_and_the_voice_recovers():
    converter = make()
    audio, size = speech_like(RATE_HZ, 2.0), converter.geometry.block_samples
    for i in range(6):
        converter.process(audio[i * size :][:size], PLAIN)
    weight = converter.stream.synth.enc_p.emb_pitch.weight  # one that is in no packed copy
    healthy = weight.clone()
    weight.fill_(float("nan"))
    with pytest.raises(EngineError):
        converter.process(audio[6 * size :][:size], PLAIN)
    converter.recover()
    weight.copy_(healthy)
    after = [converter.process(audio[i * size :][:size], PLAIN).audio for i in range(7, 20)]
    assert np.isfinite(after).all() and rms(np.concatenate(after)) > 0.003


def test_blocks_that_came_too_late_are_context_and_leave_the_rest_in_place():
    audio = speech_like(RATE_HZ, 3.0)
    whole, skipping = make(), make()
    size, out = whole.geometry.block_samples, []
    for i in range(len(audio) // size):
        block = audio[i * size :][:size]
        expected = whole.process(block, PLAIN).audio
        if i in (15, 16, 17):
            skipping.absorb(block, PLAIN)
        else:
            out.append((i, expected, skipping.process(block, PLAIN).audio))
    for i, expected, found in out:
        if i < 15:
            assert np.array_equal(found, expected)
        elif i > 20:
            assert rms(found) == pytest.approx(rms(expected), rel=0.5, abs=0.01)


def test_pitch_changes_reach_the_output_within_the_block_and_the_tail():
    voice = small_voice(n_layers=0)
    for tap in voice.synthesizer.dec.noise_convs:
        tap.weight.data.fill_(3.0 / tap.weight[0].numel())
    converter = make(voice)
    size, out = converter.geometry.block_samples, []
    tone = np.sin(2 * np.pi * 200 * np.arange(3 * RATE_HZ) / RATE_HZ).astype(np.float32) * 0.3
    for i in range(len(tone) // size):
        out.append(converter.process(tone[i * size :][:size], replace(PLAIN, pitch=12.0 if i >= 25 else 0.0)).audio)
    joined = np.concatenate(out)

    def pitch_at(sample: int) -> float:
        piece = joined[sample : sample + 2000] * np.hanning(2000)
        spectrum = np.abs(np.fft.rfft(piece - piece.mean(), 1 << 16))
        hz = np.arange(len(spectrum)) * RATE_HZ / (1 << 16)
        return float(hz[np.argmax(spectrum * ((hz > 100) & (hz < 1000)))])

    assert pitch_at(25 * size - 2200) == pytest.approx(200, rel=0.03)
    # 16 ms of tail and 20 ms of ramp after the block's output begins.
    assert pitch_at(25 * size + round(0.036 * RATE_HZ)) == pytest.approx(400, rel=0.03)


def test_gains_and_loudness_move_without_clicks():
    converter = make()
    size = converter.geometry.block_samples
    tone = np.sin(2 * np.pi * 200 * np.arange(2 * RATE_HZ) / RATE_HZ).astype(np.float32) * 0.3
    levels = [0.0, -12.0, 6.0, -40.0, 0.0, -6.0]
    steady, moving = [], []
    other = make()
    for i in range(len(tone) // size):
        block = tone[i * size :][:size]
        steady.append(other.process(block, PLAIN).audio)
        moving.append(converter.process(block, replace(PLAIN, gain_out=levels[i % 6], gain_in=levels[(i + 1) % 6])).audio)
    bend = [np.abs(np.diff(np.concatenate(x)[10 * size :], 2)).max() for x in (steady, moving)]
    assert bend[1] < 3.0 * bend[0]


def test_another_pitch_method_takes_over_between_blocks():
    converter = make(pitch=FakePitch(200.0))
    audio, size = speech_like(RATE_HZ, 2.0) + 0.05, converter.geometry.block_samples
    heard = []
    for i in range(len(audio) // size):
        if i == 15:
            converter.use_pitch(FakePitch(300.0))
        heard.append(converter.process(audio[i * size :][:size], PLAIN).f0_hz)
    assert set(heard[5:15]) == {200.0}
    assert set(heard[15:]) == {300.0}


def test_reset_forgets_the_audio():
    converter = make()
    audio = speech_like(RATE_HZ, 0.6)
    first = run(converter, audio)
    converter.reset()
    assert np.array_equal(run(converter, audio), first)


def test_a_speaker_of_a_multi_speaker_voice_changes_the_sound():
    voice = small_voice(n_layers=0)
    audio = speech_like(RATE_HZ, 0.6)
    one = make(voice)
    other = make(voice)
    other.switch.begin(other.new_stream(voice, speaker_id=1))
    torch.manual_seed(0)
    assert not np.allclose(run(one, audio)[8000:], run(other, audio)[8000:], atol=1e-3)


def test_one_monstrous_sample_fails_no_block_and_is_forgotten():
    audio = speech_like(RATE_HZ, 5.0)
    broken = audio.copy()
    broken[RATE_HZ] = 1e30
    found, undisturbed = run(make(), broken), run(make(), audio)
    assert np.isfinite(found).all()
    late = slice(4 * RATE_HZ, None)
    assert rms(found[late] - undisturbed[late]) < 0.05 * rms(undisturbed[late])
