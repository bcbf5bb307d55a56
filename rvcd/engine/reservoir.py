"""Keeps a bounded number of rows of any number of them: all, or a random choice in which each had the same chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Reservoir:
    """Rows (n, width) float32; the same rows in the same order with the same seed leave the same choice (Vitter's R)."""

    def __init__(self, capacity: int, width: int, seed: int) -> None:
        """capacity: rows that are kept, at least 1. Memory is taken as rows come."""
        self.capacity, self.seen = capacity, 0
        self._kept = np.empty((capacity, width), np.float32)  # the system gives pages when they are first written
        self._random = np.random.default_rng(seed)

    def add(self, rows: NDArray[np.float32]) -> None:
        """Take rows (n, width)."""
        direct = min(max(0, self.capacity - self.seen), len(rows))
        self._kept[self.seen : self.seen + direct] = rows[:direct]
        self.seen += direct
        rest = rows[direct:]
        if len(rest):
            places = self._random.integers(0, self.seen + 1 + np.arange(len(rest)))
            for place, row in zip(places, rest, strict=True):
                if place < self.capacity:
                    self._kept[place] = row
            self.seen += len(rest)

    @property
    def rows(self) -> NDArray[np.float32]:
        """What is kept, (n, width): a view."""
        return self._kept[: min(self.seen, self.capacity)]
