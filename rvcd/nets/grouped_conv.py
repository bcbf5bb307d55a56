"""A convolution with groups by the C kernels: one step for each group, all computed together."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from rvcd.nets.steps import Steps
from rvcd.nets.tiled_conv import TiledConv
from rvcd.yielding import yield_point


class _Made(threading.local):
    """A thread's list for the length it last computed: x (groups, T, in / groups) -> y (groups, T', out / groups)."""

    steps: Steps | None = None
    x = y = torch.empty(0)


class GroupedConv:
    """(1, in, T) -> (1, out, T'), of stride 1 and without padding."""

    def __init__(self, weight: Tensor, bias: Tensor | None, groups: int) -> None:
        """weight (out, in / groups, kernel)."""
        biases = [None] * groups if bias is None else bias.detach().chunk(groups)
        self._convs: list[TiledConv] = []
        for part, added in zip(weight.detach().chunk(groups), biases, strict=True):
            yield_point()
            self._convs.append(TiledConv(part, added, narrow=True))
        self._made = _Made()

    def __call__(self, x: Tensor) -> Tensor:
        made, groups, length = self._made, len(self._convs), x.shape[2]
        if made.steps is None or made.x.shape[1] != length:
            made.steps = self._make(made, length)
        made.x.copy_(x[0].view(groups, -1, length).transpose(1, 2))
        made.steps.run()
        return made.y.transpose(1, 2).reshape(1, -1, made.y.shape[1])

    def _make(self, made: _Made, length: int) -> Steps:
        groups, first = len(self._convs), self._convs[0]
        made.x = torch.empty((groups, length, first.channels_in))
        made.y = torch.empty((groups, first.length_out(length), first.channels_out))
        steps = Steps()
        for conv, x, y in zip(self._convs, made.x, made.y, strict=True):
            steps.conv(conv, x, y, together=True)
        return steps
