"""Put what was trained into rvcd's formats.

    export.py OUT/voice.pt ENCODER.safetensors TARGET_CACHE PAIRS rvcd/data/builtin --amount 0.55 --manifest MANIFEST

Writes encoder.safetensors, built-in.pth (an RVC voice's frame around a source-filter decoder, float16), built-in.index
(envelopes of the target's own speech), target.flac (samples of the target, for `rvcd eval`) and made.json (what they were made
with).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import soundfile
import torch
import train_voice
from ingredients import KOKORO_SHA256, VOICES
from kokoro import RATE_HZ
from render_pairs import TARGET

from rvcd.formats.voice_config import Vocoder
from rvcd.nets.random_weights import write_index
from rvcd.nets.source_filter import HOP_SAMPLES
from rvcd.nets.spectral_envelope import BANDS

NAME = "built-in"
INDEX_ROWS, INDEX_LISTS = 3000, 32
TARGET_CLIPS, TARGET_F0_HZ = 3, (150, 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("voice", "encoder", "cache", "pairs", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--amount", type=float, required=True, help="of the converter's changes: less keeps more words")
    parser.add_argument("--manifest", type=Path, required=True, help="the table of people's speech, which is named by its hash")
    args = parser.parse_args()
    encoder, cache, pairs, out = args.encoder, args.cache, args.pairs, args.out
    out.mkdir(parents=True, exist_ok=True)
    saved = torch.load(args.voice, weights_only=True, map_location="cpu")
    saved["average"]["convert.amount"] = torch.tensor(args.amount)
    if encoder.resolve() != (out / "encoder.safetensors").resolve():
        shutil.copy(encoder, out / "encoder.safetensors")
    _write_voice(out / f"{NAME}.pth", saved)
    rows = np.concatenate([np.load(path)["env"].astype(np.float32) for path in sorted(cache.glob("*.npz"))])
    kept = np.random.default_rng(0).permutation(len(rows))[:INDEX_ROWS]
    write_index(out / f"{NAME}.index", rows[np.sort(kept)], INDEX_LISTS)
    if not (out / "target.flac").exists():
        soundfile.write(out / "target.flac", np.concatenate(_clips(pairs)), RATE_HZ, subtype="PCM_16")
    (out / "made.json").write_text(json.dumps(_made_with(saved, cache, args.manifest, out), indent=2) + "\n")
    for path in sorted(out.iterdir()):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def _write_voice(path: Path, saved: dict) -> None:
    kept = ("convert.", "net.")
    weights = {f"dec.{key}": value.half().contiguous() for key, value in saved["average"].items() if key.startswith(kept)}
    weights["emb_g.weight"] = torch.zeros((1, 1), dtype=torch.float16)
    net, convert = train_voice.SIZES.net, train_voice.SIZES.convert
    kernels, converting = [shape.kernel for shape in net.blocks], [shape.kernel for shape in convert.blocks]
    config = [
        513, train_voice.SLICE_FRAMES, BANDS, net.width, net.inner_width, 1, len(kernels), kernels[0], 0, "1", converting,
        [[1]] * len(converting), [HOP_SAMPLES], convert.width, [2 * HOP_SAMPLES], 1, 1, RATE_HZ,
    ]  # fmt: skip
    info = f"{saved['step']}steps, {saved['spent_s'] / 3600:.1f} h"
    torch.save(
        {"weight": weights, "config": config, "info": info, "sr": f"{RATE_HZ // 1000}k", "f0": 1, "version": "v2",
         "vocoder": Vocoder.SOURCE_FILTER.value, "embedder_model": "rvcd-envelope"}, path,
    )  # fmt: skip


def _clips(pairs: Path) -> list[np.ndarray]:
    """Return a few clips of the target in its own register."""
    clips: list[np.ndarray] = []
    for path in sorted(pairs.glob("*.npz"))[::4]:
        data = np.load(path)
        track = data["target_f0_hz"]
        if len(clips) < TARGET_CLIPS and TARGET_F0_HZ[0] < np.median(track[track > 30]) < TARGET_F0_HZ[1]:
            clips.append(data["target"])
    return clips


def _made_with(saved: dict, cache: Path, manifest: Path, out: Path) -> dict[str, object]:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    clips = sorted(cache.glob("*.npz"))
    return {
        "converter": {"steps": saved["converter_steps"], "amount": round(float(saved["average"]["convert.amount"]), 3)},
        "voice": {"steps": saved["step"], "hours": round(saved["spent_s"] / 3600, 2)},
        "target speech": {"clips": len(clips), "minutes": round(sum(len(np.load(p)["env"]) for p in clips) / 6000, 1)},
        "target": TARGET,
        "people": {"manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest()},
        "ingredients": {"kokoro_sha256": KOKORO_SHA256, "voices": VOICES},
        "machine": platform.machine(),
        "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__, "commit": commit.stdout.strip(),
        "sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())
                   if path.suffix in (".safetensors", ".pth", ".index", ".flac")},
    }  # fmt: skip


if __name__ == "__main__":
    main()
