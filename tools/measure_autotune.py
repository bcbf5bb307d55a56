"""How far off a singer is before and after autotune: sung phrases with a known pitch, converted, and listened to again.

Usage: python -m tools.measure_autotune [--voice NAME]

A vowel sings 32 notes of D major. Each is off by a normal deviation of 25 cents, slides to its pitch within 80 ms and swings by
+-35 cents at 5.5 Hz after 0.2 s; in the second phrase by +-80 cents. The third phrase glides over an octave and back, 6 s each.
The built-in voice (or another) converts them as a live stream of the preset `balanced` does. What comes out is listened to with
another pitch method (yin) than the one the stream uses (swift).

off: how far the middle of a note, from 0.2 s on over whole swings, is from the note that was meant, in cents; the median of all
notes, and the greatest. wrong: notes whose middle is nearer to another. swing: the vibrato that is left. on a note: frames of the
glide that are within 15 cents of a note of D major. turns: how often the glide's notes go back against its direction.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from rvcd import Engine
from rvcd.engine.pitch import FRAME_SAMPLES, create_pitch_method
from tools.measure_pitch_methods import RATE_HZ, voiced_sound

Floats = NDArray[np.float64]

MELODY = (50, 52, 54, 55, 57, 59, 57, 54, 55, 52, 50, 49, 50, 57, 62, 61)
SCALE = (50, 52, 54, 55, 57, 59, 61)
NOTE_S, SLIDE_S, SETTLED_S, SWING_HZ = 0.75, 0.08, 0.2, 5.5
SIGMA_CENTS = 25.0
GLIDE_S = 6.0
WAYS: tuple[tuple[str, dict[str, float | str]], ...] = (
    ("off", {}),
    ("0.5, 50 ms", {"autotune": 0.5}),
    ("1, 50 ms", {"autotune": 1.0}),
    ("1, 100 ms", {"autotune": 1.0, "autotune_time": 100.0}),
    ("1, 0 ms", {"autotune": 1.0, "autotune_time": 0.0}),
)


@dataclass(frozen=True)
class Phrase:
    """pitch: MIDI numbers, one a sample. meant: of each note, () in a glide."""

    name: str
    pitch: Floats
    meant: tuple[int, ...] = ()

    def sound(self) -> NDArray[np.float32]:
        """Return what is sung."""
        level = np.ones(len(self.pitch))
        return voiced_sound(440 * np.exp2((self.pitch - 69) / 12), level).astype(np.float32)


def sung(name: str, swing_cents: float, seed: int) -> Phrase:
    """Return the melody twice, out of tune."""
    random, meant, size = np.random.default_rng(seed), MELODY * 2, round(NOTE_S * RATE_HZ)
    times, before, pieces = np.arange(size) / RATE_HZ, float(MELODY[0]), []
    for note in meant:
        centre = note + random.normal(0, SIGMA_CENTS) / 100
        slide = before + (centre - before) * np.clip(times / SLIDE_S, 0, 1)
        grown = np.clip(times / SETTLED_S, 0, 1)
        pieces.append(slide + grown * swing_cents / 100 * np.sin(2 * np.pi * SWING_HZ * times))
        before = float(pieces[-1][-1])
    return Phrase(name, np.concatenate(pieces), meant)


def glide() -> Phrase:
    """Return an octave up and down."""
    way = np.linspace(50, 62, round(GLIDE_S * RATE_HZ))
    return Phrase("glide", np.concatenate((way, way[::-1])))


def heard(audio: NDArray[np.float32]) -> Floats:
    """Return MIDI numbers, one a frame, NaN where nothing is heard."""
    track = create_pitch_method("yin").estimate(audio)
    with np.errstate(divide="ignore"):
        return np.where(track.voiced, 69 + 12 * np.log2(track.f0_hz.astype(np.float64) / 440), np.nan)


def of_notes(pitch: Floats, phrase: Phrase) -> str:
    """Return a row's cells for sung notes."""
    size, swings = round(NOTE_S * RATE_HZ / FRAME_SAMPLES), round(2 * 100 / SWING_HZ)
    first = round(SETTLED_S * RATE_HZ / FRAME_SAMPLES)
    off, swing = [], []
    for number, note in enumerate(phrase.meant):
        part = pitch[number * size + first :][:swings]
        off.append(100 * (np.nanmedian(part) - note))
        swing.append(100 * np.sqrt(2) * np.nanstd(part))
    distance = np.abs(off)
    return f"{np.median(distance):.0f} | {distance.max():.0f} | {np.sum(distance > 50)} | +-{np.median(swing):.0f}"


def of_glide(pitch: Floats) -> str:
    """Return a row's cells for a glide."""
    nearest = np.array([note + 12 * octave for octave in (-1, 0, 1) for note in SCALE])
    known = pitch[np.isfinite(pitch)]
    at = nearest[np.abs(known[:, None] - nearest).argmin(axis=1)]
    near = np.abs(known - at) < 0.15
    steps = np.diff(at[near])
    half = len(steps) // 2
    return f"{100 * near.mean():.0f} % | {int((steps[:half] < 0).sum() + (steps[half:] > 0).sum())}"


def converted(engine: Engine, audio: NDArray[np.float32], params: dict[str, float | str]) -> NDArray[np.float32]:
    """Return the voice at 16 kHz, as a live stream makes it."""
    stream = engine.stream(engine.rate_hz, params={"gate": -90.0, "autotune_key": "D", "autotune_scale": "major", **params})
    given = soxr.resample(audio, RATE_HZ, engine.rate_hz).astype(np.float32)
    made = np.concatenate(list(stream.convert([given])))
    return np.asarray(soxr.resample(made, engine.rate_hz, RATE_HZ), np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voice", default="")
    engine = Engine(parser.parse_args().voice)
    torch.set_num_threads(1)
    phrases = (sung("swing of +-35", 35.0, 1), sung("swing of +-80", 80.0, 2))
    print("| phrase | autotune | off, median | greatest | wrong | swing |\n|---|---|---|---|---|---|")
    for phrase in phrases:
        audio = phrase.sound()
        print(f"| {phrase.name} | as sung | {of_notes(phrase.pitch[::FRAME_SAMPLES], phrase)} |")
        for name, params in WAYS:
            print(f"| {phrase.name} | {name} | {of_notes(heard(converted(engine, audio, params)), phrase)} |", flush=True)
    print("\n| glide | on a note | turns |\n|---|---|---|")
    phrase = glide()
    audio = phrase.sound()
    print(f"| as sung | {of_glide(phrase.pitch[::FRAME_SAMPLES])} |")
    for name, params in WAYS:
        print(f"| {name} | {of_glide(heard(converted(engine, audio, params)))} |", flush=True)


if __name__ == "__main__":
    main()
