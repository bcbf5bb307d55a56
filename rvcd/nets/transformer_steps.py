"""Transformer layers of a stream as steps of the C kernels: rvcd.nets.contentvec in float32 on a processor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rvcd.nets.row_memory import RowMemory
from rvcd.nets.steps import BySize, Steps
from rvcd.nets.tiled_conv import TiledConv
from rvcd.yielding import yield_point


@dataclass(frozen=True)
class LayerWeights:
    """One layer: attention, then feed-forward with GELU, each behind its residual connection and before its norm."""

    heads: int
    qkv: TiledConv
    out: TiledConv
    norm_1: nn.LayerNorm
    inner: TiledConv
    outer: TiledConv
    norm_2: nn.LayerNorm

    @property
    def width(self) -> int:
        return self.qkv.channels_in


class Rows:
    """What a step of N rows is computed in: x (N, W) goes through layer by layer, the others hold what lies between."""

    def __init__(self, count: int, layers: Sequence[LayerWeights]) -> None:
        width, inner_width = layers[0].width, layers[0].inner.channels_out
        self.x, self._attended, self._sum, self._normed = (torch.empty((count, width)) for _ in range(4))
        self._inner, seen = torch.empty((count, inner_width)), torch.empty((count, 3 * width))
        self._steps = [self._steps_of(layer, seen) for layer in layers]

    def _steps_of(self, layer: LayerWeights, seen: Tensor) -> Steps:
        steps = Steps()
        steps.conv(layer.qkv, self.x, seen)
        steps.attend(seen, len(self.x), self._attended, heads=layer.heads)
        steps.conv(layer.out, self._attended, self._sum, residual=self.x)
        _norm(steps, layer.norm_1, self._sum, self._normed)
        steps.conv(layer.inner, self._normed, self._inner, gelu=True)
        steps.conv(layer.outer, self._inner, self._sum, residual=self._normed)
        _norm(steps, layer.norm_2, self._sum, self.x)
        return steps

    def run(self, number: int, seen: Tensor) -> None:
        """Send x through a layer. seen (K, 3 * W): queries, keys and values; the last N rows are written."""
        steps = self._steps[number]
        steps.move_result(0, seen[len(seen) - len(self.x) :])
        steps.move_attention(1, seen)
        steps.run()


class TransformerStream:
    """What one stream carries through the layers: queries, keys and values of the newest final rows."""

    def __init__(self, layers: Sequence[LayerWeights], context_rows: int) -> None:
        self._memories = [RowMemory(context_rows, 3 * layer.width) for layer in layers]
        self._rows = BySize(lambda count: Rows(count, layers))

    def step(self, x: Tensor, final: int) -> Tensor:
        """(N, W) behind the final rows -> (N, W) after the last layer; the first `final` of them become final."""
        rows = self._rows.of(len(x))
        rows.x.copy_(x)
        for number, memory in enumerate(self._memories):
            rows.run(number, memory.room(len(x)))
            memory.keep(final)
            yield_point()
        return rows.x.clone()

    def reset(self) -> None:
        """Forget the stream."""
        for memory in self._memories:
            memory.reset()

    def tensors(self) -> list[Tensor | None]:
        """Where it is kept; without rows before the first step."""
        return [memory.buffer for memory in self._memories]


def _norm(steps: Steps, norm: nn.LayerNorm, x: Tensor, y: Tensor) -> None:
    steps.norm(x, y, norm.weight.detach(), norm.bias.detach(), norm.eps)
