"""Where the gate was open, frame by frame: what may be heard, and which blocks need no network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rvcd.engine.dsp.history_buffer import HistoryBuffer

MARGIN_FRAMES = 4
"""Output within this many frames of an open gate is kept: consonants begin and end below the threshold."""


class GateHistory:
    """Frames and samples are counted from the last reset."""

    def __init__(self, hop_samples: int, capacity_frames: int) -> None:
        self.hop_samples = hop_samples
        self._open = HistoryBuffer(capacity_frames, dtype=np.bool_)

    def reset(self) -> None:
        """Forget the stream."""
        self._open.reset()

    def append(self, opened: NDArray[np.bool_]) -> None:
        """Take the newest frames, (T,): whether anything of each can be heard."""
        self._open.append(opened)

    def any_since(self, frame: int) -> bool:
        """Say whether the gate was open anywhere from a frame on."""
        return bool(self._open.rows(max(0, frame), self._open.end).any())

    def any_near(self, first_sample: int) -> bool:
        """Say whether anything can be heard of the output from a sample on."""
        return self.any_since(first_sample // self.hop_samples - MARGIN_FRAMES)

    def gain(self, first: int, end: int) -> NDArray[np.float32]:
        """Return the gain (end - first,) of output samples first .. end: 1 near open frames, ramped over one frame."""
        hop, margin = self.hop_samples, MARGIN_FRAMES
        low, high = first // hop - 1, -(-end // hop) + 1
        heard = min(high + margin, self._open.end)
        flags = np.asarray(self._open.rows(low - margin, heard), dtype=np.float32)
        flags = np.pad(flags, (0, high + margin - heard))
        near = np.lib.stride_tricks.sliding_window_view(flags, 2 * margin + 1).max(axis=1)
        if near.all():
            return np.ones(end - first, np.float32)
        centres = (np.arange(low, high) + 0.5) * hop
        gain: NDArray[np.float32] = np.interp(np.arange(first, end), centres, near).astype(np.float32)
        return gain
