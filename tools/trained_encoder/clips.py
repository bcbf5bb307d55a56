"""Aligned clips, and pieces of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from phones import UNKNOWN
from torch import Tensor

HELD_OUT_OF = "librispeech-test-clean"
HELD_OUT_EVERY = 5
"""Of the readers of that corpus, in the order of their names."""


@dataclass
class Clip:
    """audio (T,) int16 at 16 kHz; labels (N,) int8, one a unit; said: phones; features: the front end's, once they are made."""

    name: str
    speaker: str
    audio: Tensor
    labels: NDArray[np.int8]
    said: NDArray[np.int8]
    sure: bool
    features: Tensor | None = None

    @property
    def aligned(self) -> bool:
        """Whether it is known when each phone is said."""
        return bool((self.labels != UNKNOWN).any())


def units_of(samples: int) -> int:
    return (samples - 400) // 320 + 1


def load_clip(path: Path) -> Clip:
    data = np.load(path)
    frames = data["frames"]
    # A unit hears 25 ms from 20 n ms on; the second of its 10 ms frames is the middle.
    labels = frames[np.minimum(2 * np.arange(units_of(len(data["audio"]))) + 1, len(frames) - 1)]
    return Clip(path.stem, str(data["speaker"]), torch.from_numpy(data["audio"]), labels, data["said"], bool(data["sure"]))


def held_out_speakers(folder: Path) -> set[str]:
    return speakers_held_out(path.stem for path in (folder / HELD_OUT_OF).glob("*.npz"))


def speakers_held_out(clips: Iterable[str]) -> set[str]:
    """clips: names of all clips of HELD_OUT_OF."""
    return set(sorted({name.split("-")[0] for name in clips})[::HELD_OUT_EVERY])


def is_held_out(path: Path, speakers: set[str]) -> bool:
    return path.parent.name == HELD_OUT_OF and path.stem.split("-")[0] in speakers
