"""RMVPE: our own network (nets/rmvpe.py) behind the pitch interface."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rvcd.engine.pitch.track import FRAME_SAMPLES, PitchTrack, clean_audio, settle

VOICED_SALIENCE = 0.03
_MIN_SAMPLES = 1024
"""One analysis window of the network; shorter audio is unvoiced."""


class RmvpeNetwork(Protocol):
    """What the adapter needs of nets.rmvpe.PitchNetwork."""

    def f0(self, audio_16k: npt.NDArray[np.float32]) -> tuple[npt.ArrayLike, npt.ArrayLike]:
        """Return (f0_hz, salience), each (>= T,) on 10 ms frames centred at sample 160 * t."""
        ...


class RmvpePitch:
    """f0 by RMVPE; a frame is voiced when its salience exceeds 0.03."""

    name = "rmvpe"
    # Upstream gives it 5 frames of past, or more, until the window and the frame at its end are a multiple of 32: so do we.
    context_frames = 5
    lookahead_frames = 10
    grid_frames = 1
    step_frames = 32

    def __init__(self, network: RmvpeNetwork) -> None:
        self._network = network

    @classmethod
    def from_file(cls, path: Path, device: str = "cpu") -> RmvpePitch:
        """Load rmvpe.pt. Raises ModelFileError for a file that is not RMVPE's weights."""
        from rvcd.nets.rmvpe import load_rmvpe

        return cls(load_rmvpe(path, device))

    def estimate(self, audio_16k: npt.ArrayLike) -> PitchTrack:
        """See PitchMethod."""
        audio = clean_audio(audio_16k)
        if len(audio) < _MIN_SAMPLES:
            return PitchTrack.unvoiced(len(audio) // FRAME_SAMPLES)
        f0_hz, salience = (np.asarray(values, np.float64).reshape(-1) for values in self._network.f0(audio))
        return settle(f0_hz, salience > VOICED_SALIENCE, audio)
