"""A network at the frames' rate: an envelope and its pitch go in, some values for each frame come out.

Blocks of rvcd.nets.convnext between two dense layers. Shapes: B batch, T frames (10 ms), C bands, W model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rvcd.nets.convnext import ConvNextBlock, ConvNextShape
from rvcd.nets.rolling_buffer import Past
from rvcd.nets.spectral_envelope import BANDS

LOWEST_HZ, MIDDLE_HZ, MOST_HZ = 20.0, 200.0, 4000.0
"""Of a pitch."""


@dataclass(frozen=True)
class FrameNetSizes:
    width: int
    inner_width: int
    blocks: tuple[ConvNextShape, ...]

    @classmethod
    def of(cls, width: int, inner_width: int, kernels: Sequence[int], lookahead_frames: int) -> FrameNetSizes:
        """Return the sizes of a network whose first `lookahead_frames` blocks see one frame of the future each."""
        shapes = tuple(ConvNextShape(kernel, 1, int(i < lookahead_frames)) for i, kernel in enumerate(kernels))
        return cls(width, inner_width, shapes)

    @property
    def lookahead_frames(self) -> int:
        return sum(shape.right for shape in self.blocks)


class FrameNet(nn.Module):
    """mean, spread (C,): of the envelopes that it was trained with, in log10 power."""

    mean: Tensor
    spread: Tensor

    def __init__(self, sizes: FrameNetSizes, values: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.register_buffer("mean", torch.zeros(BANDS))
        self.register_buffer("spread", torch.ones(BANDS))
        self.enter = nn.Linear(BANDS + 2, sizes.width)
        self.blocks = nn.ModuleList(ConvNextBlock(shape, sizes.width, sizes.inner_width) for shape in sizes.blocks)
        self.norm = nn.LayerNorm(sizes.width)
        self.leave = nn.Linear(sizes.width, values)

    def enter_frames(self, bands: Tensor, f0_hz: Tensor, voiced: Tensor) -> Tensor:
        """bands (B, T, C) log10 powers, f0_hz, voiced (B, T) -> (B, T, W)."""
        pitch = torch.where(voiced, torch.log(f0_hz.clamp(LOWEST_HZ, MOST_HZ) / MIDDLE_HZ), torch.zeros_like(f0_hz))
        told = torch.stack((pitch, voiced.to(bands.dtype)), dim=2)
        return self.enter(torch.cat(((bands - self.mean) / self.spread, told), dim=2))  # type: ignore[no-any-return]

    def forward(
        self, bands: Tensor, f0_hz: Tensor, voiced: Tensor, pasts: Sequence[Past] | None = None, final: int = 0
    ) -> Tensor:
        """As enter_frames() -> (B, T, values). pasts: one a block, to which the first `final` frames belong from now on."""
        x = self.enter_frames(bands, f0_hz, voiced)
        for i, block in enumerate(self.blocks):
            x = block(x, pasts[i], final) if pasts is not None else block(x)
        return self.leave(self.norm(x))  # type: ignore[no-any-return]

    def start(self) -> list[Past]:
        """Return what a stream carries."""
        return [Past(shape.left, 2, zeros=True) for shape in self.sizes.blocks]

    def pack(self, dtype: torch.dtype) -> None:
        """Compute the blocks' dense layers in dtype from now on."""
        for block in self.blocks:
            block.pack(dtype)  # type: ignore[operator]
