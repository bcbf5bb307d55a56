"""Packed modules compute what the plain ones do."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from rvcd.nets import packed
from rvcd.nets.packed import PackedConv, PackedConv1d, PackedLinear, pack

TOLERANCE = {torch.float32: 5e-4, torch.bfloat16: 2e-2}
"""In float32, of products whose weights have 16 bits (rvcd.nets.narrow_weights)."""
DTYPES = list(TOLERANCE)


class EveryKind(nn.Module):
    """One of each module that pack() replaces, one behind the other, (1, 24, T) -> (1, 24, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv1d(24, 48, 5, padding=2)
        self.pointwise = nn.Conv1d(48, 48, 1)
        self.grouped = nn.Conv1d(48, 24, 8, groups=4)
        self.linear = nn.Linear(24, 24, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(self.pointwise(torch.tanh(self.plain(x).float())))
        padded = nn.functional.pad(y, (4, 3))
        return self.linear(self.grouped(padded).transpose(1, 2)).transpose(1, 2)


@pytest.fixture(params=[True, False], ids=["fused", "plain operators"])
def operators(request, monkeypatch):
    """Run with torch's oneDNN operators and without them, as a GPU or another build of torch does."""
    if not request.param:
        monkeypatch.setattr(packed, "fuses", lambda weight: False)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.float() - expected).abs().max() / expected.abs().max())


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("length", [1, 5, 33, 140])
def test_a_packed_module_computes_what_the_plain_one_does(dtype, length):
    torch.manual_seed(3)
    plain = EveryKind().eval().requires_grad_(False)
    quick = copy.deepcopy(plain)
    pack(quick, dtype)
    x = torch.randn(1, 24, length)
    assert error(quick(x), plain(x)) < TOLERANCE[dtype]


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("channels", "kernel", "dilation", "stride"), [(32, 7, 3, 1), (48, 3, 1, 1), (64, 11, 5, 1), (16, 3, 1, 2)]
)
def test_a_packed_convolution_activates_what_it_gives(channels, kernel, dilation, stride, dtype):
    torch.manual_seed(4)
    weight, bias = torch.randn(channels, channels, kernel) / (channels * kernel) ** 0.5, torch.randn(channels)
    conv = PackedConv(weight, bias, dtype=dtype, dilation=dilation, stride=stride)
    for length in (70, 71, 300):
        x = torch.randn(1, channels, 1, length).contiguous(memory_format=torch.channels_last)
        expected = torch.conv2d(x, weight.unsqueeze(2), bias, dilation=(1, dilation), stride=(1, stride))
        assert error(conv(x), expected) < TOLERANCE[dtype]
        assert error(conv(x, slope=0.1), torch.nn.functional.leaky_relu(expected, 0.1)) < TOLERANCE[dtype]
        assert error(conv(x, activation="gelu"), torch.nn.functional.gelu(expected)) < TOLERANCE[dtype]


@pytest.mark.usefixtures("operators")
def test_a_strided_convolution_and_a_product_activate_too():
    conv, linear = nn.Conv1d(8, 16, 3, stride=2).requires_grad_(False), nn.Linear(8, 12).requires_grad_(False)
    x = torch.randn(1, 8, 41)
    quick = PackedConv1d(conv, torch.float32, "gelu")
    assert error(quick(x), torch.nn.functional.gelu(conv(x))) < TOLERANCE[torch.float32]
    product = PackedLinear(linear.weight, linear.bias, torch.float32, "gelu")
    assert error(product(x.transpose(1, 2)), torch.nn.functional.gelu(linear(x.transpose(1, 2)))) < TOLERANCE[torch.float32]


def test_the_plain_weights_are_let_go():
    module = EveryKind()
    pack(module, torch.bfloat16)
    assert not list(module.parameters())
