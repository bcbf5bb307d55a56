"""The kernels over planes against float64 and torch's modules, for any shape; and what they refuse."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rvcd.nets import plane_conv
from rvcd.nets.plane_conv import BidirectionalGru, GruWeights, Plane, PlaneConv, PlaneUpsampling, halve
from rvcd.nets.tiled_conv import available

LEAST_DB = 110.0

pytestmark = pytest.mark.skipif(not available(torch.empty(0)), reason="this processor has no instructions that the kernels need")


def random_of(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plane_of(values: Tensor, *, spare: int = 0) -> Plane:
    """(T, M, C) -> a plane; with spare channels before and behind it, filled with numbers that must not be used."""
    T, M, C = values.shape
    whole = Plane.empty(T, M, C + 2 * spare)
    whole.values.fill_(1e9)
    part = whole.part(spare, C)
    part.values.copy_(values)
    return part


def ratio_db(made: Tensor, wanted: Tensor) -> float:
    return float(10 * torch.log10(wanted.square().sum() / (made.double() - wanted).square().sum().clamp_min(1e-300)))


def channels_first(x: Tensor) -> Tensor:
    """(T, M, C) -> (1, C, T, M) in float64."""
    return x.permute(2, 0, 1)[None].double()


def channels_last(x: Tensor) -> Tensor:
    return x[0].permute(1, 2, 0)


@settings(max_examples=120, deadline=None)
@given(
    taps=st.sampled_from([1, 3]), channels_in=st.integers(1, 40), channels_out=st.integers(1, 40), times=st.integers(1, 9),
    bands=st.integers(1, 30), seed=st.integers(0, 99), relu=st.booleans(), scaled=st.booleans(), biased=st.booleans(),
    residual=st.sampled_from(["", "other", "same"]), halves=st.booleans(), spare=st.sampled_from([0, 3]),
    threads=st.sampled_from([1, 2, 5]),
)  # fmt: skip
def test_any_convolution_equals_float64(
    taps, channels_in, channels_out, times, bands, seed, relu, scaled, biased, residual, halves, spare, threads
) -> None:
    weight = random_of(seed, channels_out, channels_in, taps, taps) / (channels_in * taps**2) ** 0.5
    weight = weight.half().float() if halves else weight
    scale = random_of(seed + 1, channels_out) if scaled else None
    bias = random_of(seed + 2, channels_out) if biased else None
    values, held = random_of(seed + 3, times, bands, channels_in), random_of(seed + 4, times, bands, channels_out)
    x, y = plane_of(values), plane_of(held, spare=spare)
    added = {"": None, "other": plane_of(held), "same": y}[residual]
    before, least = torch.get_num_threads(), plane_conv.LEAST_HALVES
    plane_conv.LEAST_HALVES = 1
    torch.set_num_threads(threads)
    try:
        PlaneConv(weight, scale, bias, relu=relu)(x, y, added)
    finally:
        torch.set_num_threads(before)
        plane_conv.LEAST_HALVES = least
    wanted = F.conv2d(channels_first(values), weight.double(), padding=taps // 2)
    wanted = wanted * (1.0 if scale is None else scale.double()[:, None, None])
    wanted = channels_last(wanted) + (0 if bias is None else bias.double())
    wanted = torch.relu(wanted) if relu else wanted
    wanted = wanted + (0 if added is None else held.double())
    assert ratio_db(y.values, wanted) >= LEAST_DB or (y.values - wanted).abs().max() < 1e-6
    assert float(y.buffer[0].abs().max()) == float(y.buffer[-1].abs().max()) == float(y.buffer[:, 0].abs().max()) == 0
    if spare:
        whole = y.buffer[1 : times + 1, 1 : bands + 1]
        assert (whole[..., :spare] == 1e9).all()
        assert (whole[..., -spare:] == 1e9).all()


@settings(max_examples=40, deadline=None)
@given(
    channels_in=st.integers(1, 40), channels_out=st.integers(1, 40), times=st.integers(1, 6), bands=st.integers(1, 20),
    seed=st.integers(0, 99), spare=st.sampled_from([0, 5]),
)  # fmt: skip
def test_any_upsampling_equals_torchs_transposed_convolution(channels_in, channels_out, times, bands, seed, spare) -> None:
    weight = random_of(seed, channels_in, channels_out, 3, 3) / (channels_in * 3) ** 0.5
    scale, bias = random_of(seed + 1, channels_out), random_of(seed + 2, channels_out)
    values = random_of(seed + 3, times, bands, channels_in)
    y = plane_of(torch.zeros(2 * times, 2 * bands, channels_out), spare=spare)
    PlaneUpsampling(weight, scale, bias, relu=True)(plane_of(values), y)
    conv = F.conv_transpose2d(channels_first(values), weight.double(), stride=2, padding=1, output_padding=1)
    wanted = torch.relu(channels_last(conv) * scale.double() + bias.double())
    assert ratio_db(y.values, wanted) >= LEAST_DB or (y.values - wanted).abs().max() < 1e-6


@pytest.mark.parametrize("channels", [1, 3, 16, 20])
def test_halving_averages_four_positions(channels: int) -> None:
    values = random_of(1, 6, 10, channels)
    y = Plane.empty(3, 5, channels)
    halve(plane_of(values, spare=2), y)
    wanted = channels_last(F.avg_pool2d(channels_first(values), 2))
    assert (y.values - wanted).abs().max() < 1e-6


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("width", [1, 8, 20, 64, 256])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_recurrent_layer_equals_torchs(width: int, halves: bool, threads: int) -> None:
    torch.manual_seed(width)
    gru = nn.GRU(12, width, batch_first=True, bidirectional=True).requires_grad_(False)
    if halves:
        for parameter in gru.parameters():
            parameter.copy_(parameter.half().float())
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    layer = BidirectionalGru([GruWeights(*(getattr(gru, name + side) for name in names)) for side in ("", "_reverse")])
    assert layer._states[0].dtype == (torch.float16 if halves else torch.float32)
    x, before = random_of(3, 17, 12), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        made = layer(x)
    finally:
        torch.set_num_threads(before)
    assert (made - gru(x[None])[0][0]).abs().max() < 2e-6


def test_weights_that_are_no_half_floats_are_kept_whole() -> None:
    weight = random_of(1, 64, 64, 3, 3)
    assert PlaneConv(weight, None, None)._weights.dtype == torch.float32
    assert PlaneConv(weight.half().float(), None, None)._weights.dtype == torch.float16


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (Plane.empty(4, 6, 5), Plane.empty(4, 6, 8)),
        (Plane.empty(4, 6, 4), Plane.empty(4, 7, 8)),
        (Plane.empty(4, 6, 4), Plane.empty(4, 6, 9)),
        (Plane.empty(4, 6, 8).part(0, 4), Plane.empty(4, 6, 8)),
    ],
)
def test_planes_that_do_not_fit_are_refused(x: Plane, y: Plane) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        PlaneConv(torch.ones(8, 4, 3, 3), None, None)(x, y)


def test_a_plane_is_not_written_over_itself() -> None:
    x = Plane.empty(4, 6, 8)
    with pytest.raises(ValueError, match="does not fit"):
        PlaneConv(torch.ones(8, 8, 3, 3), None, None)(x, x)
