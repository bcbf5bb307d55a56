"""Let the target say what people said, at the same instants and in its own register.

    render_people.py INGREDIENTS PAIRS SOURCE_CACHE PEOPLE_CACHE ALIGNED ENCODER.safetensors OUT

Kokoro's decoder takes content (from ALIGNED), f0 and energy; the energy is read off the envelope, as a linear fit to PAIRS does
it (96.7 % of its variance). OUT/NAME.npz as cache_speech.py writes them, of the target. Resumable.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import soxr
import torch
from cache_speech import HOP, analyse
from forced_alignment import FEATURE_RATE_HZ
from kokoro import CONTENT_RATE_HZ, F0_RATE_HZ, RATE_HZ, Kokoro, Spoken
from numpy.typing import NDArray
from prepare import LEAST_SCORE, REGISTER_HZ, Envelopes, load_match, read_envelopes
from render_pairs import TARGET

from rvcd.engine.pitch.methods.swift import SwiftPitch
from rvcd.geometry import ENCODER_RATE_HZ, FRAMES_PER_SECOND
from rvcd.nets.speaker_match import MIDDLE_HZ, SpeakerMatch

REGISTER_SPREAD_SEMITONES = 2.5
STYLE_TOKENS = 80
FIT_CLIPS, RIDGE = 400, 10.0
AROUND_FRAMES = (-4, -2, -1, 0, 1, 2, 4)

Samples = NDArray[np.float32]


def main() -> None:
    ingredients, pairs, source, people, aligned, encoder, out = map(Path, sys.argv[1:8])
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    match = load_match(encoder)
    weights = fit_energy(pairs, source, match)
    kokoro, swift = Kokoro(ingredients, threads=1), SwiftPitch()
    paths = sorted(aligned.glob("*.npz"))
    random.Random(2).shuffle(paths)
    for path in paths:
        data = np.load(path)
        if (out / path.name).exists() or data["score"] < LEAST_SCORE:
            continue
        heard = read_envelopes(people / path.name)
        if heard.voiced.sum() < FRAMES_PER_SECOND // 2:
            continue
        spoken = spoken_as(heard, data["content"], weights, match, random.Random(path.name))
        audio = kokoro.decode(spoken, spoken.f0_hz, TARGET)
        env, f0_hz, voiced = analyse(soxr.resample(audio, RATE_HZ, ENCODER_RATE_HZ).astype(np.float32), swift)
        audio = np.pad(audio, (0, max(0, len(env) * HOP - len(audio))))[: len(env) * HOP]
        scratch = (out / path.name).with_suffix(".part")
        with scratch.open("wb") as file:
            np.savez(file, audio=(audio * 32767).clip(-32768, 32767).astype(np.int16), env=env.astype(np.float16), f0=f0_hz,
                     voiced=voiced, full=True)  # fmt: skip
        scratch.replace(out / path.name)


def spoken_as(
    heard: Envelopes, content: NDArray[np.float16], weights: Samples, match: SpeakerMatch, dice: random.Random
) -> Spoken:
    """Return what Kokoro's decoder is to say: the aligned content (512, T) with this person's melody and loudness."""
    frames = min(content.shape[1] * CONTENT_RATE_HZ // FEATURE_RATE_HZ, len(heard.env) * CONTENT_RATE_HZ // FRAMES_PER_SECOND)
    rows = np.minimum(np.arange(frames) * FEATURE_RATE_HZ // CONTENT_RATE_HZ, content.shape[1] - 1)
    semitones = round(12 * np.log2(REGISTER_HZ / np.median(heard.f0_hz[heard.voiced])) + dice.gauss(0, REGISTER_SPREAD_SEMITONES))
    at = _nearest(2 * frames, len(heard.env))
    f0_hz = np.where(heard.voiced[at], heard.f0_hz[at] * 2 ** (semitones / 12), 0).astype(np.float32)
    energy = (features(heard, match, 2 * frames) @ weights).astype(np.float32)
    return Spoken(np.zeros(0, np.float32), content[:, rows].astype(np.float32), f0_hz, energy, np.zeros(STYLE_TOKENS, np.int64))


def fit_energy(pairs: Path, source: Path, match: SpeakerMatch) -> Samples:
    """Return the weights of features() that give Kokoro's energy, by ridge regression."""
    rows, energies = [], []
    for path in sorted(pairs.glob("*.npz"))[:FIT_CLIPS]:
        if (source / path.name).exists():
            energy = np.load(path)["energy"]
            rows.append(features(read_envelopes(source / path.name), match, len(energy)))
            energies.append(energy)
    x, y = np.concatenate(rows), np.concatenate(energies)
    return np.asarray(np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y), np.float32)


def features(heard: Envelopes, match: SpeakerMatch, count: int) -> Samples:
    """Return what the energy is read off, (count, values) at F0_RATE_HZ."""
    moved, _ = heard.moved(match)
    at = _nearest(count, len(heard.env))
    parts = []
    for apart in AROUND_FRAMES:
        rows = np.clip(at + apart, 0, len(heard.env) - 1)
        parts += [moved.numpy()[rows, ::2], heard.voiced[rows, None]]
    pitch = np.where(heard.voiced, np.log(np.maximum(heard.f0_hz, 20) / MIDDLE_HZ), 0)
    return np.concatenate((*parts, pitch[at, None], np.ones((count, 1))), axis=1).astype(np.float32)


def _nearest(count: int, frames: int) -> NDArray[np.int64]:
    return np.clip(((np.arange(count) + 0.5) / F0_RATE_HZ * FRAMES_PER_SECOND - 0.5).round().astype(np.int64), 0, frames - 1)


if __name__ == "__main__":
    main()
