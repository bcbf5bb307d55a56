"""The streaming RefineGAN: the same samples as offline, however the frames are cut."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from rvcd.engine.decoder import MAX_TAIL_MS
from rvcd.engine.refinegan_decoder import LinearUpsample, PlacedNoise, RefineDecoder, activation_noise
from rvcd.engine.refinegan_layers import Decimator, RefineLayers
from rvcd.formats.voice_config import Vocoder
from rvcd.formats.voice_file import read_voice
from rvcd.nets.excitation import SourceState
from rvcd.nets.refinegan import RefineGan, decimate, linear_upsample
from rvcd.nets.synthesizer import Synthesizer, build_synthesizer
from tests.support import small_config

APPLIO = Path(__file__).parents[1] / "data" / "parity_applio"
STEMS = sorted(path.stem for path in APPLIO.glob("refinegan*.pth"))
FRAMES, SEED = 120, 5


def refinegan(model: Synthesizer) -> RefineGan:
    assert isinstance(model.dec, RefineGan)
    return model.dec


def voice(stem: str) -> Synthesizer:
    file = read_voice(APPLIO / f"{stem}.pth")
    return build_synthesizer(file.spec.config, file.weights)


def inputs(model: Synthesizer) -> tuple[torch.Tensor, torch.Tensor]:
    random_ = torch.Generator().manual_seed(4)
    z = torch.randn(1, model.config.inter_channels, FRAMES, generator=random_)
    f0 = 200 + 100 * torch.rand(FRAMES, generator=random_)
    voiced = torch.rand(FRAMES, generator=random_) > 0.2
    noise = torch.randn(FRAMES * model.dec.hop, 1, generator=random_)
    source = model.dec.m_source
    assert source is not None
    with torch.inference_mode():
        return z, source.of(f0, voiced, noise, SourceState())[None, None]


def offline(model: Synthesizer, z: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    generator = refinegan(model)
    with torch.inference_mode():
        return generator(z, source, model.speaker(0), activation_noise(SEED, generator)).reshape(-1)  # type: ignore[no-any-return]


def stream(decoder: RefineDecoder, z: torch.Tensor, source: torch.Tensor, steps: list[int], lookahead: int) -> torch.Tensor:
    """Decode in steps of the given sizes (cycled), flush the tail, and return the samples aligned with the frames."""
    decoder.reset()
    hop, out, first, number = decoder.hop, [], 0, 0
    end = FRAMES + math.ceil(decoder.tail_samples / hop)
    while first < end:
        frames = min(steps[number % len(steps)], end - first)
        needed = first + frames + lookahead
        missing = max(0, needed - FRAMES)
        piece = F.pad(z, (0, missing))[..., first:needed]
        excitation = F.pad(source, (0, missing * hop))[..., first * hop : needed * hop]
        out.append(decoder.step(piece, excitation, frames, end_frame=FRAMES))
        first, number = first + frames, number + 1
    return torch.cat(out)[decoder.tail_samples :][: FRAMES * hop]


CUTS = {"20 ms": [2], "140 ms": [14], "random": random.Random(1).choices(range(1, 30), k=40)}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("stem", STEMS)
def test_streamed_samples_equal_offline_samples(stem: str, cut: str) -> None:
    model = voice(stem)
    z, source = inputs(model)
    decoder = RefineDecoder(RefineLayers.of(refinegan(model)), model.speaker(0), SEED)
    found = stream(decoder, z, source, CUTS[cut], decoder.exact_lookahead_frames)
    assert (found - offline(model, z, source)).abs().max() < 1e-5
    assert decoder.tail_samples * 1000 / model.config.rate_hz <= MAX_TAIL_MS


@pytest.mark.parametrize("rates", [(10, 6, 2, 2), (10, 10, 2, 2), (12, 10, 2, 2), (7, 7, 3, 3)])
@pytest.mark.parametrize("vocoder", [Vocoder.REFINEGAN, Vocoder.REFINEGAN_329])
def test_every_layout_streams_as_it_sounds_offline(rates: tuple[int, ...], vocoder: Vocoder) -> None:
    torch.manual_seed(3)
    config = small_config(
        vocoder=vocoder, upsample_rates=rates, upsample_kernel_sizes=tuple(2 * r for r in rates), rate_hz=100 * math.prod(rates),
        n_layers=0, upsample_initial_channel=64,
    )  # fmt: skip
    model = Synthesizer(config).eval().requires_grad_(False)
    z, source = inputs(model)
    decoder = RefineDecoder(RefineLayers.of(refinegan(model)), model.speaker(0), SEED)
    found = stream(decoder, z, source, [5, 14, 1], decoder.exact_lookahead_frames)
    expected = offline(model, z, source)
    assert expected.std() > 1e-3
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("stem", STEMS)
def test_a_short_lookahead_costs_little(stem: str) -> None:
    model = voice(stem)
    z, source = inputs(model)
    decoder = RefineDecoder(RefineLayers.of(refinegan(model)), model.speaker(0), SEED)
    expected = offline(model, z, source)
    difference = stream(decoder, z, source, [14], decoder.lookahead_frames) - expected
    assert 20 * math.log10(float(difference.std() / expected.std())) < -50


@pytest.mark.parametrize("stem", STEMS)
def test_the_noise_inside_belongs_to_the_seed(stem: str) -> None:
    model = voice(stem)
    z, source = inputs(model)
    layers = RefineLayers.of(refinegan(model))
    once, again, other = (
        stream(RefineDecoder(layers, model.speaker(0), seed), z, source, [14], 8) for seed in (SEED, SEED, SEED + 1)
    )
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


@given(first=st.integers(-50, 5000), count=st.integers(1, 300), per_frame=st.sampled_from([1, 10, 80]))
def test_placed_noise_depends_on_the_position_alone(first: int, count: int, per_frame: int) -> None:
    noise = PlacedNoise(3)
    whole = noise.at(7, 4, first - 20, count + 40, per_frame)
    assert torch.equal(whole[..., 20 : 20 + count], noise.at(7, 4, first, count, per_frame))


def test_placed_noise_is_normal_and_its_places_are_independent() -> None:
    noise = PlacedNoise(3)
    one, two = (noise.at(place, 16, 0, 20_000, 80).reshape(-1) for place in (0, 1))
    assert abs(float(one.mean())) < 0.01
    assert abs(float(one.std()) - 1) < 0.01
    assert abs(float((one * two).mean())) < 0.01


@pytest.mark.parametrize("rate", [2, 3, 8, 10])
def test_decimation_as_a_product_equals_the_convolution(rate: int) -> None:
    x = torch.randn(1, 3, 90 * rate, generator=torch.Generator().manual_seed(2))
    decimator = Decimator(rate)
    found = decimator(F.pad(x[0], (decimator.before, 0)), 90)
    assert (found - decimate(x, rate)[0]).abs().max() < 1e-5


@given(rate=st.integers(2, 12), cuts=st.lists(st.integers(1, 9), min_size=1, max_size=6), delayed=st.booleans())
def test_linear_upsampling_in_pieces_equals_that_of_the_whole(rate: int, cuts: list[int], delayed: bool) -> None:
    length = sum(cuts)
    x = torch.randn(1, 2, 1, length, generator=torch.Generator().manual_seed(1))
    expected = linear_upsample(x[:, :, 0], rate)[0]
    assert (expected - F.interpolate(x[:, :, 0], scale_factor=float(rate), mode="linear")[0]).abs().max() < 1e-4
    up, first, pieces = LinearUpsample(rate), 0, []
    up.history.reset(x)
    for count in [*cuts, 1] if delayed else cuts:
        # Behind the end a delayed one is flushed; one with a lookahead sees all that follows.
        piece = F.pad(x, (0, 1))[..., first : first + count] if delayed else x[..., first:]
        made = up.step(piece, first, count, length, delayed=delayed)
        pieces.append(made[0, :, 0, : count * rate])
        first += count
    found = torch.cat(pieces, dim=1)[:, (up.pad if delayed else 0) :][:, : length * rate]
    assert (found - expected).abs().max() < 1e-6
