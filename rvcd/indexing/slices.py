"""Cuts recordings into the pieces that units are made of, as RVC's training does: pauses left out, 3.7 s at most at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rvcd.geometry import ENCODER_RATE_HZ

FRAME_SAMPLES = ENCODER_RATE_HZ // 50
"""20 ms: of one level, and between two units."""
PIECE_SAMPLES, OVERLAP_SAMPLES = round(3.7 * ENCODER_RATE_HZ), round(0.3 * ENCODER_RATE_HZ)
"""RVC's sizes. A stretch that is no longer than both together stays whole."""
KEPT_PAUSE_FRAMES = 12
"""Frames around what is loud that belong to it: 240 ms hold the breath and the end of a word."""
LEAST_LOUD_FRAMES = 5
"""A stretch that is loud for less than 100 ms in all is a click or a knock, not speech."""


class Slicer:
    """Takes audio at 16 kHz in blocks of any size, and gives its pieces; keeps a few seconds at most."""

    def __init__(self, threshold: float) -> None:
        """threshold: RMS of a frame, full scale 1.0, from which on it counts as loud."""
        self._threshold = threshold
        self._rest = np.zeros(0, np.float32)
        self._audio = np.zeros(0, np.float32)  # frames that are not decided yet
        self._loud = np.zeros(0, np.bool_)  # of KEPT_PAUSE_FRAMES decided ones, then of those in _audio
        self._decided = 0  # of _loud
        self._stretch: list[NDArray[np.float32]] = []
        self._stretch_samples = self._loud_frames = 0
        self._first = True

    def push(self, block: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Take the next audio; yield the pieces that are complete, (samples,) float32."""
        audio = np.concatenate((self._rest, block))
        frames = len(audio) // FRAME_SAMPLES
        whole, self._rest = audio[: frames * FRAME_SAMPLES], audio[frames * FRAME_SAMPLES :]
        levels = np.sqrt(np.square(whole.reshape(frames, FRAME_SAMPLES), dtype=np.float64).mean(axis=1))
        self._audio = np.concatenate((self._audio, whole))
        self._loud = np.concatenate((self._loud, levels >= self._threshold))
        yield from self._decide(len(self._loud) - KEPT_PAUSE_FRAMES)

    def finish(self) -> Iterator[NDArray[np.float32]]:
        """Yield what is left at the end of a recording."""
        yield from self._decide(len(self._loud))
        yield from self._end_stretch()

    def _decide(self, end: int) -> Iterator[NDArray[np.float32]]:
        """Decide which frames up to `end` of _loud belong to a stretch."""
        count = end - self._decided
        if count <= 0:
            return
        reach = KEPT_PAUSE_FRAMES
        sums = np.concatenate(([0], np.cumsum(self._loud)))
        at = np.arange(self._decided, end)
        near = sums[np.minimum(at + reach + 1, len(self._loud))] - sums[np.maximum(at - reach, 0)] > 0
        loud = self._loud[self._decided : end]
        audio, self._audio = self._audio[: count * FRAME_SAMPLES], self._audio[count * FRAME_SAMPLES :]
        forget = max(0, end - reach)
        self._loud, self._decided = self._loud[forget:], end - forget
        changes = np.flatnonzero(np.diff(near.astype(np.int8))) + 1
        for first, last in zip((0, *changes), (*changes, count), strict=True):
            if near[first]:
                self._loud_frames += int(loud[first:last].sum())
                yield from self._extend(audio[first * FRAME_SAMPLES : last * FRAME_SAMPLES])
            else:
                yield from self._end_stretch()

    def _extend(self, audio: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        self._stretch.append(audio)
        self._stretch_samples += len(audio)
        if self._stretch_samples <= PIECE_SAMPLES + OVERLAP_SAMPLES:
            return
        stretch = np.concatenate(self._stretch)
        while len(stretch) > PIECE_SAMPLES + OVERLAP_SAMPLES:
            yield stretch[:PIECE_SAMPLES]
            stretch, self._first = stretch[PIECE_SAMPLES - OVERLAP_SAMPLES :], False
        self._stretch, self._stretch_samples = [stretch], len(stretch)

    def _end_stretch(self) -> Iterator[NDArray[np.float32]]:
        stretch, speech = self._stretch, not self._first or self._loud_frames >= LEAST_LOUD_FRAMES
        self._stretch, self._stretch_samples, self._loud_frames, self._first = [], 0, 0, True
        if stretch and speech:
            yield np.concatenate(stretch)
