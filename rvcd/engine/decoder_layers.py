"""The generator's weights as the streaming decoder runs them: prepared once for a voice, shared by its streams.

One-dimensional convolutions are written as two-dimensional ones of height 1 over channels-last tensors (1, C, 1, T): on CPUs
they reach oneDNN's fast kernels (twice as fast as conv1d where it was measured). In bfloat16 the residual blocks' convolutions
multiply in it, which halves their time again. Where kernels of our own are faster (rvcd.nets.conv_ways), they compute those in
float32. What the whole signal passes through one after another stays float32: the first convolution, the upsamplings (7 % of the
work, 3 dB), the residual paths, the excitation and the output.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rvcd.nets.conv_ways import PACKED, Ways
from rvcd.nets.excitation import Excitation
from rvcd.nets.packed import PackedConv
from rvcd.nets.refinegan import RefineBlock
from rvcd.nets.synthesizer import Generator, ResBlock
from rvcd.nets.tiled_conv import TiledConv
from rvcd.yielding import yield_point

Convolution = PackedConv | TiledConv
Pairs = list[tuple[Convolution, Convolution]]
"""A residual block: (dilated, plain) convolutions, each pair with a residual connection."""


def reach(conv: Convolution) -> int:
    """Return the positions that a same-padded convolution needs on each side."""
    return conv.dilation[1] * (conv.kernel - 1) // 2


def block_reach(pairs: Pairs) -> int:
    """Return the positions that a residual block needs on each side."""
    return sum(reach(dilated) + reach(plain) for dilated, plain in pairs)


class Upsample:
    """A transposed convolution, as a matrix product that makes all `stride` outputs of a position as channels of their own.

    In channels-last memory those channels are the samples in their order: taking them apart costs nothing.
    """

    def __init__(self, module: nn.ConvTranspose1d) -> None:
        yield_point()
        weight = module.weight.detach()  # (in, out, kernel)
        self.stride, self.pad = module.stride[0], int(module.padding[0])
        self.channels_in, self.channels_out, kernel = weight.shape
        self.taps = math.ceil(kernel / self.stride)
        weight = F.pad(weight, (0, self.taps * self.stride - kernel))
        # Output t * stride + p is the sum over i of x[t - i] * weight[p + i * stride]: tap i lies i positions back.
        weight = weight.view(self.channels_in, self.channels_out, self.taps, self.stride).permute(3, 1, 2, 0).flip(2)
        yield_point()
        weight = weight.reshape(self.stride * self.channels_out, self.taps, self.channels_in).permute(0, 2, 1)
        yield_point()
        bias = None if module.bias is None else module.bias.detach().repeat(self.stride)
        self.conv = PackedConv(weight, bias, dtype=torch.float32, as_product=True)

    def positions(self, x: Tensor, slope: float) -> Tensor:
        """x (1, in, 1, taps - 1 + T), which goes through leaky ReLU -> (1, out, 1, T * stride), of those positions alone."""
        y = self.conv.run(x, entering=slope)
        return y.permute(0, 2, 3, 1).reshape(1, 1, -1, self.channels_out).permute(0, 3, 1, 2)


class SourceTap:
    """The excitation, convolved down to one stage's rate."""

    def __init__(self, module: nn.Conv1d) -> None:
        self.weight, self.bias = module.weight.detach()[:, 0], module.bias.detach()  # type: ignore[union-attr]
        self.stride, self.kernel, self.pad = module.stride[0], module.kernel_size[0], int(module.padding[0])

    def positions(self, source: Tensor, source_first: int, first: int, count: int) -> Tensor:
        """Return positions first .. first + count, (1, out, 1, count).

        source (1, 1, 1, L), its first value is sample source_first. Zeros stand where it is too short.
        """
        low = first * self.stride - self.pad
        high = (first + count - 1) * self.stride - self.pad + self.kernel
        start, stop = low - source_first, high - source_first
        x = source[..., max(start, 0) : max(stop, 0)].reshape(-1)
        x = F.pad(x, (max(-start, 0), max(stop - source.shape[-1], 0)))
        rows = x.unfold(0, self.kernel, self.stride)
        return F.linear(rows, self.weight, self.bias)[None, None].permute(0, 3, 1, 2)


@dataclass(frozen=True)
class DecoderLayers:
    """A generator, prepared. stages: of each upsampling, the residual blocks behind it. per_frame: its positions in 10 ms."""

    hop: int
    dtype: torch.dtype
    """Of the residual blocks' convolutions; float32 where none of them is computed in another."""
    pre: PackedConv
    cond: nn.Conv1d
    ups: list[Upsample]
    taps: list[SourceTap]
    stages: list[list[Pairs]]
    per_frame: list[int]
    post: PackedConv
    source: Excitation | None

    @classmethod
    def of(cls, generator: Generator, dtype: torch.dtype = torch.float32, ways: Ways | None = None) -> DecoderLayers:
        """Prepare a generator's weights; they are copied.

        ways: how the residual blocks' convolutions are computed; None: directly.
        """
        blocks: list[ResBlock] = list(generator.resblocks)  # type: ignore[arg-type]
        count, per_stage = len(generator.ups), generator.blocks_per_stage
        per_frame = [math.prod(generator.upsample_rates[: i + 1]) for i in range(count)]
        stages = [
            [pairs_of(block, dtype, ways, rate) for block in blocks[i * per_stage : (i + 1) * per_stage]]
            for i, rate in enumerate(per_frame)
        ]
        return cls(
            hop=generator.hop,
            dtype=coarsest([pairs for stage in stages for pairs in stage]),
            pre=packed(generator.conv_pre, torch.float32, as_product=True),
            cond=generator.cond,
            ups=[Upsample(up) for up in generator.ups],  # type: ignore[arg-type]
            taps=[SourceTap(conv) for conv in generator.noise_convs],  # type: ignore[arg-type]
            stages=stages,
            per_frame=per_frame,
            post=packed(generator.conv_post, torch.float32),
            source=generator.m_source,
        )

    def condition(self, speaker: Tensor) -> Tensor:
        """speaker (1, gin, 1) -> what is added behind the first convolution, (1, C, 1, 1)."""
        return self.cond(speaker).unsqueeze(2)  # type: ignore[no-any-return]


def pairs_of(block: ResBlock | RefineBlock, dtype: torch.dtype, ways: Ways | None = None, per_frame: int = 1) -> Pairs:
    """Prepare a residual block whose stage has per_frame positions a frame."""

    def of(module: nn.Conv1d) -> Convolution:
        if ways is None:
            return packed(module, dtype)
        way = ways.of(module.weight, dtype, per_frame)
        yield_point()
        if way == PACKED:
            return PackedConv(module.weight, module.bias, dtype=dtype, dilation=module.dilation[0], by_torch=True)
        return TiledConv(module.weight, module.bias, dilation=module.dilation[0], outputs=way)

    return [(of(dilated), of(plain)) for dilated, plain in zip(block.convs1, block.convs2, strict=True)]  # type: ignore[arg-type]


def coarsest(blocks: Iterable[Pairs]) -> torch.dtype:
    """Return float32 where all of these convolutions are computed so, else what the others are computed in."""
    found = {conv.dtype for pairs in blocks for pair in pairs for conv in pair}
    return next((dtype for dtype in found if dtype is not torch.float32), torch.float32)


def packed(module: nn.Conv1d, dtype: torch.dtype, *, as_product: bool = False) -> PackedConv:
    """Prepare a convolution."""
    yield_point()
    return PackedConv(module.weight, module.bias, dtype=dtype, dilation=module.dilation[0], as_product=as_product)
