"""A block of a depthwise convolution over time and two dense layers, with a residual connection (ConvNeXt, Liu et al. 2022).

Shapes: B batch, N positions, W model width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rvcd.nets.packed import PackedLinear
from rvcd.nets.rolling_buffer import Past
from rvcd.yielding import yield_point


@dataclass(frozen=True)
class ConvNextShape:
    """kernel: taps of the convolution over time, dilation positions apart, the last `lookahead` of them in the future."""

    kernel: int
    dilation: int
    lookahead: int

    @property
    def right(self) -> int:
        return self.lookahead * self.dilation

    @property
    def left(self) -> int:
        return (self.kernel - 1 - self.lookahead) * self.dilation


class ConvNextBlock(nn.Module):
    """Depthwise convolution over time, norm, two dense layers, residual."""

    def __init__(self, shape: ConvNextShape, width: int, inner_width: int) -> None:
        super().__init__()
        self.shape = shape
        self.over_time = nn.Conv1d(width, width, shape.kernel, dilation=shape.dilation, groups=width)
        self.norm = nn.LayerNorm(width)
        self.inner: nn.Linear | PackedLinear = nn.Linear(width, inner_width)
        self.activation: nn.Module = nn.GELU()
        self.outer: nn.Linear | PackedLinear = nn.Linear(inner_width, width)

    def forward(self, x: Tensor, past: Past | None = None, final: int = 0) -> Tensor:
        """(B, N, W) -> (B, N, W); past: the inputs before x, to which its first `final` rows belong from now on.

        Zeros stand beyond both ends.
        """
        rows = x.transpose(1, 2)
        seen = F.pad(rows, (self.shape.left, 0)) if past is None else past.extend(rows, final)
        y = self.over_time(F.pad(seen, (0, self.shape.right))).transpose(1, 2)
        yield_point()
        return x + self.outer(self.activation(self.inner(self.norm(y))))  # type: ignore[no-any-return]

    def pack(self, dtype: torch.dtype) -> None:
        """Compute the dense layers in dtype from now on."""
        inner, outer = self.inner, self.outer
        self.inner, self.activation = PackedLinear(inner.weight, inner.bias, dtype, "gelu"), nn.Identity()
        self.outer = PackedLinear(outer.weight, outer.bias, dtype)
