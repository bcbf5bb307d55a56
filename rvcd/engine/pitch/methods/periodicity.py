"""A check for methods that answer a pitch on plain noise (harvest, fcpe): is the audio periodic at that pitch at all?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rvcd.engine.pitch.track import ANALYSIS_RATE_HZ, FRAME_SAMPLES, FloatArray, PitchTrack

MIN_CORRELATION = 0.25
"""White noise stays below it over 30 ms (its correlation there is 0 +- 0.05); hoarse and breathy voices stay above."""
_WINDOW = 480
_PASS_FRAMES = 1024


def drop_aperiodic(track: PitchTrack, audio: FloatArray) -> PitchTrack:
    """Return the track with frames unvoiced whose normalised autocorrelation at their own period is below 0.25."""
    correlation = correlation_at_period(track, audio)
    voiced = track.voiced & (correlation >= MIN_CORRELATION)
    return PitchTrack(np.where(voiced, track.f0_hz, np.float32(0)), voiced)


def correlation_at_period(track: PitchTrack, audio: FloatArray) -> npt.NDArray[np.float64]:
    """Return (T,) the normalised autocorrelation, -1..1, of 30 ms around each voiced frame at its period; 0 where unvoiced."""
    correlation = np.zeros(len(track))
    frames = np.flatnonzero(track.voiced)
    for first in range(0, len(frames), _PASS_FRAMES):
        part = frames[first : first + _PASS_FRAMES]
        lag = np.rint(ANALYSIS_RATE_HZ / track.f0_hz[part].astype(np.float64)).astype(np.int64)
        start = np.clip(part * FRAME_SAMPLES - (_WINDOW + lag) // 2, 0, np.maximum(len(audio) - _WINDOW - lag, 0))
        here = start[:, None] + np.arange(_WINDOW)
        last = len(audio) - 1
        now = audio[np.minimum(here, last)].astype(np.float64)
        later = audio[np.minimum(here + lag[:, None], last)].astype(np.float64)
        now -= now.mean(axis=1, keepdims=True)
        later -= later.mean(axis=1, keepdims=True)
        energy = np.sqrt(np.square(now).sum(axis=1) * np.square(later).sum(axis=1))
        correlation[part] = (now * later).sum(axis=1) / np.maximum(energy, 1e-12)
    return correlation
