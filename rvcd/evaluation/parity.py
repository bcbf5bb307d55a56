"""Parity of the stream with offline, against the lookahead it is given: what a truncated future costs, as numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rvcd.engine.converter import Converter
from rvcd.params import Snapshot

SPECTRUM_SAMPLES, SPECTRUM_HOP_SAMPLES = 1024, 256
FLOOR_DB = -60.0
"""Relative to the loudest bin: quieter ones do not count."""


@dataclass(frozen=True)
class Parity:
    """snr_db: of the samples against offline ones (a shifted phase counts as an error). spectral_db: mean absolute difference of
    the two short-time spectra, which is nearer to what is heard."""

    lookahead_ms: int
    snr_db: float
    spectral_db: float


def measure_parity(
    make_converter: Callable[[int], Converter],
    audio: NDArray[np.float32],
    offline: NDArray[np.float32],
    lookaheads_ms: Sequence[int],
) -> list[Parity]:
    """Stream audio through a converter for each lookahead and compare with what one offline pass gave at the same rate.

    make_converter takes the lookahead. Loudness matching and the gate are off: offline has neither. The first and last half
    second are left out.
    """
    results = []
    plain = Snapshot(gate=-90.0, rms_mix=1.0, index_rate=0.0, protect=0.5)
    for lookahead_ms in lookaheads_ms:
        converter = make_converter(lookahead_ms)
        geometry = converter.geometry
        size, delay = geometry.block_samples, geometry.delay_samples
        padded = np.pad(audio, (0, -len(audio) % size + size * (1 + delay // size)))
        streamed = np.concatenate([converter.process(padded[i : i + size], plain).audio for i in range(0, len(padded), size)])
        edge = geometry.rate_hz // 2
        count = min(len(offline), len(audio)) - edge
        results.append(compare(streamed[delay:][edge:count], offline[edge:count], lookahead_ms))
    return results


def compare(found: NDArray[np.float32], expected: NDArray[np.float32], lookahead_ms: int) -> Parity:
    """Return how near two aligned signals are."""
    error = float(np.sum(np.square(found - expected, dtype=np.float64)))
    power = float(np.sum(np.square(expected, dtype=np.float64)))
    spectra = [_spectrum_db(x) for x in (found, expected)]
    heard = spectra[1] > spectra[1].max() + FLOOR_DB
    return Parity(
        lookahead_ms,
        10 * float(np.log10(power / max(error, 1e-30))),
        float(np.mean(np.abs(spectra[0] - spectra[1])[heard])),
    )


def _spectrum_db(x: NDArray[np.float32]) -> NDArray[np.float64]:
    frames = np.lib.stride_tricks.sliding_window_view(x, SPECTRUM_SAMPLES)[::SPECTRUM_HOP_SAMPLES]
    magnitudes = np.abs(np.fft.rfft(frames * np.hanning(SPECTRUM_SAMPLES), axis=1))
    return np.asarray(20 * np.log10(np.maximum(magnitudes, 1e-9)))
