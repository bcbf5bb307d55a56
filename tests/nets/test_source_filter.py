"""The source-filter decoder, untrained: what is given is what is heard."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.engine.pitch.methods.swift import SwiftPitch
from rvcd.engine.source_filter_decoder import SourceFilterDecoder, SourceFilterLayers
from rvcd.nets.frame_net import FrameNetSizes
from rvcd.nets.source_filter import HOP_SAMPLES, RATE_HZ, TAIL_SAMPLES, SourceFilter, SourceFilterSizes
from rvcd.nets.spectral_envelope import BANDS, SIDE_SAMPLES, SLICE_SAMPLES, band_envelope, mel_triangles

FRAMES = 60
SIZES = SourceFilterSizes(FrameNetSizes.of(16, 24, [3, 5, 3], 1), FrameNetSizes.of(24, 32, [5, 5], 1))


def decoder(*, silent: bool = False) -> SourceFilter:
    """silent: the networks say nothing."""
    torch.manual_seed(1)
    made = SourceFilter(SIZES).eval().requires_grad_(False)
    for net in (made.convert.net, made.net) if silent else ():
        net.leave.weight.zero_()
        net.leave.bias.zero_()
    if silent:
        made.convert.amount.zero_()
    return made


def noise(frames: int, seed: int = 2) -> torch.Tensor:
    return torch.randn((1, frames * HOP_SAMPLES), generator=torch.Generator().manual_seed(seed))


def envelope_of(audio: torch.Tensor, frames: int, f0_hz: float) -> torch.Tensor:
    """audio (L,) at RATE_HZ -> (frames, BANDS)."""
    heard = np.pad(soxr.resample(audio.numpy(), RATE_HZ, 16000).astype(np.float32), SIDE_SAMPLES)
    slices = torch.from_numpy(heard)[80:].unfold(0, SLICE_SAMPLES, 160)[:frames]
    count = len(slices)
    return band_envelope(slices, torch.full((count,), f0_hz), torch.full((count,), f0_hz > 0), mel_triangles())


@pytest.mark.parametrize("f0_hz", [0.0, 130.0, 240.0])
def test_the_envelope_that_is_given_is_the_one_that_is_heard(f0_hz: float) -> None:
    frames = 200
    wanted = -3.0 - 1.5 * torch.linspace(0, 1, BANDS) + 0.8 * torch.sin(torch.linspace(0, 12, BANDS))
    made = decoder(silent=True)(
        wanted.expand(1, frames, BANDS), torch.full((1, frames), f0_hz), torch.full((1, frames), f0_hz > 0), noise(frames)
    )
    found = envelope_of(made[0], frames, f0_hz)[20:-20].mean(0)
    assert (found - wanted)[4:70].abs().mean() < 0.25  # dB 2.5; noise is a little softer in the mean of logarithms


@pytest.mark.parametrize("f0_hz", [90.0, 210.0, 480.0])
def test_the_pitch_that_is_given_is_the_one_that_is_heard(f0_hz: float) -> None:
    frames = 120
    bands = torch.full((1, frames, BANDS), -3.0) - torch.linspace(0, 2, BANDS)
    made = decoder(silent=True)(bands, torch.full((1, frames), f0_hz), torch.ones((1, frames)) > 0, noise(frames))
    track = SwiftPitch().estimate(soxr.resample(made[0].numpy(), RATE_HZ, 16000).astype(np.float32))
    heard = track.f0_hz[track.voiced]
    assert track.voiced.mean() > 0.8 and np.median(np.abs(1200 * np.log2(heard / f0_hz))) < 10


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, FRAMES - 1), max_size=6, unique=True))
def test_a_stream_cut_anywhere_makes_the_samples_of_the_whole(cuts: list[int]) -> None:
    random = torch.Generator().manual_seed(3)
    bands = 0.5 * torch.randn((1, FRAMES, BANDS), generator=random) - 3
    f0_hz, voiced = 100 + 200 * torch.rand((1, FRAMES), generator=random), torch.rand((1, FRAMES), generator=random) > 0.4
    white, made = noise(FRAMES), decoder()
    whole = made(bands, f0_hz, voiced, white)[0]
    stream = SourceFilterDecoder(SourceFilterLayers.of(made))
    edges, parts = [0, *sorted(cuts), FRAMES], []
    for first, end in itertools.pairwise(edges):
        seen = min(FRAMES, end + stream.exact_lookahead_frames)
        pitch = f0_hz[0, first:seen], voiced[0, first:seen], white[0, first * HOP_SAMPLES : seen * HOP_SAMPLES]
        parts.append(stream.run(bands[:, first:seen].transpose(1, 2), pitch, end - first, []))
    streamed = torch.cat(parts)
    torch.testing.assert_close(streamed[TAIL_SAMPLES:], whole[: len(streamed) - TAIL_SAMPLES], rtol=1e-4, atol=1e-5)


def test_after_a_reset_a_stream_begins_as_a_new_one() -> None:
    made, random = decoder(), torch.Generator().manual_seed(4)
    bands = torch.randn((1, BANDS, 20), generator=random) - 3
    pitch = torch.full((20,), 150.0), torch.ones(20) > 0, noise(20)[0]
    stream = SourceFilterDecoder(SourceFilterLayers.of(made))
    first = stream.run(bands, pitch, 20, []).clone()
    assert not torch.equal(stream.run(bands, pitch, 20, []), first)
    stream.reset(7)
    assert torch.equal(stream.run(bands, pitch, 20, []), first) and stream.state.frames == 7


def test_silence_stays_silent_and_extremes_give_numbers() -> None:
    made = decoder(silent=True)
    silent = made(torch.full((1, 30, BANDS), -10.0), torch.zeros((1, 30)), torch.zeros((1, 30)) > 0, noise(30))
    assert silent.abs().max() < 1e-4
    loud = decoder()(torch.full((1, 30, BANDS), 30.0), torch.full((1, 30), 1e9), torch.ones((1, 30)) > 0, noise(30))
    assert torch.isfinite(loud).all()
