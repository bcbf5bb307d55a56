"""Let the target voice say what people said, at the same instants: real microphones on one side of a pair.

    render_speech.py INGREDIENTS ALIGNED ENCODER.pt OUT --part 0/2

ALIGNED: what align_speech.py made. Content comes from there, f0 from swift, energy from an encoder trained on pairs
(train_encoder.py). Writes the same .npz as render_pairs.py, the person's recording as source.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from envelope import BANDS
from kokoro import CONTENT_RATE_HZ, F0_RATE_HZ, RATE_HZ, Kokoro, Spoken
from numpy.typing import NDArray
from render_pairs import TARGET
from train_encoder import ENERGIES, ENERGY_SCALE, SIZES, load_encoder, rows_at

from rvcd.engine.pitch.methods.swift import SwiftPitch
from rvcd.nets.lite_encoder import LiteEncoder

PIECE_S, SHORTEST_S = 8.0, 3.0
LEAST_SCORE = -1.6
STYLE_TOKENS = 80


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ingredients", type=Path)
    parser.add_argument("aligned", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", default="0/1", help="this process's share")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    number, parts = map(int, args.part.split("/"))
    torch.set_num_threads(1)
    encoder, swift, kokoro = load_encoder(args.encoder), SwiftPitch(), Kokoro(args.ingredients, threads=1)
    for path in sorted(args.aligned.glob("*.npz"))[number::parts]:
        data = np.load(path)
        if float(data["score"]) < LEAST_SCORE:
            continue
        for piece, start_s in enumerate(np.arange(0, max(len(data["audio"]) / 16000 - SHORTEST_S, 0.1), PIECE_S)):
            out = args.out / f"human_{path.stem}{f'_{piece}' if piece else ''}.npz"
            if not out.exists():
                render(data, float(start_s), path.stem, out, encoder, swift, kokoro)


def render(
    data: Mapping[str, NDArray[Any]], start_s: float, name: str, out: Path,
    encoder: LiteEncoder, swift: SwiftPitch, kokoro: Kokoro,
) -> None:  # fmt: skip
    """Write the pair of PIECE_S of an aligned recording from `start_s` on."""
    first = round(start_s * 50)
    audio = data["audio"][first * 320 :][: round(PIECE_S * 16000)]
    audio = audio[: len(audio) // 400 * 400]  # whole frames of 40 Hz
    heard = audio.astype(np.float32) / 32768
    with torch.no_grad():
        units = encoder.units(torch.from_numpy(heard)[None], unit_width=SIZES.unit_width)[0]
    T = len(audio) * CONTENT_RATE_HZ // 16000
    rows = np.minimum(first + np.arange(T) * 50 // CONTENT_RATE_HZ, data["content"].shape[1] - 1)
    content = data["content"][:, rows]
    times = (np.arange(2 * T) + 0.5) / F0_RATE_HZ
    energy = rows_at(units[:, BANDS : BANDS + ENERGIES].mean(1, keepdim=True), 50, times - 0.0025)[:, 0].numpy() * ENERGY_SCALE
    track = swift.estimate(np.pad(heard, (0, 1600)))
    at = np.minimum((times * 100).astype(np.int64), len(track.f0_hz) - 1)
    f0_hz = np.where(track.voiced[at], track.f0_hz[at], 0).astype(np.float32)
    spoken = Spoken(heard, content.astype(np.float32), f0_hz, energy.astype(np.float32), np.zeros(STYLE_TOKENS, np.int64))
    target = kokoro.decode(spoken, f0_hz, TARGET)
    with out.with_suffix(".part").open("wb") as file:
        np.savez(
            file, source=(soxr.resample(heard, 16000, RATE_HZ) * 32767).clip(-32768, 32767).astype(np.int16),
            target=(target * 32767).clip(-32768, 32767).astype(np.int16), content=content.astype(np.float16),
            energy=energy.astype(np.float32), source_f0_hz=f0_hz, target_f0_hz=f0_hz,
            frame_tokens=data["tokens"][np.minimum(rows, len(data["tokens"]) - 1)],
            voice=json.dumps({"human": name}),
        )  # fmt: skip
    os.replace(out.with_suffix(".part"), out)


if __name__ == "__main__":
    main()
