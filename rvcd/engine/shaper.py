"""The voice's parameters, applied frame by frame: transposition, autotune, formant, retrieval and protect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.engine.faders import Faders
from rvcd.engine.pitch.autotune import A4_HZ, Autotune, pulled
from rvcd.engine.pitch.track import PitchTrack, fill_unvoiced, transpose
from rvcd.engine.retrieval import blend
from rvcd.engine.voice_stream import FrameBatch, Voice
from rvcd.params import Snapshot


class Shaper:
    """Makes of units and pitch what a voice is fed with."""

    def __init__(
        self, block_frames: int, snapshot: Snapshot, *, fill_unvoiced: bool, capacity_frames: int, a4_hz: float = A4_HZ
    ) -> None:
        """fill_unvoiced: interpolate f0 through unvoiced frames for the generator (RVC of 2026) instead of leaving them so.

        capacity_frames: past frames that may be asked for again. a4_hz: what autotune calls A4.
        """
        self.block_frames, self.fill_unvoiced = block_frames, fill_unvoiced
        self.faders, self.autotune = Faders.at_rest(snapshot), Autotune(capacity_frames, a4_hz)

    def reset(self) -> None:
        """Forget the stream's frames. The parameters stay."""
        self.autotune.reset()

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
        return self._batch(voice, first, settled, units, pitch, self.faders, settles=True)

    def batch_at_rest(self, voice: Voice, first: int, settled: int, units: Tensor, pitch: PitchTrack) -> FrameBatch:
        """As batch(), of a past in which the parameters have always been what they are now."""
        return self._batch(voice, first, settled, units, pitch, Faders.at_rest(self.applied))

    def batch_of_nothing(self, voice: Voice, first: int, settled: int, units: Tensor, pitch: PitchTrack) -> FrameBatch:
        """As batch_at_rest(), of made-up frames that are none of the stream's. On any thread."""
        return self._batch(voice, first, settled, units, pitch, Faders.at_rest(replace(self.applied, autotune=0.0)))

    def _batch(
        self, voice: Voice, first: int, settled: int, units: Tensor, pitch: PitchTrack, faders: Faders, settles: bool = False
    ) -> FrameBatch:
        frames = np.arange(first, first + len(units)) - max(0, settled - self.block_frames)

        def moved(name: str) -> NDArray[np.float32]:
            return faders.per_frame(name, frames, self.block_frames)

        share = retrieved_share(voice, pitch.voiced, moved("index_rate"), moved("protect"))
        pitch = PitchTrack(transpose(pitch.f0_hz, moved("pitch")), pitch.voiced)
        if (amount := moved("autotune")).any():
            if settles:
                self.autotune.settle(first, settled, pitch.f0_hz, pitch.voiced, faders.now)
            pulls = self.autotune.pulls(first, pitch.f0_hz, pitch.voiced, faders.now)
            pitch = PitchTrack(pulled(pitch.f0_hz, pitch.voiced, pulls, amount), pitch.voiced)
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
    return blend(voice.index, units, torch.from_numpy(share).to(units.device), voice.rows_alike)
