"""The newest rows of a stream, found by their absolute number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class HistoryBuffer:
    """The newest `capacity` rows of an endless sequence. Rows before the first are zero; rows that were let go are an error.

    first: number of the first row that could ever be asked for. end: number after the newest row.
    """

    def __init__(self, capacity: int, width: int = 0, dtype: type = np.float32, first: int = 0) -> None:
        """width 0: rows are scalars."""
        self.capacity = capacity
        # Twice the capacity, so that rows are moved once per `capacity` rows and views stay contiguous.
        self._rows: NDArray[np.generic] = np.zeros((2 * capacity, width) if width else 2 * capacity, dtype)
        self.reset(first)

    def reset(self, first: int = 0) -> None:
        """Forget all rows; the next one appended is number `first`."""
        self._used = 0
        self.end = first
        self._origin = first

    def append(self, rows: NDArray[np.generic]) -> None:
        """Add rows (T, width) or (T,). Only the newest `capacity` of them are kept."""
        count = len(rows)
        self.end += count
        if count >= self.capacity:
            self._rows[: self.capacity] = rows[count - self.capacity :]
            self._used = self.capacity
            return
        if self._used + count > len(self._rows):
            keep = self.capacity - count
            self._rows[:keep] = self._rows[self._used - keep : self._used].copy()
            self._used = keep
        self._rows[self._used : self._used + count] = rows
        self._used += count

    def rows(self, first: int, end: int) -> NDArray[np.generic]:
        """Return rows first .. end (a view where possible). Rows before the buffer's first are zeros.

        Raises IndexError for rows not yet appended or already let go.
        """
        start = self.end - self._used
        if end > self.end or (first < start and start > self._origin):
            raise IndexError(f"rows {first}..{end} asked for; {start}..{self.end} are kept")
        if first >= start:
            return self._rows[first - start : max(end - start, first - start)]
        missing = min(start, end) - first
        zeros = np.zeros((missing, *self._rows.shape[1:]), self._rows.dtype)
        return np.concatenate((zeros, self._rows[: max(end - start, 0)]))
