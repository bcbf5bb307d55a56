"""YIN (de Cheveigne & Kawahara 2002) in numpy: no weights, no extra, every frame on its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rvcd.engine.pitch.track import ANALYSIS_RATE_HZ, F0_MAX_HZ, F0_MIN_HZ, FRAME_SAMPLES, PitchTrack, clean_audio, settle

ABSOLUTE_THRESHOLD = 0.2
"""Largest cumulative mean normalised difference of a voiced frame (0: periodic, about 1: noise). The paper's 0.1 loses half of
the voiced frames of real speech; above 0.25 octave errors grow."""
_WINDOW = 320
_LAG_MIN = int(ANALYSIS_RATE_HZ / F0_MAX_HZ)
_LAG_MAX = int(ANALYSIS_RATE_HZ / F0_MIN_HZ) + 1
_SPAN = _WINDOW + _LAG_MAX + 1
_FFT = 648  # >= _SPAN, product of small primes: circular correlation does not wrap within the lags used
_CENTRE = (_WINDOW + ANALYSIS_RATE_HZ // 125) // 2
"""A lag L compares [0, 320) with [L, L + 320), whose common centre is (320 + L) / 2: centred for a voice of 125 Hz."""
_PASS_FRAMES = 1024


class YinPitch:
    """f0 by YIN: difference function over 20 ms, cumulative mean normalisation, first dip below 0.2, parabolic refinement."""

    name = "yin"
    context_frames = -(-_SPAN // FRAME_SAMPLES)
    lookahead_frames = -(-(_SPAN - _CENTRE) // FRAME_SAMPLES)
    grid_frames = 1
    step_frames = 1

    def estimate(self, audio_16k: npt.ArrayLike) -> PitchTrack:
        """See PitchMethod."""
        audio = clean_audio(audio_16k)
        n_frames = len(audio) // FRAME_SAMPLES
        if len(audio) < _SPAN:
            return PitchTrack.unvoiced(n_frames)
        # At the ends the 40 ms under analysis slide inside the audio: a slightly older value beats one padded with zeros.
        starts = np.clip(np.arange(n_frames) * FRAME_SAMPLES - _CENTRE, 0, len(audio) - _SPAN)
        windows = np.lib.stride_tricks.sliding_window_view(audio, _SPAN)
        f0_hz, voiced = np.zeros(n_frames), np.zeros(n_frames, np.bool_)
        for first in range(0, n_frames, _PASS_FRAMES):
            part = slice(first, first + _PASS_FRAMES)
            f0_hz[part], voiced[part] = _pick_lag(_normalised_difference(windows[starts[part]].astype(np.float64)))
        return settle(f0_hz, voiced, audio)


def _normalised_difference(frames: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return d'(lag), (T, _LAG_MAX + 2) for lags 0.._LAG_MAX + 1, of frames (T, _SPAN). Equations 6 and 8 of the paper."""
    T, _span = frames.shape
    frames = frames - frames.mean(axis=1, keepdims=True)
    head = np.fft.rfft(frames[:, :_WINDOW], _FFT)
    whole = np.fft.rfft(frames, _FFT)
    n_lags = _LAG_MAX + 2
    correlation = np.fft.irfft(np.conj(head) * whole, _FFT)[:, :n_lags]
    energy = np.concatenate([np.zeros((T, 1)), np.cumsum(np.square(frames), axis=1)], axis=1)
    lagged = energy[:, _WINDOW : _WINDOW + n_lags] - energy[:, :n_lags]
    difference = np.maximum(lagged[:, :1] + lagged - 2.0 * correlation, 0.0)
    running = np.cumsum(difference[:, 1:], axis=1)
    lags = np.arange(1, n_lags)
    normalised = np.ones_like(difference)
    # Silence has no difference at any lag: it stays at 1, unvoiced.
    np.divide(difference[:, 1:] * lags, running, out=normalised[:, 1:], where=running > 1e-12)
    return np.asarray(normalised)


def _pick_lag(normalised: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return (f0_hz, voiced): the bottom of the first dip below the threshold, refined by a parabola through three lags."""
    T, n_lags = normalised.shape
    inside = normalised[:, _LAG_MIN : n_lags - 1]
    bottom = (inside < ABSOLUTE_THRESHOLD) & (inside <= normalised[:, _LAG_MIN + 1 :])
    voiced = bottom.any(axis=1)
    lag = bottom.argmax(axis=1) + _LAG_MIN
    rows: npt.NDArray[np.int64] = np.arange(T)
    before, at, after = normalised[rows, lag - 1], normalised[rows, lag], normalised[rows, lag + 1]
    curvature = before - 2.0 * at + after
    offset = np.zeros(T)
    np.divide(0.5 * (before - after), curvature, out=offset, where=curvature > 1e-12)
    return ANALYSIS_RATE_HZ / (lag + np.clip(offset, -1.0, 1.0)), np.asarray(voiced)
