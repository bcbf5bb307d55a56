"""RefineGAN as Applio trains it: the excitation, brought down to each stage's rate, steers an upsampling of the latents.

One network, one file, two generations (formats.voice_config.Vocoder). Facts: Applio's releases 3.2.9 and 3.3.0 to 3.6.4.
Shapes: B batch, T frames (10 ms), C channels, L = T * hop samples. Offline only: `rvcd.engine.refinegan_decoder` runs the same
weights as a stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rvcd.formats.voice_config import REFINEGAN_SOURCE_BITS, SynthesizerConfig, Vocoder, noise_strides, source_kernel
from rvcd.formats.voice_shapes import REFINEGAN_DILATIONS, REFINEGAN_KERNELS
from rvcd.nets.excitation import source_of
from rvcd.yielding import yield_point

SLOPE = 0.2
"""Of every leaky ReLU in it."""
FILTER_CYCLES, FILTER_CUTOFF, FILTER_BETA = 64, 0.9475937167399596, 14.769656459379492
"""The decimation's windowed sinc: its half length in cycles of the cut-off, that as a part of half the rate, Kaiser's beta."""

ActivationNoise = Callable[[int, int, int, tuple[int, int]], Tensor]
"""(stage, block, 0 before or 1 behind it, (C, positions)) -> standard normal of that shape."""


@lru_cache(maxsize=16)
def decimation_kernel(rate: int) -> NDArray[np.float32]:
    """Return the taps for decimation by a whole rate: of inputs -W .. W + rate - 1 around an output's first, W = before(rate).

    h[m] = (c / r) sinc(t) I0(beta sqrt(1 - (t / 64)^2)) / I0(beta) with t = c m / r clipped to +-64 (Kaiser 1974).
    """
    taps = np.arange(-before(rate), before(rate) + rate, dtype=np.float64)
    t = np.clip(FILTER_CUTOFF * taps / rate, -FILTER_CYCLES, FILTER_CYCLES)
    window = np.i0(FILTER_BETA * np.sqrt(1 - (t / FILTER_CYCLES) ** 2)) / np.i0(FILTER_BETA)
    return (FILTER_CUTOFF / rate * np.sinc(t) * window).astype(np.float32)


def before(rate: int) -> int:
    """Return how many inputs before an output's first the decimation takes; behind it `rate` - 1 more."""
    return math.ceil(FILTER_CYCLES * rate / FILTER_CUTOFF)


def decimate(x: Tensor, rate: int) -> Tensor:
    """(B, C, L) -> (B, C, L / rate); zeros outside."""
    B, C, L = x.shape
    kernel = torch.from_numpy(decimation_kernel(rate)).to(x)[None, None]
    padded = F.pad(x.reshape(B * C, 1, L), (before(rate), before(rate)))
    return F.conv1d(padded, kernel, stride=rate).view(B, C, -1)


def linear_upsample(x: Tensor, rate: int) -> Tensor:
    """(B, C, L) -> (B, C, L * rate): linear between the middles of the inputs, held at both ends.

    As F.interpolate without aligned corners, whose float32 positions are too coarse for long recordings.
    """
    length = x.shape[2]
    at = (torch.arange(length * rate, dtype=torch.float64, device=x.device) + 0.5) / rate - 0.5
    low = at.floor()
    lower, upper = ((low + i).long().clamp(0, length - 1) for i in (0, 1))
    start = x[..., lower]
    return start + (x[..., upper] - start) * (at - low).to(x.dtype)


class NoisyActivation(nn.Module):
    """Adds noise of a learned amount in each channel, then a leaky ReLU. The noise is there when converting, too."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """x (B, C, L), noise (C, L) -> (B, C, L)."""
        return F.leaky_relu(x if noise is None else x + self.weight[:, None] * noise, SLOPE)


class RefineBlock(nn.Module):
    """Three pairs of convolutions (dilated, then plain), each with a residual connection."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, dilation=d, padding=d * (kernel - 1) // 2) for d in REFINEGAN_DILATIONS
        )
        self.convs2 = nn.ModuleList(nn.Conv1d(channels, channels, kernel, padding=(kernel - 1) // 2) for _ in REFINEGAN_DILATIONS)
        yield_point()

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, SLOPE)), SLOPE))
        return x


class NoisyResidual(nn.ModuleList):
    """A residual block between two noisy activations."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__((NoisyActivation(channels), RefineBlock(channels, kernel), NoisyActivation(channels)))

    @property
    def parts(self) -> tuple[NoisyActivation, RefineBlock, NoisyActivation]:
        return tuple(self)  # type: ignore[return-value]  # what __init__ put there


class RefineStage(nn.Module):
    """What follows one upsampling: (B, 2.5 C, L) -> (B, C, L), the mean of three noisy residual blocks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input_conv = nn.Conv1d(2 * channels + channels // 2, channels, 7, padding=3)
        self.blocks = nn.ModuleList(NoisyResidual(channels, kernel) for kernel in REFINEGAN_KERNELS)

    def residuals(self) -> list[NoisyResidual]:
        """The blocks, as what they are."""
        return list(self.blocks)  # type: ignore[arg-type]

    def forward(self, x: Tensor, noise: Callable[[int, int, tuple[int, int]], Tensor | None]) -> Tensor:
        x = self.input_conv(x)
        shape = (x.shape[1], x.shape[2])
        total = torch.zeros_like(x)
        for j, residual in enumerate(self.residuals()):
            first, block, last = residual.parts
            total += last(block(first(x, noise(j, 0, shape))), noise(j, 1, shape))
        return total / len(self.blocks)


class RefineGan(nn.Module):
    """Latents and excitation -> samples."""

    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__()
        self.upsample_rates = tuple(config.upsample_rates)
        self.hop = config.hop_samples
        self.is_first = config.vocoder is Vocoder.REFINEGAN_329
        widest = config.upsample_initial_channel
        channels = widest // 2 if self.is_first else widest >> REFINEGAN_SOURCE_BITS
        self.m_source = source_of(config)
        self.pre_conv = nn.Conv1d(1, channels, 7, padding=3)
        self.downsample_blocks = nn.ModuleList()
        for i, stride in enumerate(noise_strides(self.upsample_rates)):
            if self.is_first:
                kernel = source_kernel(stride)
                self.downsample_blocks.append(nn.Conv1d(1, widest >> (i + 2), kernel, stride, padding=(kernel - stride) // 2))
            else:
                channels *= 2
                self.downsample_blocks.append(nn.Conv1d(channels // 2, channels, 7, padding=3))
        self.mel_conv = nn.Conv1d(config.inter_channels, widest // 2, 7, padding=3)
        self.cond = nn.Conv1d(config.gin_channels, widest // 2, 1)
        self.upsample_conv_blocks = nn.ModuleList(RefineStage(widest >> (i + 1)) for i in range(len(self.upsample_rates)))
        self.conv_post = nn.Conv1d(widest >> len(self.upsample_rates), 1, 7, padding=3, bias=False)

    def forward(self, z: Tensor, source: Tensor, speaker: Tensor, noise: ActivationNoise | None = None) -> Tensor:
        """z (B, inter, T), source (B, 1, L) after the merge, speaker (B, gin, 1) -> samples (B, 1, L).

        noise: None for none, which no voice was trained with.
        """
        steering, bottom = self._down(source)
        x = torch.cat((self.mel_conv(z) + self.cond(speaker), bottom), dim=1)
        for i, (rate, stage) in enumerate(zip(self.upsample_rates, self.upsample_conv_blocks, strict=True)):
            x = linear_upsample(F.leaky_relu(x, SLOPE), rate)
            x = torch.cat((x, steering[i]), dim=1)
            x = stage(x, lambda j, at, shape, i=i: None if noise is None else noise(i, j, at, shape))
        return torch.tanh(self.conv_post(F.leaky_relu(x, SLOPE)))

    def _down(self, source: Tensor) -> tuple[list[Tensor], Tensor]:
        """source (B, 1, L) -> what steers each stage, and what comes beside the latents (B, C, T)."""
        x = self.pre_conv(source)
        if self.is_first:
            frames = source.shape[2] // self.hop
            return [block(source) for block in self.downsample_blocks], F.interpolate(x, size=frames, mode="linear")
        steering = []
        for rate, block in zip(reversed(self.upsample_rates), self.downsample_blocks, strict=True):
            x = F.leaky_relu(x, SLOPE)
            steering.append(x)
            x = block(decimate(x, rate))
        return steering[::-1], x
