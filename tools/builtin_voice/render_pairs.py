"""Render training pairs: random speech in a random voice, and the same in the target voice at another pitch.

    render_pairs.py INGREDIENTS OUT --seed 1 --minutes 30 [--texts human_texts.json]

Each pair is one .npz: source, target (int16, 24 kHz), content (512, T) at 40 Hz, energy and both f0 tracks at 80 Hz, tokens.
Seeded, resumable (what is there is not rendered again); one process a core.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import time
from pathlib import Path

import numpy as np
from kokoro import RATE_HZ, VOICED_FROM_HZ, Kokoro

TARGET = {"af_heart": 0.5, "af_bella": 0.3, "bf_emma": 0.2}
"""The built-in voice: a blend, so that it is no one's."""
TARGET_F0_HZ, TARGET_F0_SPREAD = 170.0, 0.38
"""Median and standard deviation (of the logarithm) of the medians of the target's f0: it must sing high and mumble low."""
COMMON = [
    "the", "a", "of", "and", "to", "in", "is", "that", "it", "was", "for", "on", "with", "as", "he", "they",
    "but", "at", "by", "this", "from", "or", "had", "not", "are", "we", "you",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ingredients", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--minutes", type=float, required=True, help="of target audio, for this seed")
    parser.add_argument("--texts", type=Path, help="a JSON table of sentences by any names, which are mixed in")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    kokoro = Kokoro(args.ingredients, threads=1)
    words = [w for w in (args.ingredients / "words.txt").read_text().split() if re.fullmatch("[a-z]{2,11}", w)]
    sentences = list(json.loads(args.texts.read_text()).values()) if args.texts else []
    minutes, number, began = 0.0, 0, time.monotonic()
    while minutes < args.minutes:
        path = args.out / f"{args.seed}_{number:05d}.npz"
        dice = random.Random(f"{args.seed} {number}")
        number += 1
        text, blend, speed = _text(dice, words, sentences), _blend(dice, list(kokoro.styles)), dice.uniform(0.8, 1.3)
        if path.exists():
            continue
        spoken = kokoro.speak(kokoro.tokens(text), blend, speed)
        wanted = _f0(dice, spoken.f0_hz)
        target = kokoro.decode(spoken, wanted, TARGET)
        scratch = path.with_suffix(".part")
        with scratch.open("wb") as file:
            np.savez(
                file, source=_int16(spoken.audio), target=_int16(target), content=spoken.content.astype(np.float16),
                energy=spoken.energy, source_f0_hz=spoken.f0_hz, target_f0_hz=wanted, tokens=spoken.tokens, text=text,
                voice=json.dumps(blend),
            )  # fmt: skip
        os.replace(scratch, path)
        minutes += len(target) / RATE_HZ / 60
        if number % 20 == 0:
            print(f"seed {args.seed}: {minutes:.1f} minutes, {(time.monotonic() - began) / 60:.1f} spent", flush=True)


def _text(dice: random.Random, words: list[str], sentences: list[str]) -> str:
    if sentences and dice.random() < 0.5:
        spoken = dice.choice(sentences).split()
        start = dice.randrange(max(1, len(spoken) - 8))
        return " ".join(spoken[start : start + dice.randint(8, 18)])
    drawn = [dice.choice(COMMON) if dice.random() < 0.35 else dice.choice(words) for _ in range(dice.randint(7, 14))]
    if dice.random() < 0.5:
        drawn[len(drawn) // 2] += ","
    return " ".join(drawn)


def _blend(dice: random.Random, voices: list[str]) -> dict[str, float]:
    english = [name for name in voices if name[0] in "ab"]
    first = dice.choice(english if dice.random() < 0.7 else voices)
    if dice.random() < 0.4:
        return {first: 1.0}
    share = dice.uniform(0.2, 0.8)
    second = dice.choice(voices)
    return {first: 1.0} if second == first else {first: share, second: 1 - share}


def _f0(dice: random.Random, f0_hz: np.ndarray) -> np.ndarray:
    """Return the track moved to a random register, its intonation a little wider or flatter."""
    voiced = f0_hz > VOICED_FROM_HZ
    if not voiced.any():
        return f0_hz
    middle = np.median(f0_hz[voiced])
    register = np.clip(TARGET_F0_HZ * np.exp(dice.gauss(0, TARGET_F0_SPREAD)), 70, 600)
    moved = register * (f0_hz / middle).clip(1e-3) ** dice.uniform(0.7, 1.3)
    return np.where(voiced, moved.clip(50, 1000), f0_hz).astype(np.float32)


def _int16(audio: np.ndarray) -> np.ndarray:
    return (audio * 32767).clip(-32768, 32767).astype(np.int16)


if __name__ == "__main__":
    main()
