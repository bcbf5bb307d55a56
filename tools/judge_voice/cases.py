"""What a microphone may hear besides somebody who reads aloud: other manners of speaking, bad channels, noise."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from pitch_methods.clip import RATE_HZ, at_level, with_noise
from pitch_methods.resynthesised import MANNERS, put_together, take_apart

Audio = NDArray[np.float32]
Floats = NDArray[np.float64]
MANNERS_HEARD = ("as spoken", "whispered", "shouted", "laughed", "sung")
WITHOUT_WORDS = ("laughed", "sung")
"""Of these only what is voiced is kept, so nobody can say what is said."""
SNR_DB, CLIPPED_DB = 10.0, 20.0
ALONE_DBFS, ALONE_S = -32.0, 5.0
"""Noise alone is as loud as under speech at SNR_DB."""


@dataclass(frozen=True)
class Case:
    """audio at 16 kHz. f0_hz: of each 10 ms as it should be made, before transposing; 0 unvoiced, NaN unknown. words: can be."""

    kind: str
    audio: Audio
    f0_hz: Floats
    words: bool = True


def cases_of(audio: Audio, f0_hz: Floats, noise: Audio, number: int) -> list[Case]:
    """Return a clean recording in every manner and over every channel. f0_hz: its own. number: seeds what is drawn."""
    audio = at_level(audio)
    voice = take_apart(audio)
    found = [Case("as recorded", audio, f0_hz)]
    for kind in MANNERS_HEARD:
        random, way = np.random.default_rng(number), MANNERS[kind]
        clip = put_together(kind, way.make(voice, random), way.jitter, random, way.drive_db)
        name = "taken apart and put together" if kind == "as spoken" else kind
        found.append(Case(name, clip.audio, clip.f0_hz, kind not in WITHOUT_WORDS))
    narrow = soxr.resample(soxr.resample(audio, RATE_HZ, 8000), 8000, RATE_HZ).astype(np.float32)
    limit = float(np.abs(audio).max()) * 10 ** (-CLIPPED_DB / 20)
    return [
        *found,
        Case("sampled at 8 kHz", narrow, f0_hz),
        Case(f"clipped {CLIPPED_DB:g} dB below its peak", np.clip(audio / np.float32(limit), -1, 1), f0_hz),
        Case(f"noise {SNR_DB:g} dB below", with_noise(audio, noise, SNR_DB), f0_hz),
        Case(f"music {SNR_DB:g} dB below", with_noise(audio, music(number), SNR_DB), f0_hz),
    ]


def alone(noises: list[tuple[str, Audio]]) -> list[Case]:
    """Return what holds no voice: noises, silence, and a square wave at full scale."""
    count = int(ALONE_S * RATE_HZ)
    white = np.random.default_rng(1).standard_normal(count).astype(np.float32)
    found = []
    for kind, noise in [*noises, ("white noise", white)]:
        noise = np.resize(noise, count)
        level = np.float32(10 ** (ALONE_DBFS / 20) / max(1e-9, float(np.sqrt(np.mean(np.square(noise))))))
        found.append((kind, np.clip(noise * level, -1, 1)))
    square = np.sign(np.sin(2 * np.pi * 110 * (np.arange(count) + 0.5) / RATE_HZ)).astype(np.float32)
    found += [("silence", np.zeros(count, np.float32)), ("square wave, 110 Hz, full scale", square)]
    return [Case(kind, audio, np.full(count // 160, np.nan), False) for kind, audio in found]


def music(seed: int, seconds: float = 12.0) -> Audio:
    """Return a bed of music: a bass, held chords of sawtooth waves and a plucked tune, with a soft drum on every beat."""
    random, count, beat = np.random.default_rng(seed), int(seconds * RATE_HZ), RATE_HZ // 2
    out = np.zeros(count)
    for number, first in enumerate(range(0, count, beat)):
        t = np.arange(min(beat, count - first)) / RATE_HZ
        root = 110 * 2 ** ((0, 9, 5, 7)[number // 4 % 4] / 12)
        notes = [
            (-12, 0.6, 1.0),
            (0, 0.2, 9.0),
            (4, 0.2, 9.0),
            (7, 0.2, 9.0),
            (int(random.choice((12, 16, 19, 21, 24))), 0.4, 0.2),
        ]
        for step, level, decay_s in notes:
            phase = root * 2 ** (step / 12) * (t + number * beat / RATE_HZ)
            partials = sum(np.sin(2 * np.pi * k * phase) / k for k in range(1, 9))
            out[first : first + len(t)] += level * partials * np.exp(-t / decay_s)
        out[first : first + len(t)] += 0.5 * random.standard_normal(len(t)) * np.exp(-t / 0.02)
    return out.astype(np.float32)
