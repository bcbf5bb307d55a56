"""A recording with what is known of its pitch, and noise to put under it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from rvcd.audio.files import read_audio
from rvcd.audio.found_files import find_audio

RATE_HZ = 16_000
FRAME_SAMPLES = 160
NOISES = ("Rain", "Sea_waves", "Fire_crackling", "Clock_tick", "Helicopter")
"""Kinds of ESC-10 that have no voice of their own: animals, babies and a chainsaw do."""
SPEECH_RMS = 0.08

Floats = NDArray[np.float64]
Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """audio (samples,) at 16 kHz; f0_hz (frames,), 0 where unvoiced, NaN where nobody knows. kind: what it stands for."""

    kind: str
    audio: Audio
    f0_hz: Floats


def load(path: Path, longest_s: float) -> Audio:
    """Return the beginning of a recording, (samples,) at 16 kHz."""
    audio, rate_hz = read_audio(path)
    return np.asarray(soxr.resample(audio[: int(longest_s * rate_hz)], rate_hz, RATE_HZ), np.float32)


def evenly(inputs: list[str], count: int, shortest_s: float, longest_s: float) -> Iterator[Audio]:
    """Load `count` recordings, as many of each file, folder or pattern, spread evenly over the names, at speech's usual level.

    One that is too short is replaced by the next.
    """
    for place, one in enumerate(inputs):
        paths = [file.source for file in find_audio([one], []) if not file.problem]
        wanted, taken = (place + 1) * count // len(inputs) - place * count // len(inputs), set()
        for number in range(min(wanted, len(paths))):
            for index in range(number * len(paths) // wanted, len(paths)):
                if index in taken:
                    continue
                audio = load(paths[index], longest_s)
                if len(audio) >= shortest_s * RATE_HZ:
                    taken.add(index)
                    yield at_level(audio)
                    break


def at_level(audio: Audio) -> Audio:
    """Return it at SPEECH_RMS, or with its loudest sample at 0.9 where that is less."""
    rms, peak = float(np.sqrt(np.mean(np.square(audio)))), float(np.abs(audio).max())
    return audio * np.float32(min(SPEECH_RMS / max(rms, 1e-9), 0.9 / max(peak, 1e-9)))


def load_noises(inputs: list[str]) -> list[Audio]:
    """Return one recording of each wanted kind; of white noise where there are none."""
    paths = [file.source for file in find_audio(inputs, []) if not file.problem] if inputs else []
    found = [next((path for path in paths if path.name.startswith(kind)), None) for kind in NOISES]
    return [load(path, 5.0) for path in found if path] or [np.random.default_rng(1).standard_normal(80_000).astype(np.float32)]


def with_noise(audio: Audio, noise: Audio, snr_db: float) -> Audio:
    """Return audio with noise under it, snr_db below in power over the whole of it; not above full scale."""
    noise = np.resize(noise, len(audio))
    gain = np.sqrt(np.mean(np.square(audio)) / max(float(np.mean(np.square(noise))), 1e-12)) * 10 ** (-snr_db / 20)
    both = audio + noise * np.float32(gain)
    return np.asarray(both * min(1.0, 0.95 / float(np.abs(both).max())), np.float32)
