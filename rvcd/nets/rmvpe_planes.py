"""RMVPE by kernels of our own, on the CPU: what rvcd.nets.rmvpe computes, for windows of live audio.

Such a window has 32 frames, and the deepest level 1 x 4 positions: nearly all of the 90 million weights are read for a handful
of positions, so that the memory decides. Therefore weights are never widened in memory, rows of padding are not multiplied
(where one frame is left, a third of the taps remains), and what lies between the layers stays in the caches.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rvcd.nets.plane_conv import BidirectionalGru, GruWeights, Plane, PlaneConv, PlaneUpsampling, halve
from rvcd.nets.rmvpe_weights import RmvpeSizes, ScaledConv
from rvcd.yielding import yield_point

KEPT_FRAMES = 128
"""Buffers of longer windows are not kept: they are those of files."""


class PlaneBlock:
    """Two 3x3 convolutions with ReLU, and a shortcut (1x1 where the width changes)."""

    def __init__(self, convs: Mapping[str, ScaledConv], name: str) -> None:
        self.first, self.second = (_conv(convs[f"{name}.conv_{i}"], relu=True) for i in (1, 2))
        shortcut = convs.get(f"{name}.shortcut")
        self.shortcut = None if shortcut is None else _conv(shortcut)

    def __call__(self, x: Plane, between: Plane, y: Plane) -> None:
        """x -> y, which may be x where the width does not change."""
        self.first(x, between)
        if self.shortcut is not None:
            self.shortcut(x, y)
        self.second(between, y, residual=x if self.shortcut is None else y)


class PlaneBlocks:
    """Several, one behind the other."""

    def __init__(self, convs: Mapping[str, ScaledConv], name: str, count: int) -> None:
        self.blocks = [PlaneBlock(convs, f"{name}.{i}") for i in range(count)]

    def __call__(self, x: Plane, between: Plane, made: Plane, last: Plane | None = None) -> None:
        """x -> made; the last one's result into `last` where that is given."""
        for i, block in enumerate(self.blocks):
            ends = last is not None and i == len(self.blocks) - 1
            block(x, between, last if ends else made)  # type: ignore[arg-type]
            x = made


@dataclass(frozen=True)
class LevelBuffers:
    """What a level works in. joined: what came up, then what the encoder saw."""

    entering: Plane
    between: Plane
    made: Plane
    joined: Plane


@dataclass(frozen=True)
class Buffers:
    """Those of a window of some length."""

    levels: tuple[LevelBuffers, ...]
    middle_entering: Plane
    middle_between: Plane
    middle_made: Plane
    output: Plane

    @classmethod
    def of(cls, sizes: RmvpeSizes, frames: int) -> Buffers:
        def plane(level: int, channels: int) -> Plane:
            return Plane.empty(frames >> level, sizes.mel_bands >> level, channels)

        entering = (1, *sizes.channels[:-1])
        levels = tuple(
            LevelBuffers(plane(i, entering[i]), plane(i, c), plane(i, c), plane(i, 2 * c)) for i, c in enumerate(sizes.channels)
        )
        depth, middle = len(sizes.channels), sizes.middle_channels
        return cls(
            levels, plane(depth, sizes.channels[-1]), plane(depth, middle), plane(depth, middle), plane(0, sizes.output_channels)
        )


class _Kept(threading.local):
    """Buffers of each thread: a method that is live may be warmed up by another thread."""

    def __init__(self) -> None:
        self.by_frames: dict[int, Buffers] = {}


class RmvpePlanes:
    """Log-mel -> salience. Safe to call from several threads."""

    def __init__(self, sizes: RmvpeSizes, convs: Mapping[str, ScaledConv], others: Mapping[str, Tensor]) -> None:
        """convs, others: see rvcd.nets.rmvpe_weights. Their tensors are not kept."""
        self.sizes = sizes
        self.input_scale, self.input_shift = others["input_scale"], others["input_shift"]
        depth = range(len(sizes.channels))
        self.down = [PlaneBlocks(convs, f"down.{i}", sizes.blocks) for i in depth]
        self.middle = [PlaneBlocks(convs, f"middle.{i}", sizes.blocks) for i in range(sizes.middle_layers)]
        ups = [convs[f"up.{i}.up"] for i in depth]
        self.rise = [PlaneUpsampling(up.weight, up.scale, up.bias, relu=True) for up in ups]
        self.up = [PlaneBlocks(convs, f"up.{i}.blocks", sizes.blocks) for i in depth]
        self.cnn = _conv(convs["cnn"])
        self.gru = [_gru(others, i, sizes) for i in range(sizes.gru_layers)]
        self.out = others["out.weight"].T.contiguous(), others["out.bias"]
        self._kept = _Kept()

    def salience(self, log_mel: Tensor) -> Tensor:
        """(1, M, T) -> (1, T, 360), each 0..1. The end is padded with zeros to a whole multiple of frames, as trained."""
        _, _, T = log_mel.shape
        buffers = self._buffers(-(-T // self.sizes.frame_multiple) * self.sizes.frame_multiple)
        levels = buffers.levels
        entering = levels[0].entering.values[..., 0]
        entering[:T] = log_mel[0].T * self.input_scale + self.input_shift
        entering[T:] = self.input_shift
        for i, (blocks, level) in enumerate(zip(self.down, levels, strict=True)):
            C = self.sizes.channels[i]
            seen = level.joined.part(C, C)
            blocks(level.entering, level.between, level.made, last=seen)
            halve(seen, levels[i + 1].entering if i + 1 < len(levels) else buffers.middle_entering)
        x = buffers.middle_entering
        for blocks in self.middle:
            blocks(x, buffers.middle_between, buffers.middle_made)
            x = buffers.middle_made
        for rise, blocks, level in zip(self.rise, self.up, reversed(levels), strict=True):
            rise(x, level.joined.part(0, level.made.channels))
            blocks(level.joined, level.between, level.made)
            x = level.made
        self.cnn(x, buffers.output)
        rows = buffers.output.values.flatten(1)
        for layer in self.gru:
            rows = layer(rows)
        yield_point()
        return torch.sigmoid(torch.addmm(self.out[1], rows[:T], self.out[0]))[None]

    def _buffers(self, frames: int) -> Buffers:
        kept = self._kept.by_frames.get(frames)
        if kept is None:
            kept = Buffers.of(self.sizes, frames)
            if frames <= KEPT_FRAMES:
                self._kept.by_frames = {frames: kept}
        return kept


def _conv(conv: ScaledConv, *, relu: bool = False) -> PlaneConv:
    return PlaneConv(conv.weight, conv.scale, conv.bias, relu=relu)


def _gru(others: Mapping[str, Tensor], layer: int, sizes: RmvpeSizes) -> BidirectionalGru:
    directions = []
    for side in ("", "_reverse"):
        inputs, state, input_bias, state_bias = (
            others[f"gru.{name}_l{layer}{side}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        if layer == 0:  # torch's module reads channel after channel, the planes hold band after band
            inputs = inputs.view(-1, sizes.output_channels, sizes.mel_bands).transpose(1, 2).flatten(1)
        directions.append(GruWeights(inputs, state, input_bias, state_bias))
    return BidirectionalGru(directions)
