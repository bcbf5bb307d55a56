"""Put what was trained into rvcd's formats.

    export.py OUT/encoder.pt OUT/voice.pt PAIRS,MORE_PAIRS rvcd/data/builtin

Writes encoder.safetensors, built-in.pth (an RVC voice, float16), built-in.index (units of the target's own speech),
target.flac (samples of the target, for `rvcd eval`) and made.json (what they were made with). The first folder of pairs is
render_pairs.py's.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
import train_encoder
import train_voice
from ingredients import KOKORO_SHA256, VOICES, WHISPER_SHA256
from kokoro import RATE_HZ
from render_pairs import TARGET
from train_encoder import load_finished
from train_voice import CONFIG

from rvcd.nets.lite_encoder_file import save_lite_encoder
from rvcd.nets.random_weights import write_index

NAME = "built-in"
INDEX_ROWS, INDEX_LISTS = 4000, 48
TARGET_CLIPS, TARGET_F0_HZ = 3, (150, 200)


def main() -> None:
    encoder_path, voice_path, out = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[4])
    folders = [Path(folder) for folder in sys.argv[3].split(",")]
    out.mkdir(parents=True, exist_ok=True)
    saved = torch.load(voice_path, weights_only=True, map_location="cpu")
    encoder = load_finished(encoder_path)
    save_lite_encoder(encoder, out / "encoder.safetensors")
    _write_voice(out / f"{NAME}.pth", saved)
    rows, clips = _target_speech(encoder, sorted(folders[0].glob("*.npz")))
    kept = np.random.default_rng(0).permutation(len(rows))[:INDEX_ROWS]
    write_index(out / f"{NAME}.index", rows[np.sort(kept)], INDEX_LISTS)
    soundfile.write(out / "target.flac", np.concatenate(clips), RATE_HZ, subtype="PCM_16")
    taught = torch.load(encoder_path, weights_only=True, map_location="cpu")
    made = _made_with(taught, saved, [path for folder in folders for path in sorted(folder.glob("*.npz"))], out)
    (out / "made.json").write_text(json.dumps(made, indent=2) + "\n")
    for path in sorted(out.iterdir()):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def _made_with(encoder: dict, voice: dict, pairs: list[Path], out: Path) -> dict[str, object]:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    return {
        "encoder": {"steps": encoder["step"], "hours": round(encoder["spent_s"] / 3600, 2), "seed": train_encoder.SEED},
        "voice": {"steps": voice["step"], "hours": round(voice["spent_s"] / 3600, 2), "seed": train_voice.SEED,
                  "blend": voice.get("blend")},
        "pairs": {"count": len(pairs), "minutes": round(sum(len(np.load(p)["target"]) for p in pairs) / RATE_HZ / 60, 1)},
        "target": TARGET,
        "ingredients": {"kokoro_sha256": KOKORO_SHA256, "voices": VOICES, "whisper_base_sha256": WHISPER_SHA256},
        "machine": platform.machine(),
        "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__, "commit": commit.stdout.strip(),
        "sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())
                   if path.suffix in (".safetensors", ".pth", ".index", ".flac")},
    }  # fmt: skip


def _write_voice(path: Path, saved: dict) -> None:
    c = CONFIG
    weights = {key.replace(".inner.", "."): value.half().contiguous() for key, value in saved["average"].items()}
    # The flow adds nothing, but the format wants it: all its tensors share one stretch of zeros in the file.
    idle = {key: value.shape for key, value in weights.items() if key.startswith("flow.")}
    zeros = torch.zeros(max(shape.numel() for shape in idle.values()), dtype=torch.float16)
    weights |= {key: zeros[: shape.numel()].view(shape) for key, shape in idle.items()}
    config = [
        c.spec_channels, c.segment_size, c.inter_channels, c.hidden_channels, c.filter_channels, c.n_heads, c.n_layers,
        c.kernel_size, 0, c.resblock, list(c.resblock_kernel_sizes), [list(d) for d in c.resblock_dilation_sizes],
        list(c.upsample_rates), c.upsample_initial_channel, list(c.upsample_kernel_sizes), c.n_speakers, c.gin_channels,
        c.rate_hz,
    ]  # fmt: skip
    info = f"{saved['step']}steps, {saved['spent_s'] / 3600:.1f} h"
    torch.save(
        {"weight": weights, "config": config, "info": info, "sr": f"{c.rate_hz // 1000}k", "f0": 1, "version": "v2",
         "embedder_model": "rvcd-lite"}, path,
    )  # fmt: skip


def _target_speech(encoder: torch.nn.Module, paths: list[Path]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return units of the target's speech, and a few clips of it in its own register."""
    rows, clips = [], []
    for path in paths[::4]:
        data = np.load(path)
        audio = torch.from_numpy(soxr.resample(data["target"].astype(np.float32) / 32768, RATE_HZ, 16000))
        rows.append(encoder.units(audio[None], unit_width=encoder.sizes.unit_width)[0].numpy())
        track = data["target_f0_hz"]
        if len(clips) < TARGET_CLIPS and TARGET_F0_HZ[0] < np.median(track[track > 30]) < TARGET_F0_HZ[1]:
            clips.append(data["target"])
    return np.concatenate(rows), clips


if __name__ == "__main__":
    main()
