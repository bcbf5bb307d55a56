"""What can be measured of a conversion without a judge: noise, distortion, spectra. numpy only; everything is at 16 kHz."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rvcd.evaluation.measures import RATE_HZ, FloatArray

HOP_SAMPLES, WINDOW_SAMPLES = 160, 512
MEL_BANDS, CEPSTRA = 40, 13
FLOOR_DB = -60.0
"""Below the loudest band: frames that stay below it are pauses, and are compared with nothing; bands count as this."""
QUIET_SHARE, LOUD_SHARE = 10, 90
"""Percentiles of the frames' levels that stand for pauses and for speech."""
LEAST_LEVEL_DBFS = -120.0
LEAST_HNR_DB, MOST_HNR_DB = -20.0, 40.0
LAG_TOLERANCE = 0.04
"""The period of a frame is looked for this far to both sides of what its f0 says."""

DoubleArray = NDArray[np.float64]


def frames_of(audio: FloatArray, size: int = WINDOW_SAMPLES, hop: int = HOP_SAMPLES) -> DoubleArray:
    """Return (frames, size): one every 10 ms, none for audio that is shorter."""
    if len(audio) < size:
        return np.zeros((0, size))
    windows: DoubleArray = np.lib.stride_tricks.sliding_window_view(audio.astype(np.float64), size)[::hop]
    return windows


def snr_db(audio: FloatArray) -> float:
    """Return how far speech is above the pauses: levels of the loudest and quietest tenth of the frames. NaN for no frames.

    Of audio without pauses it says little; it is meant to be compared with the source's.
    """
    frames = frames_of(audio)
    if not len(frames):
        return float("nan")
    levels = 10 * np.log10(np.maximum(np.mean(np.square(frames), axis=1), 10 ** (LEAST_LEVEL_DBFS / 10)))
    quiet, loud = np.percentile(levels, (QUIET_SHARE, LOUD_SHARE))
    return float(loud - quiet)


def harmonics_to_noise_db(audio: FloatArray, f0_hz: FloatArray, voiced: NDArray[np.bool_]) -> float:
    """Return the median harmonics-to-noise ratio of the voiced frames: low where a voice is rough or buzzes. NaN for none.

    By the correlation of each frame with itself a period later. f0_hz, voiced: (frames,), one every 10 ms.
    """
    found = []
    samples = audio.astype(np.float64)
    for frame in np.flatnonzero(voiced & (f0_hz > 0)):
        lag = RATE_HZ / float(f0_hz[frame])
        lags = range(max(2, int(lag * (1 - LAG_TOLERANCE))), int(lag * (1 + LAG_TOLERANCE)) + 2)
        size = max(2 * round(lag), 2 * HOP_SAMPLES)
        start = int(frame) * HOP_SAMPLES
        if start + size + lags[-1] > len(samples):
            break
        here = samples[start : start + size]
        best = max(_correlation(here, samples[start + n : start + n + size]) for n in lags)
        found.append(_ratio_db(best))
    return float(np.median(found)) if found else float("nan")


def _correlation(a: DoubleArray, b: DoubleArray) -> float:
    power = float(np.sqrt(np.dot(a, a) * np.dot(b, b)))
    return float(np.dot(a, b)) / power if power > 1e-12 else 0.0


def _ratio_db(correlation: float) -> float:
    kept = min(max(correlation, 1e-6), 1 - 1e-6)
    return float(np.clip(10 * np.log10(kept / (1 - kept)), LEAST_HNR_DB, MOST_HNR_DB))


def cepstral_distortion_db(found: FloatArray, expected: FloatArray) -> float:
    """Return the mel-cepstral distortion (Kubichek 1993) of two aligned signals over the frames heard in both. NaN for none."""
    spectra = _heard_spectra(found, expected)
    cepstra = [np.log(10) / 20 * spectrum @ _cosines().T for spectrum in spectra]
    if not len(cepstra[0]):
        return float("nan")
    distance = np.sqrt(2 * np.square(cepstra[0] - cepstra[1]).sum(axis=1))
    return float(10 / np.log(10) * distance.mean())


def spectral_distance_db(found: FloatArray, expected: FloatArray) -> float:
    """Return the log-spectral distance of two aligned signals: RMS over mel bands, mean over frames heard in both. NaN: none."""
    spectra = _heard_spectra(found, expected)
    if not len(spectra[0]):
        return float("nan")
    return float(np.sqrt(np.square(spectra[0] - spectra[1]).mean(axis=1)).mean())


def signal_to_error_db(found: FloatArray, expected: FloatArray) -> float:
    """Return the SNR of a signal against the one it should be, aligned. A shifted phase counts as an error. NaN for silence."""
    count = min(len(found), len(expected))
    error = float(np.sum(np.square(found[:count].astype(np.float64) - expected[:count])))
    power = float(np.sum(np.square(expected[:count].astype(np.float64))))
    return 10 * float(np.log10(power / max(error, 1e-12 * power))) if power > 0 else float("nan")


def mel_spectrum_db(audio: FloatArray) -> DoubleArray:
    """Return (frames, MEL_BANDS): levels in dB, floored at LEAST_LEVEL_DBFS."""
    windows = frames_of(audio) * np.hanning(WINDOW_SAMPLES)
    power = np.square(np.abs(np.fft.rfft(windows, axis=1))) / WINDOW_SAMPLES
    return np.asarray(10 * np.log10(np.maximum(power @ _mel_filters().T, 10 ** (LEAST_LEVEL_DBFS / 10))))


def _heard_spectra(found: FloatArray, expected: FloatArray) -> tuple[DoubleArray, DoubleArray]:
    """Return the mel spectra (frames, MEL_BANDS) of where both signals are heard, both cut at FLOOR_DB below the loudest band."""
    count = min(len(found), len(expected))
    spectra = [mel_spectrum_db(audio[:count]) for audio in (found, expected)]
    loudest = float(spectra[1].max()) if spectra[1].size else LEAST_LEVEL_DBFS
    if loudest <= LEAST_LEVEL_DBFS:
        return np.zeros((0, MEL_BANDS)), np.zeros((0, MEL_BANDS))
    floor = loudest + FLOOR_DB
    heard = (spectra[0].max(axis=1) > floor) & (spectra[1].max(axis=1) > floor)
    return np.maximum(spectra[0][heard], floor), np.maximum(spectra[1][heard], floor)


@lru_cache(maxsize=1)
def _mel_filters() -> DoubleArray:
    """Return (MEL_BANDS, bins): triangles that are equally wide on the mel scale, up to 8 kHz."""
    top = 2595 * np.log10(1 + RATE_HZ / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, MEL_BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(WINDOW_SAMPLES, 1 / RATE_HZ)[None]
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.maximum(0, np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)))


@lru_cache(maxsize=1)
def _cosines() -> DoubleArray:
    """Return (CEPSTRA, MEL_BANDS): the cosine transform without its zeroth row, which is the level."""
    n, k = np.arange(MEL_BANDS), np.arange(1, CEPSTRA + 1)[:, None]
    return np.asarray(np.sqrt(2 / MEL_BANDS) * np.cos(np.pi * k * (n + 0.5) / MEL_BANDS))
