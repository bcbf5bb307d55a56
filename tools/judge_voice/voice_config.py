"""Which voice is judged: as a configuration that `rvcd eval` and `rvcd.Engine` read, and as a mark that tells it from others."""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from rvcd.voices.builtin_paths import BUILT_IN_FOLDER, BUILT_IN_VOICE

TARGET_STEM = "target"
BESIDE = (".index", ".toml", ".safetensors")
"""What lies beside a voice and changes what it sounds like."""


@dataclass(frozen=True)
class JudgedVoice:
    """voice: a .pth file; "": the built-in one. config: the file that names its content encoder and the preset."""

    voice: str
    config: Path
    mark: str

    @property
    def targets(self) -> list[Path]:
        """Samples of the voice itself, which lie beside it."""
        folder = Path(self.voice).parent if self.voice else BUILT_IN_FOLDER
        return sorted(path for path in folder.iterdir() if path.stem == TARGET_STEM)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--voice", default="", help="a .pth file; default: the built-in voice")
    parser.add_argument("--encoder", action="append", default=[], metavar="NAME=FILE", help="a content encoder, as in [encoders]")
    parser.add_argument("--preset", default="low", help="latency preset to stream with")
    parser.add_argument("--threads", type=int, default=1)


def judged_voice(arguments: argparse.Namespace, folder: Path) -> JudgedVoice:
    """Return what the options say. Writes the configuration into the folder, which it makes."""
    encoders = dict(one.split("=", 1) for one in arguments.encoder)
    lines = [f"[latency]\npreset = {json.dumps(arguments.preset)}", f"[engine]\nthreads = {arguments.threads}"]
    lines += ['[models]\ncontent_encoder = "built-in"', "[encoders]"]
    lines += [f"{name} = {json.dumps(str(Path(file).absolute()))}" for name, file in encoders.items()]
    voice = str(Path(arguments.voice).absolute()) if arguments.voice else ""
    own = Path(voice).parent if voice else BUILT_IN_FOLDER
    files = [Path(voice) if voice else own / f"{BUILT_IN_VOICE}.pth", *map(Path, encoders.values())]
    files += sorted(path for path in own.iterdir() if path.suffix in BESIDE)
    told = "\n".join(lines)
    mark = hashlib.sha256(arguments.preset.encode() + b"".join(hashlib.sha256(f.read_bytes()).digest() for f in files))
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "rvcd.toml"
    config.write_text(told + "\n")
    return JudgedVoice(voice, config, mark.hexdigest()[:10])
