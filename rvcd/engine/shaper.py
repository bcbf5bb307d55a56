"""The voice's parameters, applied frame by frame: transposition, formant, retrieval and protect."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.engine.faders import Faders
from rvcd.engine.pitch.track import PitchTrack, fill_unvoiced, transpose
from rvcd.engine.voice_stream import FrameBatch, Voice
from rvcd.geometry import FRAMES_PER_UNIT
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

        units = blend_units(voice, units, pitch.voiced, moved("index_rate"), moved("protect"))
        pitch = PitchTrack(transpose(pitch.f0_hz, moved("pitch")), pitch.voiced)
        if self.fill_unvoiced:
            pitch = fill_unvoiced(pitch)
        return FrameBatch(first, settled - first, units, pitch.f0_hz, pitch.voiced, moved("formant"))


def blend_units(
    voice: Voice, units: Tensor, voiced: NDArray[np.bool_], index_rate: NDArray[np.float32], protect: NDArray[np.float32]
) -> Tensor:
    """Blend rows (T, width), two for each unit, with their neighbours in the voice's index.

    On unvoiced frames with protect < 0.5 only that share of the blend is taken (RVC). index_rate, protect, voiced: (T,).
    """
    if voice.index is None or not index_rate.any():
        return units
    retrieved = voice.index.blend(units[::FRAMES_PER_UNIT], 1.0).repeat_interleave(FRAMES_PER_UNIT, dim=0)
    kept = np.where(voiced | (protect >= 0.5), 1.0, protect).astype(np.float32)
    rate = torch.from_numpy(index_rate * kept).to(units.device)[:, None]
    return units + (retrieved[: len(units)] - units) * rate
