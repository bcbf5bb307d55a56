"""The lite content encoder: its stream equals its one pass, its file says what it is, and a damaged one is refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from rvcd.errors import ModelFileError
from rvcd.formats.contentvec_header import LITE_LAYOUT_KEY, read_unit_widths
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.convnext import ConvNextShape
from rvcd.nets.lite_encoder import FEATURES, LiteEncoder, LiteSizes, mel_bands
from rvcd.nets.lite_encoder_file import save_lite_encoder
from rvcd.nets.own_envelope import OwnEnvelope, OwnEnvelopeSizes

SIZES = LiteSizes(
    width=16, inner_width=24, unit_width=12, blocks=(ConvNextShape(5, 1, 1), ConvNextShape(3, 2, 0), ConvNextShape(5, 1, 1))
)


def leaning(sizes: OwnEnvelopeSizes, features: int) -> OwnEnvelope:
    part = OwnEnvelope(sizes, features).eval().requires_grad_(False)
    part.throats.copy_(torch.stack([torch.eye(sizes.bands).roll(i, dims=1) for i in range(sizes.throats)]))
    part.share.fill_(0.7)
    return part


@pytest.fixture(scope="module", params=[None, OwnEnvelopeSizes(bands=8, hidden=6, throats=3)], ids=["plain", "leaning"])
def encoder(request: pytest.FixtureRequest) -> LiteEncoder:
    torch.manual_seed(5)
    encoder = LiteEncoder(replace(SIZES, own_envelope=request.param)).eval().requires_grad_(False)
    if request.param:
        encoder.own_envelope = leaning(request.param, FEATURES)
    return encoder


@pytest.fixture
def path(encoder: LiteEncoder, tmp_path: Path) -> Path:
    save_lite_encoder(encoder, tmp_path / "lite.safetensors")
    return tmp_path / "lite.safetensors"


@settings(deadline=None, max_examples=30)
@given(steps=st.lists(st.integers(0, 7), min_size=1, max_size=12))
def test_final_units_of_a_stream_equal_those_of_one_pass(encoder: LiteEncoder, steps: list[int]) -> None:
    rows = sum(steps) + encoder.lookahead_units
    features = torch.randn(1, rows, FEATURES, generator=torch.Generator().manual_seed(rows))
    whole = encoder.from_features(features)
    state, done = encoder.start_units(SIZES.unit_width, 10), 0
    for final in steps:
        seen = features[:, done : done + final + encoder.lookahead_units]
        made = encoder.step(seen, state, final)
        torch.testing.assert_close(made[:, :final], whole[:, done : done + final], rtol=1e-4, atol=1e-5)
        done += final


def test_a_unit_hears_two_units_of_the_future_and_no_more(encoder: LiteEncoder) -> None:
    assert encoder.lookahead_units == 2
    features = torch.randn(1, 30, FEATURES)
    changed = features.clone()
    changed[:, 20:] += 1
    difference = (encoder.from_features(features) - encoder.from_features(changed)).abs().amax(dim=(0, 2))
    assert float(difference[:18].max()) == 0 and float(difference[18]) > 0


def test_audio_becomes_as_many_units_as_a_hubert_makes(encoder: LiteEncoder) -> None:
    for samples, units in ((400, 1), (719, 1), (720, 2), (16000, 49)):
        assert encoder.units(torch.zeros(1, samples), unit_width=12).shape == (1, units, 12)


def test_silence_and_full_scale_have_features_within_bounds(encoder: LiteEncoder) -> None:
    assert torch.equal(encoder.front_end(torch.zeros(1, 800)), torch.full((1, 2, FEATURES), -1.0))
    loud = torch.sin(torch.arange(1600) * 2 * torch.pi * 440 / 16000)[None]
    assert 0.5 < float(encoder.front_end(loud).max()) < 1.0


@pytest.mark.parametrize("bands", [32, 80])
def test_every_mel_band_hears_something(bands: int) -> None:
    triangles = mel_bands(bands)
    assert triangles.shape == (257, bands) and float(triangles.min()) >= 0
    assert float(triangles.amax(dim=0).min()) > 0.3
    centres = (triangles * torch.arange(257)[:, None]).sum(0) / triangles.sum(0)
    assert bool((centres.diff() >= 0).all())


def test_the_file_gives_the_same_units_and_says_its_width(encoder: LiteEncoder, path: Path) -> None:
    loaded = load_content_encoder(path)
    audio = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 8000)).astype(np.float32) * 0.1)
    torch.testing.assert_close(loaded.units(audio, unit_width=12), encoder.units(audio, unit_width=12), rtol=0, atol=2e-2)
    assert read_unit_widths(path) == (loaded.sizes.unit_width,) == (12,)


@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_packed_for_a_processor_it_makes_nearly_the_same_units(encoder: LiteEncoder, dtype: torch.dtype, off: float) -> None:
    features = torch.randn(1, 40, FEATURES, generator=torch.Generator().manual_seed(3))
    packed = copy.deepcopy(encoder)
    packed.pack(dtype)
    assert all(block.inner.dtype is dtype for block in packed.blocks)
    made, whole = packed.from_features(features), encoder.from_features(features)
    assert made.dtype is torch.float32 and float((made - whole).abs().max()) < off * float(whole.std())


def test_a_voice_of_another_width_is_refused_with_both_numbers(path: Path) -> None:
    loaded = load_content_encoder(path)
    with pytest.raises(ModelFileError, match=r"lite\.safetensors: makes units of width 12, but the voice takes width 768"):
        loaded.start_units(768, 10)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (LITE_LAYOUT_KEY, torch.tensor([[0, 1, 0]])),
        (LITE_LAYOUT_KEY, torch.tensor([[5, 1, 5]])),
        (LITE_LAYOUT_KEY, torch.tensor([[5, 1 << 20, 0]])),
        (LITE_LAYOUT_KEY, torch.zeros(3)),
        (LITE_LAYOUT_KEY, torch.zeros((0, 3), dtype=torch.int32)),
        ("enter.weight", torch.zeros(16, 7)),
        ("leave.weight", torch.zeros(12)),
        ("blocks.1.inner.weight", torch.zeros(5, 5)),
        ("norm.weight", torch.full((16,), torch.nan)),
        ("more", torch.zeros(1)),
        ("own_envelope.throats", torch.zeros(2, 30, 30)),
        ("own_envelope.throats", torch.zeros(1000, 2, 2)),
        ("own_envelope.throats", torch.zeros(3, 8, 9)),
        ("own_envelope.share", torch.full((8,), torch.inf)),
        ("own_envelope.levels", torch.zeros(2)),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(path: Path, key: str, value: torch.Tensor) -> None:
    save_file({**load_file(path), key: value}, path)
    with pytest.raises(ModelFileError) as caught:
        load_content_encoder(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
