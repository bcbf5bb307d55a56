"""Say what people say when: Kokoro's tokens and content along recordings, by forced alignment.

    align_people.py INGREDIENTS PAIRS MANIFEST PEOPLE_CACHE OUT

The recordings are those of PEOPLE_CACHE that have a transcript in MANIFEST. OUT/NAME.npz: content (512, T) and tokens (T,) at
50 Hz, and score, the mean log-probability of the alignment. Resumable.
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from cache_speech import LONGEST_S
from forced_alignment import FEATURE_RATE_HZ, SKIPPABLE, Head, Whisper, best_path, open_text_encoder, token_vectors, train_head
from kokoro import Kokoro

from rvcd.geometry import ENCODER_RATE_HZ

SHORTEST_CLIP_S, LONGEST_CLIP_S = 2.5, 25.0
TOGETHER = 30
FEATURES = 512
"""Whisper base's."""


def main() -> None:
    ingredients, pairs, manifest, cache, out = map(Path, sys.argv[1:6])
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(1)
    cached = {path.stem for path in cache.glob("*.npz")}
    rows = {row["path"].replace("/", "_"): row for row in csv.DictReader(manifest.open(), delimiter="\t") if row["transcript"]}
    names = sorted(
        name for name, row in rows.items() if name in cached and SHORTEST_CLIP_S < float(row["seconds"]) < LONGEST_CLIP_S
    )
    random.Random(5).shuffle(names)
    whisper, kokoro = Whisper(ingredients / "whisper-base"), Kokoro(ingredients, threads=1)
    head = _head(whisper, pairs, out / "head.pt")
    text_encoder = open_text_encoder(ingredients)
    skippable = [kokoro._vocab.get(character, -1) for character in SKIPPABLE]
    for start in range(0, len(names), TOGETHER):
        missing = [name for name in names[start : start + TOGETHER] if not (out / f"{name}.npz").exists()]
        heard = [_read(manifest.parent / rows[name]["path"]) for name in missing]
        for name, features in zip(missing, whisper.features(heard) if heard else (), strict=True):
            tokens = kokoro.tokens(rows[name]["transcript"].lower())
            try:
                vectors = token_vectors(text_encoder, kokoro, tokens)
            except SystemExit as error:
                print(f"{name}: {error}", flush=True)
                continue
            with torch.inference_mode():
                scores = torch.log_softmax(head(torch.from_numpy(features)[None])[0], 0).T.numpy()
            ids = np.array([0, *tokens, 0])
            path, score = best_path(scores[:, ids], np.isin(ids, skippable))
            path = path[: LONGEST_S * FEATURE_RATE_HZ]
            np.savez(out / f"{name}.npz", content=vectors[:, path].astype(np.float16), tokens=ids[path], score=score)
        print(f"{start + TOGETHER} of {len(names)}", flush=True)


def _head(whisper: Whisper, pairs: Path, path: Path) -> Head:
    if path.exists():
        head = Head(FEATURES)
        head.load_state_dict(torch.load(path, weights_only=True))
        return head.eval()
    head = train_head(whisper, sorted(pairs.glob("*.npz")))
    torch.save(head.state_dict(), path)
    return head


def _read(path: Path) -> np.ndarray:
    audio, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(audio.mean(axis=1), rate_hz, ENCODER_RATE_HZ), np.float32)


if __name__ == "__main__":
    main()
