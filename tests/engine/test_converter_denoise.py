"""The converter with a denoiser ahead of its gate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from rvcd.engine.converter import Converter, EngineError
from rvcd.engine.denoiser import Denoiser, Network
from rvcd.engine.pitch import PitchTracker
from rvcd.geometry import StreamGeometry
from rvcd.nets.gtcrn import GtcrnState
from rvcd.params import Snapshot
from tests.support import FakeEncoder, FakePitch, small_voice, speech_like

RATE_HZ = 48000
PLAIN = Snapshot(gate=-50.0, rms_mix=1.0, index_rate=0.0, protect=0.5, denoise=1.0)


def unchanged(spectra: Tensor, state: GtcrnState) -> Tensor:
    return spectra


def make(network: Network | None, block_ms: int = 60) -> Converter:
    geometry = StreamGeometry.from_ms(
        rate_hz=RATE_HZ, block_ms=block_ms, lookahead_ms=120, deadline_ms=block_ms, context_ms=1000, denoiser=True
    )
    tracker = PitchTracker(FakePitch(), lookahead_frames=geometry.settle_frames)
    denoiser = Denoiser(network, RATE_HZ, geometry.block_samples)
    return Converter(geometry, FakeEncoder(), tracker, small_voice(n_layers=0), seed=3, denoiser=denoiser)


def run(converter: Converter, audio: np.ndarray, snapshot: Snapshot = PLAIN) -> np.ndarray:
    size = converter.geometry.block_samples
    blocks = [converter.process(audio[i : i + size], snapshot).audio for i in range(0, len(audio) - size + 1, size)]
    return np.concatenate(blocks)


def word(start_s: float = 1.0, seconds: float = 2.0) -> np.ndarray:
    audio = np.zeros(int(seconds * RATE_HZ), np.float32)
    first = int(start_s * RATE_HZ)
    audio[first : first + RATE_HZ // 2] = speech_like(RATE_HZ, 0.5) + 0.05
    return audio


@pytest.mark.parametrize("amount", [0.0, 1.0])
def test_the_voice_is_late_by_the_geometrys_delay_whether_it_is_on_or_off(amount: float) -> None:
    converter = make(unchanged)
    geometry = converter.geometry
    assert geometry.latency_samples == geometry.block_samples + geometry.delay_samples + geometry.deadline_samples
    made = run(converter, word(), replace(PLAIN, denoise=amount))
    heard = np.flatnonzero(np.abs(made) > 0.01)
    # Block n is written where its first input sample was, so the delay is all that is between input and output.
    assert abs(heard[0] - (RATE_HZ + geometry.delay_samples)) < 0.06 * RATE_HZ
    assert not made[: RATE_HZ + geometry.delay_samples - round(0.06 * RATE_HZ)].any()


def test_the_same_samples_for_every_block_size() -> None:
    audio = word()
    reference = run(make(unchanged, 20), audio)
    assert np.abs(reference).max() > 0.01
    for block_ms in (40, 100):
        found = run(make(unchanged, block_ms), audio)
        assert np.abs(found - reference[: len(found)]).max() < 1e-4


def test_gate_encoder_and_pitch_hear_the_cleaned_signal() -> None:
    audio = np.full(RATE_HZ, 0.0, np.float32) + 0.2 * np.random.default_rng(1).standard_normal(RATE_HZ).astype(np.float32)
    nothing_left = make(lambda spectra, state: torch.zeros_like(spectra))
    assert not run(nothing_left, audio).any()
    assert nothing_left.encoder is not None and nothing_left.encoder.calls == 0
    assert not np.asarray(nothing_left.gated.rows(nothing_left.gated.end - 4800, nothing_left.gated.end)).any()
    off = make(lambda spectra, state: torch.zeros_like(spectra))
    assert run(off, audio, replace(PLAIN, denoise=0.0)).any()


def test_silence_stays_exact_silence() -> None:
    converter = make(unchanged)
    assert not run(converter, np.zeros(RATE_HZ, np.float32), replace(PLAIN, gate=-60.0)).any()


def test_a_network_that_fails_is_a_failed_block_and_the_voice_comes_back_at_the_same_delay() -> None:
    failing = False

    def network(spectra: Tensor, state: GtcrnState) -> Tensor:
        return spectra * torch.nan if failing else spectra

    audio = np.tile(speech_like(RATE_HZ, 1.0) + 0.02, 3).astype(np.float32)
    expected, converter = run(make(unchanged), audio), make(network)
    size, made = converter.geometry.block_samples, []
    for number in range(len(audio) // size):
        failing, block = number in (12, 13), audio[number * size :][:size]
        if not failing:
            made.append(converter.process(block, PLAIN).audio)
            continue
        with pytest.raises(EngineError, match="denoiser"):
            converter.process(block, PLAIN)
        converter.recover()
        made.append(np.zeros(size, np.float32))
    assert converter.blocks == len(audio) // size
    assert not made[12].any() and not made[13].any()
    found = np.concatenate(made)
    later = slice(-size * 12, None)
    assert np.abs(found[later] - expected[later]).max() < 0.2 * np.abs(expected).max()
    assert np.corrcoef(found[later], expected[later])[0, 1] > 0.99


def test_a_block_that_came_too_late_is_taken_as_context_at_its_place() -> None:
    audio = np.tile(speech_like(RATE_HZ, 1.0) + 0.02, 3).astype(np.float32)
    expected, converter = run(make(unchanged), audio), make(unchanged)
    size, made = converter.geometry.block_samples, []
    for number in range(len(audio) // size):
        block = audio[number * size :][:size]
        if number == 20:
            converter.absorb(block, PLAIN)
            made.append(np.zeros(size, np.float32))
        else:
            made.append(converter.process(block, PLAIN).audio)
    later = slice(-size * 10, None)
    assert np.corrcoef(np.concatenate(made)[later], expected[later])[0, 1] > 0.99


def test_a_denoiser_whose_delay_is_not_the_geometrys_is_refused() -> None:
    converter = make(unchanged)
    with pytest.raises(ValueError, match="delay"):
        Converter(
            replace(converter.geometry, denoise_samples=0), FakeEncoder(), PitchTracker(FakePitch(), lookahead_frames=10),
            small_voice(n_layers=0), denoiser=Denoiser(unchanged, RATE_HZ, 960),
        )  # fmt: skip
