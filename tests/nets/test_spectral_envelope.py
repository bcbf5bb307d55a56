"""The envelope without the pitch, against WORLD's own, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from rvcd.audio.configured import DEMO_SPEECH
from rvcd.engine.pitch.methods.world import load_package
from rvcd.nets.spectral_envelope import (
    BANDS,
    FFT_SAMPLES,
    LOOK_SAMPLES,
    RATE_HZ,
    SIDE_SAMPLES,
    SLICE_SAMPLES,
    band_centres_hz,
    band_envelope,
    mel_triangles,
)

FRAME_SAMPLES = 160


def slices_of(audio: np.ndarray, frames: int) -> torch.Tensor:
    """Return (frames, SLICE_SAMPLES) around the middles of the frames."""
    padded = torch.from_numpy(np.pad(audio, (SIDE_SAMPLES, SIDE_SAMPLES + FRAME_SAMPLES)))
    return padded[FRAME_SAMPLES // 2 :].unfold(0, SLICE_SAMPLES, FRAME_SAMPLES)[:frames]


@pytest.mark.parametrize("f0_hz", [95.0, 150.0, 260.0, 500.0])
def test_it_is_what_world_finds_with_the_same_pitch(f0_hz: float) -> None:
    audio, rate_hz = soundfile.read(DEMO_SPEECH, dtype="float32")
    assert rate_hz == RATE_HZ
    audio, frames = audio[: 2 * RATE_HZ], 180
    found = band_envelope(slices_of(audio, frames), torch.full((frames,), f0_hz), torch.ones(frames) > 0, mel_triangles())
    middles_s = (np.arange(frames) + 0.5) * FRAME_SAMPLES / RATE_HZ
    looks_s = np.stack((middles_s - LOOK_SAMPLES / RATE_HZ, middles_s + LOOK_SAMPLES / RATE_HZ), axis=1).ravel()
    world = load_package("harvest")
    spectrum = world.cheaptrick(audio.astype(np.float64), np.full(2 * frames, f0_hz), looks_s, RATE_HZ, fft_size=FFT_SAMPLES)
    expected = np.log10(spectrum @ mel_triangles().double().numpy() + 1e-10).reshape(frames, 2, BANDS).mean(axis=1)
    loud = expected.mean(axis=1) > -6
    assert loud.sum() > 50
    assert np.abs(10 * (found.numpy() - expected)[loud]).max() < 0.5  # dB
    assert np.abs(10 * (found.numpy() - expected)[loud]).mean() < 0.02


def test_a_frame_s_envelope_does_not_depend_on_the_frames_computed_with_it() -> None:
    random = torch.Generator().manual_seed(1)
    slices = 0.1 * torch.randn((9, SLICE_SAMPLES), generator=random)
    f0_hz, voiced = torch.linspace(70, 400, 9), torch.arange(9) % 3 > 0
    together = band_envelope(slices, f0_hz, voiced, mel_triangles())
    alone = [band_envelope(slices[i : i + 1], f0_hz[i : i + 1], voiced[i : i + 1], mel_triangles()) for i in range(9)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("f0_hz", [0.0, 1.0, 5000.0, float("nan")])
def test_silence_and_impossible_pitches_give_numbers(f0_hz: float) -> None:
    slices = torch.zeros((2, SLICE_SAMPLES))
    for voiced in (False, True):
        if voiced and f0_hz != f0_hz:
            continue  # a pitch that is no number is never voiced
        found = band_envelope(slices, torch.full((2,), f0_hz), torch.full((2,), voiced), mel_triangles())
        assert torch.isfinite(found).all() and found.max() < -9


def test_white_noise_has_its_variance_in_every_band() -> None:
    slices = 0.1 * torch.randn((400, SLICE_SAMPLES), generator=torch.Generator().manual_seed(2))
    found = band_envelope(slices, torch.zeros(400), torch.zeros(400) > 0, mel_triangles())
    assert found.mean(0)[5:].sub(-2.0).abs().max() < 0.35  # a mean of logarithms is a little below
    assert len(band_centres_hz()) == BANDS
