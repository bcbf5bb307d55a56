"""PM: Praat's autocorrelation method (Boersma 1993) through praat-parselmouth, an optional extra."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from rvcd.engine.pitch.track import (
    ANALYSIS_RATE_HZ,
    F0_MAX_HZ,
    F0_MIN_HZ,
    FRAME_SAMPLES,
    PitchTrack,
    clean_audio,
    settle,
    to_frame_grid,
)
from rvcd.errors import MissingExtraError, how_to_install

VOICING_THRESHOLD = 0.6
_HALF_WINDOW_SAMPLES = 480
"""Praat analyses three periods of the floor (60 ms): the first frame is centred half a window into the sound."""
_SLACK_SAMPLES = 8


def load_package() -> Any:
    """Import praat-parselmouth. Raises MissingExtraError without it."""
    try:
        return import_module("parselmouth")
    except ImportError as error:
        raise MissingExtraError(f"f0 method pm needs praat-parselmouth ({error}); {how_to_install('pm')}") from None


class PraatPitch:
    """f0 by Praat's to_pitch_ac with voicing threshold 0.6."""

    name = "pm"
    context_frames = 20
    lookahead_frames = 10
    grid_frames = 1
    step_frames = 1

    def __init__(self) -> None:
        """Raises MissingExtraError without praat-parselmouth."""
        self._praat = load_package()

    def estimate(self, audio_16k: npt.ArrayLike) -> PitchTrack:
        """See PitchMethod."""
        audio = clean_audio(audio_16k)
        n_frames = len(audio) // FRAME_SAMPLES
        if len(audio) < 2 * _HALF_WINDOW_SAMPLES or not audio.any():
            return PitchTrack.unvoiced(n_frames)
        # Half a window of zeros in front centres Praat's first frame at our sample 0; the slack keeps its frame count
        # from falling one short by rounding.
        padded = np.pad(audio.astype(np.float64), (_HALF_WINDOW_SAMPLES, _HALF_WINDOW_SAMPLES + _SLACK_SAMPLES))
        sound = self._praat.Sound(padded, sampling_frequency=ANALYSIS_RATE_HZ)
        pitch = sound.to_pitch_ac(
            time_step=FRAME_SAMPLES / ANALYSIS_RATE_HZ,
            pitch_floor=F0_MIN_HZ,
            pitch_ceiling=F0_MAX_HZ,
            voicing_threshold=VOICING_THRESHOLD,
        )
        times_samples = np.asarray(pitch.xs()) * ANALYSIS_RATE_HZ - _HALF_WINDOW_SAMPLES
        f0_hz = np.asarray(pitch.selected_array["frequency"], np.float64)
        return settle(*to_frame_grid(times_samples, f0_hz, f0_hz > 0, n_frames), audio)
