"""The layers of a voice's enc_p as steps of the C kernels: rvcd.nets.synthesizer.Encoder in float32 on a processor, streamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rvcd.nets.row_memory import RowMemory
from rvcd.nets.steps import BySize, Steps
from rvcd.nets.tiled_conv import TiledConv
from rvcd.yielding import yield_point

NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class PriorLayer:
    """One layer: attention with embeddings of distances, then two convolutions with a ReLU between, each before its norm.

    near: of keys and of values. norm_1, norm_2: gamma and beta.
    """

    heads: int
    qkv: TiledConv
    near: tuple[Tensor, Tensor]
    out: TiledConv
    norm_1: tuple[Tensor, Tensor]
    conv_1: TiledConv
    conv_2: TiledConv
    norm_2: tuple[Tensor, Tensor]

    @property
    def left(self) -> int:
        """Frames before a frame that each convolution sees."""
        return (self.conv_1.kernel - 1) // 2


class Frames:
    """What a step of T frames is computed in: x (T, C) goes through layer by layer."""

    def __init__(self, count: int, layers: Sequence[PriorLayer]) -> None:
        first = layers[0]
        width, inner, kernel, left = first.qkv.channels_in, first.conv_1.channels_out, first.conv_1.kernel, first.left
        self.x, self._attended, self._sum = (torch.empty((count, width)) for _ in range(3))
        # Each with the frames before the step's, and zeros behind them.
        self.before, self.between = torch.zeros((count + kernel - 1, width)), torch.zeros((count + kernel - 1, inner))
        self._normed, self._inner = self.before[left : left + count], self.between[left : left + count]
        seen = torch.empty((count, 3 * width))
        self._steps = [self._steps_of(layer, seen) for layer in layers]

    def _steps_of(self, layer: PriorLayer, seen: Tensor) -> Steps:
        steps = Steps()
        steps.conv(layer.qkv, self.x, seen)
        steps.attend(seen, len(self.x), self._attended, heads=layer.heads, near=layer.near)
        steps.conv(layer.out, self._attended, self._sum, residual=self.x)
        steps.norm(self._sum, self._normed, *layer.norm_1, NORM_EPSILON)
        steps.conv(layer.conv_1, self.before, self._inner, leaving=0.0)
        steps.conv(layer.conv_2, self.between, self._sum, residual=self._normed)
        steps.norm(self._sum, self.x, *layer.norm_2, NORM_EPSILON)
        return steps

    def run(self, number: int, seen: Tensor) -> None:
        """Send x through a layer. seen (K, 3 * C): queries, keys and values; the last T rows are written."""
        steps = self._steps[number]
        steps.move_result(0, seen[len(seen) - len(self.x) :])
        steps.move_attention(1, seen)
        steps.run()


class _Past:
    """What one layer remembers: queries, keys and values of the newest final frames, and the last inputs of its convolutions."""

    def __init__(self, layer: PriorLayer, context_frames: int) -> None:
        width, inner = layer.qkv.channels_in, layer.conv_1.channels_out
        self.rows = RowMemory(context_frames, 3 * width)
        self.before, self.between = torch.zeros((layer.left, width)), torch.zeros((layer.left, inner))

    def reset(self) -> None:
        """Forget the stream."""
        self.rows.reset()
        with torch.inference_mode():
            self.before.zero_()
            self.between.zero_()


class PriorStream:
    """What one stream carries through the layers. final: how many of the frames now passing through become final."""

    def __init__(self, layers: Sequence[PriorLayer], context_frames: int) -> None:
        self._layers, self.final = layers, 0
        self._pasts = [_Past(layer, context_frames) for layer in layers]
        self._frames = BySize(lambda count: Frames(count, layers))

    def step(self, x: Tensor) -> Tensor:
        """(T, C) behind the final frames -> (T, C) after the last layer; the first `final` of them become final."""
        frames, final = self._frames.of(len(x)), self.final
        frames.x.copy_(x)
        for number, (layer, past) in enumerate(zip(self._layers, self._pasts, strict=True)):
            left = layer.left
            frames.before[:left], frames.between[:left] = past.before, past.between
            frames.run(number, past.rows.room(len(x)))
            past.rows.keep(final)
            past.before.copy_(frames.before[final : final + left])
            past.between.copy_(frames.between[final : final + left])
            yield_point()
        return frames.x.clone()

    def reset(self) -> None:
        """Forget the stream."""
        for past in self._pasts:
            past.reset()

    def tensors(self) -> list[Tensor | None]:
        """Where it is kept; without rows before the first step."""
        return [tensor for past in self._pasts for tensor in (past.rows.buffer, past.before, past.between)]
