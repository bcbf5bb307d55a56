"""What a stream carries through the content encoder: the front end's moments, the transformer's past."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rvcd.nets.attention_memory import AttentionMemory
from rvcd.nets.rolling_buffer import Past
from rvcd.nets.transformer_steps import TransformerStream

ENCODER_RATE_HZ = 16_000
UNIT_HOP_SAMPLES = 320
RECEPTIVE_FIELD_SAMPLES = 400
"""Audio one unit is computed from."""


@dataclass
class RunningMoments:
    """Mean and variance over time of the channels of a stream that forgets the far past.

    weight (), total and squares (1, C, 1): float64, updated in place; None before the first step. started: since the last reset.
    """

    memory_positions: float
    """Time constant of the forgetting."""
    started: bool = False
    weight: Tensor | None = None
    total: Tensor | None = None
    squares: Tensor | None = None

    def reset(self) -> None:
        """Forget the stream."""
        self.started = False
        with torch.inference_mode():
            for tensor in self.tensors():
                if tensor is not None:
                    tensor.zero_()

    def tensors(self) -> list[Tensor | None]:
        return [self.weight, self.total, self.squares]

    def update(self, fresh: Tensor) -> tuple[Tensor, Tensor]:
        """Take positions not seen before, (1, C, T); return mean and variance of all, each (1, C, 1) float64."""
        kept = math.exp(-fresh.shape[2] / self.memory_positions)
        total = fresh.sum(dim=2, keepdim=True).double()
        squares = fresh.square().sum(dim=2, keepdim=True).double()
        if self.weight is None or self.total is None or self.squares is None:
            self.weight, self.total, self.squares = total.new_zeros(()), torch.zeros_like(total), torch.zeros_like(squares)
        self.weight.mul_(kept).add_(fresh.shape[2])
        self.total.mul_(kept).add_(total)
        self.squares.mul_(kept).add_(squares)
        self.started = True
        mean = self.total / self.weight
        return mean, (self.squares / self.weight - mean.square()).clamp_min(0.0)


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
        return self.layer.started

    def reset(self) -> None:
        """Forget the stream."""
        self.audio.reset()
        self.layer.reset()

    def tensors(self) -> list[Tensor | None]:
        """Where it is kept; None before the first step."""
        return self.audio.tensors() + self.layer.tensors()

    def norm_audio(self, audio_16k: Tensor, eps: float) -> Tensor:
        """(1, T), its first 80 samples seen before unless it is the first -> zero mean, unit variance."""
        known = self._overlap_samples if self.audio.started else 0
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

    layers: the memory of each layer that the units come from, or one of all where the C kernels compute. inputs: up to 64 rows
    of projected features, (1, N, W), for the positional convolution.
    """

    unit_width: int
    layers: list[AttentionMemory] | list[TransformerStream]
    inputs: Past

    def reset(self) -> None:
        """Forget the stream."""
        for layer in self.layers:
            layer.reset()
        self.inputs.reset()

    def tensors(self) -> list[Tensor | None]:
        """Where it is kept; None before the first step."""
        return [self.inputs.tensor, *(tensor for layer in self.layers for tensor in layer.tensors())]
