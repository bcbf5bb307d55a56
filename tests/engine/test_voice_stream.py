"""Streaming equals offline for a whole voice: prior noise, flow, excitation, decoder, from the same units and pitch."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from rvcd.engine import refinegan_decoder
from rvcd.engine.dsp.noise import frame_noise
from rvcd.engine.pitch import coarse_pitch
from rvcd.engine.refinegan_decoder import activation_noise
from rvcd.engine.voice_stream import PRIOR_STREAM, SOURCE_STREAM, FrameBatch, Voice, VoiceStream, start_cycles
from rvcd.formats.voice_config import Vocoder
from rvcd.geometry import StreamGeometry
from rvcd.nets.refinegan import RefineGan
from tests.support import small_voice

FRAMES, SEED = 300, 5
RANDOM = np.random.default_rng(2)
F0_HZ = (150 + 60 * np.sin(np.arange(FRAMES) / 9)).astype(np.float32)
VOICED = RANDOM.random(FRAMES) > 0.25


def units_of(voice: Voice) -> torch.Tensor:
    return torch.randn(FRAMES, voice.spec.unit_width, generator=torch.Generator().manual_seed(3))


def offline(voice: Voice) -> np.ndarray:
    synth = voice.synthesizer
    prior = torch.from_numpy(frame_noise(SEED, 0, FRAMES, synth.config.inter_channels, PRIOR_STREAM)).T[None]
    harmonics = synth.config.vocoder.harmonics
    source = torch.from_numpy(frame_noise(SEED, 0, FRAMES, synth.dec.hop * harmonics, SOURCE_STREAM)).reshape(-1, harmonics)
    f0 = torch.from_numpy(np.where(VOICED, F0_HZ, 0).astype(np.float32))[None]
    coarse = torch.from_numpy(coarse_pitch(F0_HZ, VOICED))[None]
    return synth.infer(
        units_of(voice)[None], coarse, f0, prior_noise=prior, source_noise=source,
        start_cycles=start_cycles(SEED, synth.dec.m_source),
        activation_noise=activation_noise(SEED, synth.dec) if isinstance(synth.dec, RefineGan) else None,
    )[0].numpy()  # fmt: skip


def streamed(
    voice: Voice, block_frames: int | list[int], lookahead_ms: int, formant: float = 0.0, rate_hz: int = 40000
) -> np.ndarray:
    """Run the frames through a VoiceStream as the converter does; samples from 0 on."""
    cuts = block_frames if isinstance(block_frames, list) else [block_frames]
    geometry = StreamGeometry(rate_hz, max(cuts), lookahead_ms // 10, 100, 1)
    stream, units, out = VoiceStream(voice, geometry, seed=SEED), units_of(voice), []
    end = settled = number = 0
    while True:
        end += cuts[number % len(cuts)]
        number += 1
        if end > FRAMES:
            return np.concatenate(out)
        before, settled = settled, max(0, end - geometry.lookahead_frames)
        if settled == before:
            continue
        shift = np.full(end - before, formant, np.float32)
        stream.feed(FrameBatch(before, settled - before, units[before:end], F0_HZ[before:end], VOICED[before:end], shift))
        ready = settled * geometry.hop_samples - geometry.tail_samples
        have = sum(map(len, out))
        if ready > have:
            out.append(stream.samples(have, ready))


@pytest.mark.parametrize("cut", [2, 4, 10, 24, random.Random(7).choices([2, 4, 6, 10, 12, 24], k=50)], ids=str)
@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"rate_hz": 48000, "upsample_rates": (12, 10, 2, 2), "upsample_kernel_sizes": (24, 20, 4, 4)},
        {"rate_hz": 32000, "upsample_rates": (10, 4, 2, 2, 2), "upsample_kernel_sizes": (16, 16, 4, 4, 4), "has_f0": False},
        {"vocoder": Vocoder.MRF},
    ],
    ids=["40k", "48k", "32k without f0", "MRF"],
)
def test_given_the_same_latents_and_noise_the_stream_equals_offline(layout, cut):
    # Without attention the prior of a frame depends on that frame alone: the latents are the same in both runs.
    voice = small_voice(n_layers=0, **layout)
    expected = offline(voice)
    found = streamed(voice, cut, lookahead_ms=120, rate_hz=voice.spec.rate_hz)
    assert np.abs(expected).max() > 0.05
    assert np.abs(found - expected[: len(found)]).max() < 1e-5


def test_a_voice_whose_frames_take_an_odd_number_of_noise_values_streams_as_offline():
    layout = {"rate_hz": 44100, "upsample_rates": (7, 7, 3, 3), "upsample_kernel_sizes": (14, 14, 6, 6)}
    voice = small_voice(n_layers=0, vocoder=Vocoder.MRF, **layout)
    expected = offline(voice)
    found = streamed(voice, 10, lookahead_ms=120, rate_hz=44100)
    assert np.abs(found - expected[: len(found)]).max() < 1e-5


@pytest.mark.parametrize("vocoder", [Vocoder.REFINEGAN, Vocoder.REFINEGAN_329])
def test_a_refinegan_voice_is_the_same_for_every_block_size(vocoder, monkeypatch):
    monkeypatch.setattr(refinegan_decoder, "LOOKAHEAD_FRAMES", 100)
    voice = small_voice(n_layers=0, vocoder=vocoder)
    expected = offline(voice)
    assert np.abs(expected).max() > 0.05
    for cut in (2, 14, [2, 10, 4, 24]):
        found = streamed(voice, cut, lookahead_ms=960)
        assert np.abs(found - expected[: len(found)]).max() < 1e-4


def test_the_presets_lookahead_is_enough_for_equality():
    voice = small_voice(n_layers=0)
    expected = offline(voice)
    for lookahead_ms, limit in ((80, 1e-4), (100, 1e-5)):
        found = streamed(voice, 6, lookahead_ms)
        assert np.abs(found - expected[: len(found)]).max() < limit


def pitch_hz(samples: np.ndarray, rate_hz: int) -> float:
    """Return the strongest frequency between 80 and 500 Hz."""
    spectrum = np.abs(np.fft.rfft((samples - samples.mean()) * np.hanning(len(samples)), 1 << 18))
    hz = np.arange(len(spectrum)) * rate_hz / (1 << 18)
    return float(hz[np.argmax(spectrum * ((hz > 80) & (hz < 500)))])


@pytest.mark.parametrize("formant", [-12.0, -3.0, 4.5, 12.0])
def test_a_formant_shift_moves_the_spectrum_and_keeps_the_pitch(formant):
    voice = small_voice(n_layers=0)
    # Let the excitation dominate, so that the pitch can be measured.
    for tap in voice.synthesizer.dec.noise_convs:
        tap.weight.data.fill_(3.0 / tap.weight[0].numel())
    geometry = StreamGeometry(40000, 6, 8, 100, 1)
    stream, out = VoiceStream(voice, geometry, seed=SEED), []
    units = torch.zeros(FRAMES, voice.spec.unit_width)
    for end in range(6, FRAMES, 6):
        first, settled = max(0, end - 14), end - 8
        if settled <= 0:
            continue
        count = end - first
        batch = FrameBatch(first, settled - first, units[first:end], np.full(count, 220, np.float32), np.ones(count, bool),
                           np.full(count, formant, np.float32))  # fmt: skip
        stream.feed(batch)
        ready, have = settled * 400 - geometry.tail_samples, sum(map(len, out))
        if ready > have:
            out.append(stream.samples(have, ready))
    samples = np.concatenate(out)
    assert pitch_hz(samples[20000:], 40000) == pytest.approx(220, rel=0.005)


def test_a_restart_in_the_middle_gives_the_samples_of_a_stream_that_never_stopped():
    voice = small_voice(n_layers=0)
    expected = offline(voice)
    geometry = StreamGeometry(40000, 6, 12, 100, 1)
    stream, units, start = VoiceStream(voice, geometry, seed=SEED), units_of(voice), 150
    stream.restart(start)
    first = start - 60
    stream.feed(
        FrameBatch(first, 200 - first, units[first:212], F0_HZ[first:212], VOICED[first:212], np.zeros(212 - first, np.float32))
    )
    found = stream.samples(start * 400, 190 * 400)
    wanted = expected[start * 400 : 190 * 400]
    # The excitation's phase starts anew, so compare loudness and spectrum, not samples.
    assert np.sqrt(np.mean(found**2)) == pytest.approx(np.sqrt(np.mean(wanted**2)), rel=0.2)
    assert np.isfinite(found).all()
