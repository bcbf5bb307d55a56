"""The voice's parameters, applied frame by frame: transposition, formant, retrieval and protect."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.engine.faders import Faders
from rvcd.engine.pitch.track import PitchTrack, fill_unvoiced, transpose
from rvcd.engine.retrieval import blend
from rvcd.engine.voice_stream import FrameBatch, Voice
from rvcd.params import Snapshot


class Shaper:
    """Makes of units and pitch what a voice is fed with."""

    def __init__(self, block_frames: int, snapshot: Snapshot, *, fill_unvoiced: bool) -> None:
        """fill_unvoiced: interpolate f0 through unvoiced frames for the generator (RVC of 2026) instead of leaving them so."""
        self.block_frames, self.fill_unvoiced = block_frames, fill_unvoiced
        self.faders = Faders.at_rest(snapshot)

    @property
    def applied(self) -> Snapshot:
        """The parameters with which the newest block ends."""
        return self.faders.now

    def move_to(self, snapshot: Snapshot) -> None:
        """Let the parameters move to these values within the next block."""
        self.faders = self.faders.then(snapshot)

    def batch(self, voice: Voice, first: int, settled: int, units: Tensor, pitch: PitchTrack) -> FrameBatch:
        """Return the frames from `first` on, with parameters that move within the block before the frame `settled`.

        Frames before `settled` are final. units (T, unit_width); pitch of the same T frames.
        """
        return self._batch(voice, first, settled, units, pitch, self.faders)

    def batch_at_rest(self, voice: Voice, first: int, settled: int, units: Tensor, pitch: PitchTrack) -> FrameBatch:
        """As batch(), of a past in which the parameters have always been what they are now."""
        return self._batch(voice, first, settled, units, pitch, Faders.at_rest(self.applied))

    def _batch(self, voice: Voice, first: int, settled: int, units: Tensor, pitch: PitchTrack, faders: Faders) -> FrameBatch:
        frames = np.arange(first, first + len(units)) - max(0, settled - self.block_frames)

        def moved(name: str) -> NDArray[np.float32]:
            return faders.per_frame(name, frames, self.block_frames)

        share = retrieved_share(voice, pitch.voiced, moved("index_rate"), moved("protect"))
        pitch = PitchTrack(transpose(pitch.f0_hz, moved("pitch")), pitch.voiced)
        if self.fill_unvoiced:
            pitch = fill_unvoiced(pitch)
        return FrameBatch(first, settled - first, units, pitch.f0_hz, pitch.voiced, moved("formant"), share)


def retrieved_share(
    voice: Voice, voiced: NDArray[np.bool_], index_rate: NDArray[np.float32], protect: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """Return how much of what a voice's index has is taken in each frame, (T,); None: nothing.

    On unvoiced frames with protect < 0.5 only that share of index_rate (RVC). All of shape (T,).
    """
    if voice.index is None or not index_rate.any():
        return None
    kept = np.where(voiced | (protect >= 0.5), 1.0, protect).astype(np.float32)
    return index_rate * kept


def blend_units(
    voice: Voice, units: Tensor, voiced: NDArray[np.bool_], index_rate: NDArray[np.float32], protect: NDArray[np.float32]
) -> Tensor:
    """Blend rows (T, width), two for each unit, with their neighbours in the voice's index: see retrieved_share()."""
    share = retrieved_share(voice, voiced, index_rate, protect)
    if voice.index is None or share is None:
        return units
    return blend(voice.index, units, torch.from_numpy(share).to(units.device))
