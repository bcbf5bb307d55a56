"""What a stream carries through the content encoder: the front end's moments, the transformer's past."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rvcd.nets.attention_memory import AttentionMemory
from rvcd.nets.transformer_steps import TransformerStream

ENCODER_RATE_HZ = 16_000
UNIT_HOP_SAMPLES = 320
RECEPTIVE_FIELD_SAMPLES = 400
"""Audio one unit is computed from."""


@dataclass
class RunningMoments:
    """Mean and variance over time of the channels of a stream that forgets the far past."""

    memory_positions: float
    """Time constant of the forgetting."""
    weight: float = 0.0
    total: Tensor | None = None
    squares: Tensor | None = None

    def update(self, fresh: Tensor) -> tuple[Tensor, Tensor]:
        """Take positions not seen before, (1, C, T); return mean and variance of all, each (1, C, 1) float64."""
        kept = math.exp(-fresh.shape[2] / self.memory_positions)
        total = fresh.sum(dim=2, keepdim=True).double()
        squares = fresh.square().sum(dim=2, keepdim=True).double()
        if self.total is not None and self.squares is not None:
            total, squares = total + kept * self.total, squares + kept * self.squares
        self.weight, self.total, self.squares = kept * self.weight + fresh.shape[2], total, squares
        mean = total / self.weight
        return mean, (squares / self.weight - mean.square()).clamp_min(0.0)


class FrontEndState:
    """What a stream carries through the front end: the moments that offline come from the whole utterance.

    The first layer is normed over time (Hsu et al. 2021), and some models' input too. Norming each step's audio by itself
    would make a unit depend on how the stream is cut.
    """

    def __init__(self, memory_s: float, first_kernel: int, first_stride: int) -> None:
        self.audio = RunningMoments(memory_s * ENCODER_RATE_HZ)
        self.layer = RunningMoments(memory_s * ENCODER_RATE_HZ / first_stride)
        overlap_samples = RECEPTIVE_FIELD_SAMPLES - UNIT_HOP_SAMPLES
        self._overlap_samples = overlap_samples
        self._overlap_positions = (overlap_samples - first_kernel) // first_stride + 1

    @property
    def started(self) -> bool:
        return self.layer.weight > 0

    def norm_audio(self, audio_16k: Tensor, eps: float) -> Tensor:
        """(1, T), its first 80 samples seen before unless it is the first -> zero mean, unit variance."""
        known = self._overlap_samples if self.audio.weight else 0
        mean, variance = self.audio.update(audio_16k[:, None, known:])
        return ((audio_16k - mean[..., 0]) / torch.sqrt(variance[..., 0] + eps)).to(audio_16k.dtype)

    def norm_layer(self, x: Tensor, norm: nn.GroupNorm) -> Tensor:
        """(1, C, positions of the first layer) -> the same, normed."""
        known = self._overlap_positions if self.started else 0
        mean, variance = self.layer.update(x[..., known:])
        scale = norm.weight.double()[:, None] / torch.sqrt(variance + norm.eps)
        offset = norm.bias.double()[:, None] - mean * scale
        return torch.addcmul(offset.to(x.dtype), x, scale.to(x.dtype))


@dataclass
class UnitState:
    """The final rows as later ones see them.

    layers: the memory of each layer that the units come from; transformer: in their place, where the C kernels compute.
    inputs (1, up to 64, W): projected features, for the positional convolution.
    """

    unit_width: int
    layers: list[AttentionMemory] = field(default_factory=list)
    transformer: TransformerStream | None = None
    inputs: Tensor | None = None
