"""Look at speech once: its envelopes, pitch and samples, as training reads them.

    cache_speech.py people MANIFEST OUT             recordings of people (a table with path, corpus, speaker, seconds, transcript)
    cache_speech.py pairs PAIRS OUT_TARGET OUT_SOURCE    what render_pairs.py rendered, both sides

One .npz an utterance: audio (int16, 24 kHz), env (T, BANDS) log10 powers, f0 and voiced (T,), full: whether it has a treble above
8 kHz. Seeded, resumable.
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
from kokoro import RATE_HZ
from numpy.typing import NDArray

from rvcd.engine.pitch.methods.swift import SwiftPitch
from rvcd.geometry import ENCODER_HOP_SAMPLES, ENCODER_RATE_HZ
from rvcd.nets.spectral_envelope import SIDE_SAMPLES, SLICE_SAMPLES, band_envelope, mel_triangles

HOP = RATE_HZ // 100
LONGEST_S = 10
CLIPS = {
    "librispeech-test-clean": 14,
    "librispeech-train-clean-5": 14,
    "an4": 2,
    "rhasspy-kathleen": 260,
    "picovoice-intent": 120,
}
"""At most so many of each corpus; of the first three, of each of their speakers."""
BY_SPEAKER, FULL = ("librispeech", "an4"), "rhasspy-kathleen"

Samples = NDArray[np.float32]


def main() -> None:
    torch.set_num_threads(1)
    swift = SwiftPitch()
    if sys.argv[1] == "people":
        manifest, out = Path(sys.argv[2]), Path(sys.argv[3])
        for row in chosen(manifest):
            audio, rate_hz = soundfile.read(manifest.parent / row["path"], dtype="float32")
            mono = audio if audio.ndim == 1 else audio.mean(axis=1)
            look(mono[: LONGEST_S * rate_hz], rate_hz, out / f"{row['path'].replace('/', '_')}.npz", swift, row["corpus"] == FULL)
    else:
        for side, folder in (("target", Path(sys.argv[3])), ("source", Path(sys.argv[4]))):
            for path in sorted(Path(sys.argv[2]).glob("*.npz")):
                look(np.load(path)[side].astype(np.float32) / 32768, RATE_HZ, folder / path.name, swift, True)


def chosen(manifest: Path) -> list[dict[str, str]]:
    """Return some clips of everybody."""
    rows = [row for row in csv.DictReader(manifest.open(), delimiter="\t") if row["corpus"] in CLIPS]
    random.Random(1).shuffle(rows)
    seen: dict[tuple[str, str], int] = {}
    kept = []
    for row in rows:
        key = row["corpus"], row["speaker"] if row["corpus"].startswith(BY_SPEAKER) else ""
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= CLIPS[row["corpus"]]:
            kept.append(row)
    return kept


def look(audio: Samples, rate_hz: int, path: Path, swift: SwiftPitch, full: bool) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    heard = soxr.resample(audio, rate_hz, ENCODER_RATE_HZ).astype(np.float32)
    env, f0_hz, voiced = analyse(heard, swift)
    spoken = soxr.resample(audio, rate_hz, RATE_HZ)[: len(env) * HOP]
    spoken = np.pad(spoken, (0, len(env) * HOP - len(spoken)))
    scratch = path.with_suffix(".part")
    with scratch.open("wb") as file:
        np.savez(file, audio=(spoken * 32767).clip(-32768, 32767).astype(np.int16), env=env.astype(np.float16), f0=f0_hz,
                 voiced=voiced, full=full)  # fmt: skip
    scratch.replace(path)


def analyse(heard: Samples, swift: SwiftPitch) -> tuple[Samples, Samples, NDArray[np.bool_]]:
    """heard at 16 kHz -> envelopes (T, BANDS), f0_hz (T,), voiced (T,): what the engine finds in a stream."""
    track = swift.estimate(np.pad(heard, (0, 10 * ENCODER_HOP_SAMPLES)))
    frames = min(len(track.f0_hz), len(heard) // ENCODER_HOP_SAMPLES)
    padded = torch.from_numpy(np.pad(heard, (SIDE_SAMPLES, SIDE_SAMPLES + 2 * ENCODER_HOP_SAMPLES)))
    slices = padded[ENCODER_HOP_SAMPLES // 2 :].unfold(0, SLICE_SAMPLES, ENCODER_HOP_SAMPLES)[:frames]
    f0_hz, voiced = track.f0_hz[:frames].astype(np.float32), track.voiced[:frames]
    env = band_envelope(slices, torch.from_numpy(f0_hz), torch.from_numpy(voiced), mel_triangles())
    return env.numpy(), f0_hz, voiced


if __name__ == "__main__":
    main()
