"""What a stream keeps of a sequence from step to step, in memory that stays where it is.

A step that keeps and adds as many positions as an earlier one finds its tensors at the same addresses. CUDA graphs need that:
a recorded block reads and writes the addresses that it was recorded with.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor

HOMES = 4
"""Sizes whose buffer is kept while another size is used: a stream's first steps and a formant shift bring a few."""


class Homes:
    """Buffers by their size along the axis that changes; the sizes used last are kept."""

    def __init__(self) -> None:
        self._buffers: OrderedDict[int, Tensor] = OrderedDict()

    def get(self, size: int, like: Tensor) -> Tensor | None:
        """Return the buffer of a size, if it has the type and the device of `like`."""
        buffer = self._buffers.get(size)
        if buffer is None or not _alike(buffer, like):
            return None
        self._buffers.move_to_end(size)
        return buffer

    def put(self, size: int, buffer: Tensor) -> None:
        """Keep a buffer for the next step of its size."""
        self._buffers[size] = buffer
        self._buffers.move_to_end(size)
        while len(self._buffers) > HOMES:
            self._buffers.popitem(last=False)


def _alike(buffer: Tensor, like: Tensor) -> bool:
    return buffer.dtype == like.dtype and buffer.device == like.device


class RollingBuffer:
    """Positions along one axis of a tensor. Its content is valid until the next roll()."""

    def __init__(self, axis: int, *, channels_last: bool = False) -> None:
        """channels_last: for (1, C, 1, T) along T, with C contiguous in memory, also where a size is 1."""
        self.axis, self._channels_last = axis, channels_last
        self.content: Tensor | None = None
        self._newest: Tensor | None = None
        self._homes = Homes()

    def clear(self) -> None:
        """Forget the content, not where it was."""
        self.content = None

    def roll(self, first: int, end: int, fresh: Tensor) -> Tensor:
        """Let positions first .. end of the content be followed by fresh, and return all of it."""
        kept, count, old = end - first, fresh.shape[self.axis], self.content
        buffer = self._of(kept + count, fresh)
        if kept and old is not None:
            part, target = old.narrow(self.axis, first, kept), buffer.narrow(self.axis, 0, kept)
            if buffer is not old or first:
                target.copy_(part.clone() if buffer is old and first < kept else part)
        if count:
            buffer.narrow(self.axis, kept, count).copy_(fresh)
        self.content = self._newest = buffer
        return buffer

    def _of(self, size: int, fresh: Tensor) -> Tensor:
        """Return a buffer of so many positions, shaped as fresh is otherwise.

        A size that comes twice in a row is that of a steady stream: its buffer is kept.
        """
        newest = self._newest
        if newest is not None and newest.shape[self.axis] == size and _alike(newest, fresh):
            self._homes.put(size, newest)
            return newest
        home = self._homes.get(size, fresh)
        return self._empty(size, fresh) if home is None else home

    def _empty(self, size: int, fresh: Tensor) -> Tensor:
        if self._channels_last:
            return torch.empty((1, 1, size, fresh.shape[1]), dtype=fresh.dtype, device=fresh.device).permute(0, 3, 1, 2)
        shape = list(fresh.shape)
        shape[self.axis] = size
        return torch.empty(shape, dtype=fresh.dtype, device=fresh.device)


class Past:
    """The newest `length` final positions of a sequence, as every step sees them before its own.

    They move to the front when the next step begins, so that what extend() returned is whole until then.
    """

    def __init__(self, length: int, axis: int, *, zeros: bool = False, channels_last: bool = False) -> None:
        """zeros: what lies before the first position is `length` zeros; otherwise there is nothing before it."""
        self.length, self._zeros = length, zeros
        self._buffer = RollingBuffer(axis, channels_last=channels_last)
        self.reset()

    def reset(self) -> None:
        """Forget everything; the next position is the first."""
        self._buffer.clear()
        self._known = self._final = 0

    @property
    def known(self) -> int:
        """How many positions the next extend() puts before its own, up to `length`."""
        return min(self.length, self._known + self._final)

    @property
    def tensor(self) -> Tensor | None:
        """Where it is kept; None before the first step."""
        return self._buffer.content

    def extend(self, x: Tensor, final: int) -> Tensor:
        """Return the past followed by x. The first `final` positions of x belong to the past from now on."""
        if self._zeros and self._buffer.content is None:
            axis = self._buffer.axis
            self._buffer.roll(0, 0, x.new_zeros([self.length if i == axis else size for i, size in enumerate(x.shape)]))
            self._known, self._final = self.length, 0
        end = self._known + self._final
        first = max(0, end - self.length)
        self._known, self._final = end - first, final
        return self._buffer.roll(first, end, x)
