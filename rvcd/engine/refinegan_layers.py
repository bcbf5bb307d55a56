"""A RefineGAN's weights as its streaming decoder runs them: prepared once for a voice, shared by its streams.

As in decoder_layers, tensors are (1, C, 1, T), channels-last, and only the residual blocks' convolutions may be bfloat16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rvcd.engine.decoder_layers import Pairs, SourceTap, coarsest, packed, pairs_of
from rvcd.nets.conv_ways import Ways
from rvcd.nets.excitation import Excitation
from rvcd.nets.packed import PackedConv
from rvcd.nets.refinegan import NoisyActivation, RefineGan, RefineStage, before, decimation_kernel
from rvcd.yielding import yield_point

GROUP = 32
"""Outputs of a decimation that one row of its matrix product makes."""


class Decimator:
    """Decimation by a whole rate as a matrix product, many outputs a row. Takes `before` inputs ahead of an output's first."""

    def __init__(self, rate: int, device: torch.device | None = None) -> None:
        kernel = torch.from_numpy(decimation_kernel(rate))
        self.rate, self.before, self.after = rate, before(rate), len(kernel) - before(rate)
        self.width = (GROUP - 1) * rate + len(kernel)
        self.matrix = torch.zeros(self.width, GROUP)
        for i in range(GROUP):
            self.matrix[i * rate : i * rate + len(kernel), i] = kernel
        if device is not None:
            self.matrix = self.matrix.to(device)

    def __call__(self, x: Tensor, count: int) -> Tensor:
        """x (C, before + count * rate + more or less) -> (C, count); what x lacks behind is zeros."""
        groups = -(-count // GROUP)
        x = F.pad(x, (0, max(0, (groups - 1) * GROUP * self.rate + self.width - x.shape[1])))
        rows = x.unfold(1, self.width, GROUP * self.rate)[:, :groups]
        return (rows @ self.matrix).reshape(x.shape[0], -1)[:, :count]


@dataclass(frozen=True)
class DownLevel:
    """One step of the excitation on its way down: decimation, then a convolution over the doubled channels."""

    decimator: Decimator
    conv: nn.Conv1d


@dataclass(frozen=True)
class NoisyBlock:
    """A residual block between two noisy activations. amounts (1, C, 1, 1)."""

    amounts: tuple[Tensor, Tensor]
    pairs: Pairs


@dataclass(frozen=True)
class StageLayers:
    """What follows one upsampling by `rate`."""

    rate: int
    channels: int
    input_conv: PackedConv
    blocks: list[NoisyBlock]


@dataclass(frozen=True)
class RefineLayers:
    """A RefineGAN, prepared. levels: how the excitation comes down; of the first generation taps, one a stage."""

    hop: int
    dtype: torch.dtype
    source: Excitation | None
    source_conv: nn.Conv1d
    levels: list[DownLevel]
    taps: list[SourceTap]
    mel: PackedConv
    cond: nn.Conv1d
    stages: list[StageLayers]
    per_frame: list[int]
    post: PackedConv

    @classmethod
    def of(cls, generator: RefineGan, dtype: torch.dtype = torch.float32, ways: Ways | None = None) -> RefineLayers:
        """Prepare a generator's weights; the large ones are copied. ways: as for DecoderLayers.of."""
        rates = generator.upsample_rates
        per_frame = [math.prod(rates[: i + 1]) for i in range(len(rates))]
        down: list[nn.Conv1d] = list(generator.downsample_blocks)  # type: ignore[arg-type]
        first, device = generator.is_first, generator.pre_conv.weight.device
        stages = [
            _stage(rate, stage, dtype, ways, count)  # type: ignore[arg-type]
            for rate, count, stage in zip(rates, per_frame, generator.upsample_conv_blocks, strict=True)
        ]
        levels = [] if first else [DownLevel(Decimator(r, device), conv) for r, conv in zip(reversed(rates), down, strict=True)]
        return cls(
            hop=generator.hop,
            dtype=coarsest(block.pairs for stage in stages for block in stage.blocks),
            source=generator.m_source,
            source_conv=generator.pre_conv,
            levels=levels,
            taps=[SourceTap(conv) for conv in down] if first else [],
            mel=packed(generator.mel_conv, torch.float32, as_product=True),
            cond=generator.cond,
            stages=stages,
            per_frame=per_frame,
            post=packed(generator.conv_post, torch.float32),
        )

    def condition(self, speaker: Tensor) -> Tensor:
        """speaker (1, gin, 1) -> what is added behind the latents' convolution, (1, C, 1, 1)."""
        return self.cond(speaker).unsqueeze(2)  # type: ignore[no-any-return]

    def framed_source(self, source: Tensor) -> Tensor:
        """First generation: source (1, 1, 1, T * hop), whole frames -> what comes beside the latents, (1, C, 1, T).

        The first convolution, brought to one value a frame by linear interpolation, is needed in each frame's middle alone.
        """
        frames = source.shape[-1] // self.hop
        rows = source.reshape(frames, self.hop)
        middle, reach = self.hop // 2, self.source_conv.kernel_size[0] // 2
        ends = (middle, middle) if self.hop % 2 else (middle - 1, middle)
        heard = sum(rows[:, m - reach : m + reach + 1] for m in ends) / 2
        weight = self.source_conv.weight.detach()[:, 0]
        return F.linear(heard, weight, self.source_conv.bias)[None, None].permute(0, 3, 1, 2)  # type: ignore[arg-type]


def _stage(rate: int, stage: RefineStage, dtype: torch.dtype, ways: Ways | None, per_frame: int) -> StageLayers:
    yield_point()
    blocks = []
    for residual in stage.residuals():
        first, block, last = residual.parts
        blocks.append(NoisyBlock((_amount(first), _amount(last)), pairs_of(block, dtype, ways, per_frame)))
    return StageLayers(rate, stage.input_conv.out_channels, packed(stage.input_conv, torch.float32), blocks)


def _amount(activation: NoisyActivation) -> Tensor:
    return activation.weight.detach()[None, :, None, None]
