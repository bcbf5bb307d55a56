"""The newest rows of a stream in one buffer, with room behind them for a step's own."""

from __future__ import annotations

import torch
from torch import Tensor


class RowMemory:
    """Remembers up to `length` rows of `width` float32 numbers. They lie together, and move to the front only now and then."""

    def __init__(self, length: int, width: int) -> None:
        self.length, self.width = length, width
        self.buffer = torch.empty((0, width))
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        self._first = self.known = 0

    def room(self, count: int) -> Tensor:
        """Return the remembered rows and `count` more behind them, whose values are to be written: (known + count, width)."""
        end = self._first + self.known + count
        if end > len(self.buffer):
            kept = self.buffer[self._first : self._first + self.known].clone()
            if self.known + count > len(self.buffer) // 2:
                self.buffer = torch.empty((2 * (self.length + count), self.width))
            self.buffer[: self.known] = kept
            self._first = 0
        return self.buffer[self._first : self._first + self.known + count]

    def keep(self, final: int) -> None:
        """Remember the first `final` of the rows that room() was called for, as far as `length` goes; forget the others."""
        known = min(self.known + final, self.length)
        self._first += self.known + final - known
        self.known = known
