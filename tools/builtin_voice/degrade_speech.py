"""Hear rendered speech as rooms and microphones give it: envelopes for the converter to mend.

    degrade_speech.py PAIRS NOISES OUT --variants 3

PAIRS: what render_pairs.py rendered. NOISES: a folder of recorded noise. Each variant of a pair is its other voice, or for one in
six the target itself, through a random room, microphone, band limit and noise; OUT/NAME_VARIANT.npz: env (T, BANDS), f0, voiced.
Seeded, resumable.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr
from cache_speech import analyse
from kokoro import RATE_HZ
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from rvcd.engine.pitch.methods.swift import SwiftPitch
from rvcd.geometry import ENCODER_RATE_HZ

ONE_IN = 6
EQ_HZ = np.array([0, 100, 250, 600, 1200, 2500, 4500, 8000.0])
RECORDED_SHARE = 0.6
"""Of noise; the rest is made, between white and red."""

Signal = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pairs", "noises", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--variants", type=int, default=3)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    noises, swift = read_noises(args.noises), SwiftPitch()
    for variant in range(args.variants):
        for number, path in enumerate(sorted(args.pairs.glob("*.npz"))):
            out = args.out / f"{path.stem}_{variant}.npz"
            if out.exists():
                continue
            dice = np.random.default_rng((variant, number))
            clean = np.load(path)["target" if number % ONE_IN == variant else "source"].astype(np.float32) / 32768
            heard = degraded(soxr.resample(clean, RATE_HZ, ENCODER_RATE_HZ).astype(np.float64), noises, dice)
            env, f0_hz, voiced = analyse(heard.astype(np.float32), swift)
            np.savez(out, env=env.astype(np.float16), f0=f0_hz, voiced=voiced)


def read_noises(folder: Path) -> list[Signal]:
    noises = []
    for path in sorted(folder.glob("*")):
        try:
            audio, rate_hz = soundfile.read(path, dtype="float64", always_2d=True)
        except soundfile.LibsndfileError:
            continue
        if np.square(audio).mean() > 1e-9:
            noises.append(soxr.resample(audio.mean(axis=1), rate_hz, ENCODER_RATE_HZ))
    return noises


def degraded(audio: Signal, noises: list[Signal], dice: np.random.Generator) -> Signal:
    """audio (L,) at 16 kHz -> the same as somebody's microphone might hear it."""
    if dice.random() < 0.7:
        audio = in_a_room(audio, dice)
    if dice.random() < 0.8:
        added = noise(len(audio), noises, dice)
        snr_db = dice.uniform(8, 42)
        audio = audio + added * np.sqrt(np.square(audio).mean() / (np.square(added).mean() + 1e-12)) * 10 ** (-snr_db / 20)
    spread_db = dice.uniform(0, 5)
    audio = filtered(audio, lambda hz: equalised(hz, dice.normal(0, spread_db, len(EQ_HZ))))
    if dice.random() < 0.4:
        edge_hz, steepness = dice.uniform(3500, 7800), dice.integers(2, 8)
        audio = filtered(audio, lambda hz: low_pass(hz, edge_hz, steepness))
    if dice.random() < 0.5:
        lowest_hz = dice.uniform(60, 250)
        audio = filtered(audio, lambda hz: 1 / np.sqrt(1 + (lowest_hz / (hz + 1e-3)) ** 4))
    if dice.random() < 0.08:
        audio = np.tanh(audio * 4 / np.abs(audio).max())
    level_db = dice.uniform(-32, -20)
    return np.clip(audio / np.sqrt(np.square(audio).mean() + 1e-12) * 10 ** (level_db / 20), -1, 1)


def filtered(audio: Signal, gain: Callable[[Signal], Signal]) -> Signal:
    hz = np.fft.rfftfreq(len(audio), 1 / ENCODER_RATE_HZ)
    return np.fft.irfft(np.fft.rfft(audio) * gain(hz), len(audio))


def equalised(hz: Signal, gains_db: Signal) -> Signal:
    return np.asarray(10 ** (np.interp(np.log(hz + 50), np.log(EQ_HZ + 50), gains_db) / 20))


def low_pass(hz: Signal, edge_hz: float, steepness: int) -> Signal:
    return np.asarray(1 / np.sqrt(1 + (hz / edge_hz) ** (2 * steepness)))


def in_a_room(audio: Signal, dice: np.random.Generator) -> Signal:
    """A direct sound, a few reflections, and noise that decays by 60 dB in 0.12 to 0.7 s."""
    decay_s = dice.uniform(0.12, 0.7)
    length = int(decay_s * ENCODER_RATE_HZ)
    tail = dice.normal(0, 1, length) * np.exp(-6.9 * np.arange(length) / length)
    edge_hz, steepness = dice.uniform(2500, 7500), dice.integers(2, 8)
    tail = filtered(tail, lambda hz: low_pass(hz, edge_hz, steepness))
    tail[: int(dice.uniform(0.001, 0.006) * ENCODER_RATE_HZ)] = 0
    response = tail / np.sqrt(np.square(tail).sum() + 1e-9) * 10 ** (-dice.uniform(-3, 16) / 20)
    response[0] += 1
    for _ in range(dice.integers(2, 7)):
        response[min(length - 1, dice.integers(16, 400))] += dice.normal(0, 0.25)
    return np.asarray(fftconvolve(audio, response)[: len(audio)])


def noise(length: int, noises: list[Signal], dice: np.random.Generator) -> Signal:
    if dice.random() < RECORDED_SHARE:
        recorded = noises[dice.integers(len(noises))]
        recorded = np.tile(recorded, length // len(recorded) + 2)
        start = dice.integers(len(recorded) - length)
        return recorded[start : start + length]
    slope = dice.uniform(0, 1)
    return filtered(dice.normal(0, 1, length), lambda hz: (hz + 20) ** -slope)


if __name__ == "__main__":
    main()
