"""Fit what the built-in voice's content encoder knows beforehand (rvcd.nets.speaker_match): of the target, and of people.

fit_match.py TARGET_CACHE PEOPLE_CACHE OUT/encoder.safetensors
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rvcd.nets.envelope_encoder import EnvelopeEncoder
from rvcd.nets.envelope_encoder_file import save_envelope_encoder
from rvcd.nets.speaker_match import LEVEL_BANDS, MIDDLE_HZ, WEIGHT

CLIPS_EACH = 6
READERS = "librispeech"
"""The corpora whose names tell who reads."""
LOUD_PERCENTILE = 98

Numbers = NDArray[np.float64]


def main() -> None:
    target, people, out = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    mean, variance, _ = statistics(sorted(target.glob("*.npz")))
    readers: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(people.glob(f"{READERS}*.npz")):
        readers[path.stem.split("_")[1].split("-")[0]].append(path)
    found = [statistics(paths[:CLIPS_EACH]) for paths in readers.values()]
    levels = np.array([m[:LEVEL_BANDS].mean() for m, _, _ in found])
    pitches = np.array([p for _, _, p in found])
    shapes = np.array([m for m, _, _ in found]) - levels[:, None]
    usual = np.linalg.lstsq(np.stack((np.ones(len(pitches)), pitches), axis=1), shapes, rcond=None)[0]
    encoder = EnvelopeEncoder()
    variances = np.mean([v for _, v, _ in found], axis=0)
    for name, value in (("target_mean", mean), ("target_variance", variance), ("usual_mean", usual),
                        ("usual_variance", variances), ("usual_level", levels.mean())):  # fmt: skip
        getattr(encoder.match, name).copy_(torch.as_tensor(value))
    out.parent.mkdir(parents=True, exist_ok=True)
    save_envelope_encoder(encoder, out)
    print(
        f"{len(readers)} readers, level {levels.mean():.2f} +- {levels.std():.2f}, the target's {mean[:LEVEL_BANDS].mean():.2f}"
    )


def statistics(paths: list[Path]) -> tuple[Numbers, Numbers, float]:
    """Return mean and variance (BANDS,) of voiced frames, loud ones counting more, and the mean of the logarithm of the pitch."""
    count, total, squares, pitch = 0.0, 0.0, 0.0, 0.0
    for path in paths:
        data = np.load(path)
        env = data["env"].astype(np.float64)
        level = env[:, :LEVEL_BANDS].mean(axis=1)
        weight = 10 ** (WEIGHT * (level - np.percentile(level, LOUD_PERCENTILE))) * data["voiced"]
        count += weight.sum()
        total = total + (weight[:, None] * env).sum(axis=0)
        squares = squares + (weight[:, None] * env**2).sum(axis=0)
        pitch += (weight * np.log(np.maximum(data["f0"], 20) / MIDDLE_HZ)).sum()
    mean = np.asarray(total / count)
    return mean, np.asarray(squares / count - mean**2), pitch / count


if __name__ == "__main__":
    main()
