"""Streaming equals offline: the decoder, given the same latents and excitation, for any cut into steps."""

from __future__ import annotations

import math
import random

import pytest
import torch
import torch.nn.functional as F

from rvcd.engine.decoder import MAX_TAIL_MS, StreamingDecoder
from rvcd.engine.decoder_layers import DecoderLayers
from rvcd.nets.conv_ways import Ways
from rvcd.nets.excitation import SourceState
from rvcd.nets.synthesizer import Synthesizer
from rvcd.nets.tiled_conv import DIRECT, TILES, available
from tests.support import VOICES, parity_voice

FRAMES = 97


def latents(model: Synthesizer) -> tuple[torch.Tensor, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(4)
    z = torch.randn(1, model.config.inter_channels, FRAMES, generator=generator)
    if model.dec.m_source is None:
        return z, None
    f0 = 200 + 100 * torch.rand(FRAMES, generator=generator)
    voiced = torch.rand(FRAMES, generator=generator) > 0.2
    noise = torch.randn(FRAMES * model.dec.hop, model.config.vocoder.harmonics, generator=generator)
    return z, model.dec.m_source.of(f0, voiced, noise, SourceState())[None, None]


def stream(decoder: StreamingDecoder, z, source, steps, lookahead: int) -> torch.Tensor:
    """Decode in steps of the given sizes (cycled), flush the tail, and return the samples aligned with the frames."""
    decoder.reset()
    hop, out, first, number = decoder.hop, [], 0, 0
    end = FRAMES + math.ceil(decoder.tail_samples / hop)
    while first < end:
        frames = min(steps[number % len(steps)], end - first)
        needed = first + frames + lookahead
        missing = max(0, needed - FRAMES)
        piece = F.pad(z, (0, missing))[..., first:needed]
        excitation = None if source is None else F.pad(source, (0, missing * hop))[..., first * hop : needed * hop]
        out.append(decoder.step(piece, excitation, frames, end_frame=FRAMES))
        first, number = first + frames, number + 1
    return torch.cat(out)[decoder.tail_samples :][: FRAMES * hop]


CUTS = {"20 ms": [2], "40 ms": [4], "100 ms": [10], "240 ms": [24], "random": random.Random(1).choices(range(1, 30), k=40)}


CASES = [(stem, cut) for stem in VOICES[:2] for cut in CUTS] + [
    (stem, cut) for stem in VOICES[2:] for cut in ("240 ms", "random")
]


@pytest.mark.parametrize("stem, cut", CASES)
def test_streamed_samples_equal_offline_samples(stem, cut):
    model, _ = parity_voice(stem)
    z, source = latents(model)
    speaker = model.speaker(0)
    offline = model.dec(z, source, speaker).reshape(-1)
    decoder = StreamingDecoder(DecoderLayers.of(model.dec), speaker)
    streamed = stream(decoder, z, source, CUTS[cut], decoder.exact_lookahead_frames)
    assert (streamed - offline).abs().max() < 1e-5
    assert (stream(decoder, z, source, CUTS[cut], 8) - offline).abs().max() < 1e-4


class OneWay(Ways):
    """Computes every convolution with the longest tiles, or directly."""

    def __init__(self, *, tiles: bool) -> None:
        super().__init__(10, None)
        self.tiles = tiles

    def of(self, weight, dtype, per_frame) -> int:
        return max(TILES[weight.shape[2]]) if self.tiles else DIRECT


@pytest.mark.skipif(not available(torch.empty(0)), reason="this processor has no instructions that our kernels need")
@pytest.mark.parametrize("tiles", [True, False])
@pytest.mark.parametrize("stem, cut", [(stem, cut) for stem in VOICES for cut in ("20 ms", "random")])
def test_streamed_samples_equal_offline_samples_with_kernels_of_our_own(stem, cut, tiles):
    model, _ = parity_voice(stem)
    z, source = latents(model)
    speaker = model.speaker(0)
    offline = model.dec(z, source, speaker).reshape(-1)
    decoder = StreamingDecoder(DecoderLayers.of(model.dec, ways=OneWay(tiles=tiles)), speaker)
    streamed = stream(decoder, z, source, CUTS[cut], decoder.exact_lookahead_frames)
    assert (streamed - offline).abs().max() < 1e-4
    assert (streamed - offline).square().sum() < 10**-8.5 * offline.square().sum()


@pytest.mark.parametrize("stem", VOICES[:2])
def test_less_lookahead_costs_parity_with_offline_and_nothing_else(stem):
    model, _ = parity_voice(stem)
    z, source = latents(model)
    offline = model.dec(z, source, model.speaker(0)).reshape(-1)
    decoder = StreamingDecoder(DecoderLayers.of(model.dec), model.speaker(0))
    errors = [float((stream(decoder, z, source, [4], r) - offline).abs().max()) for r in (0, 4, 8, 12)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 1e-3 > errors[1] * 0.1


@pytest.mark.parametrize("stem", VOICES)
def test_every_layout_stays_within_the_tail_that_the_geometry_reserves(stem):
    model, _ = parity_voice(stem)
    decoder = StreamingDecoder(DecoderLayers.of(model.dec), model.speaker(0))
    assert 1000 * decoder.tail_samples / model.config.rate_hz <= MAX_TAIL_MS


def test_a_voice_with_f0_wants_its_excitation():
    model, _ = parity_voice("v2_40k_f0")
    decoder = StreamingDecoder(DecoderLayers.of(model.dec), model.speaker(0))
    with pytest.raises(ValueError, match="excitation of 1600 samples"):
        decoder.step(torch.zeros(1, 16, 4), None, 4)
