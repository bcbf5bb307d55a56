"""Move everybody to the target, and put all that the trainings read into one file (speech.py).

    prepare.py PAIRS TARGET_CACHE SOURCE_CACHE DEGRADED PEOPLE_CACHE ALIGNED RENDERED ENCODER.safetensors SPEECH.pt [--held FILE]

FILE: readers (a number a line) of LibriSpeech who are left out.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kokoro import CONTENT_RATE_HZ
from labels import frame_tokens
from numpy.typing import NDArray
from speech import UNKNOWN
from torch import Tensor

from rvcd.geometry import FRAMES_PER_SECOND
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.envelope_encoder import EnvelopeEncoder
from rvcd.nets.speaker_match import SpeakerMatch

REGISTER_HZ = 179.1
"""The target's; people's pitch is moved to it."""
LEAST_VOICED, LEAST_SCORE = 20, -1.6


@dataclass
class Envelopes:
    """Of a recording: env (T, C) log10 powers, f0_hz, voiced (T,)."""

    env: NDArray[np.float32]
    f0_hz: NDArray[np.float32]
    voiced: NDArray[np.bool_]

    @torch.no_grad()
    def moved(self, match: SpeakerMatch) -> tuple[Tensor, Tensor]:
        """Return the envelopes as the target would have them: from a speaker who is known already, and from a new one."""
        given = torch.from_numpy(self.env)[None], torch.from_numpy(self.f0_hz)[None], torch.from_numpy(self.voiced)[None]
        new, state = match(*given)
        return match(*given, state[:, -1])[0][0], new[0]

    def heard(self, match: SpeakerMatch, frames: int, middle_hz: float) -> dict[str, Tensor]:
        """Return a speech.Heard of the first `frames`, its pitch moved so that its median is middle_hz."""
        known, new = self.moved(match)
        ratio = middle_hz / float(np.median(self.f0_hz[self.voiced]))
        return {
            "known": known[:frames].half(), "new": new[:frames].half(),
            "f0_hz": torch.from_numpy(self.f0_hz[:frames] * ratio), "voiced": torch.from_numpy(self.voiced[:frames]),
        }  # fmt: skip


def read_envelopes(path: Path) -> Envelopes:
    data = np.load(path)
    return Envelopes(data["env"].astype(np.float32), data["f0"].astype(np.float32), data["voiced"])


def load_match(encoder: Path) -> SpeakerMatch:
    """Return the encoder's."""
    loaded = load_content_encoder(encoder)
    assert isinstance(loaded, EnvelopeEncoder)
    return loaded.match


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pairs", "target", "source", "degraded", "people", "aligned", "rendered", "encoder", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--held", type=Path)
    args = parser.parse_args()
    match = load_match(args.encoder)
    held = set(args.held.read_text().split()) if args.held else set()
    pairs = [_pair(path, args, match) for path in sorted(args.target.glob("*.npz"))]
    people = []
    for path in sorted(args.people.glob("*.npz")):
        heard = read_envelopes(path)
        if heard.voiced.sum() >= LEAST_VOICED and not (path.name.startswith("librispeech") and _reader(path) in held):
            people.append(_person(path, heard, args, match))
    torch.save({"pairs": pairs, "people": people}, args.out)


def _reader(path: Path) -> str:
    return path.name.split("_")[1].split("-")[0]


def _pair(path: Path, args: argparse.Namespace, match: SpeakerMatch) -> dict[str, Any]:
    mine, data = read_envelopes(path), np.load(args.pairs / path.name)
    tokens = frame_tokens(data["content"], data["tokens"])
    at = np.minimum(np.arange(len(mine.env)) * CONTENT_RATE_HZ // FRAMES_PER_SECOND, len(tokens) - 1)
    middle_hz = float(np.median(mine.f0_hz[mine.voiced])) if mine.voiced.any() else REGISTER_HZ
    heard = []
    for other in (args.source / path.name, *sorted(args.degraded.glob(f"{path.stem}_*.npz"))):
        if other.exists() and (theirs := read_envelopes(other)).voiced.sum() >= LEAST_VOICED:
            heard.append(theirs.heard(match, len(mine.env), middle_hz))
    said = {
        "name": path.name, "env": torch.from_numpy(mine.env).half(), "f0_hz": torch.from_numpy(mine.f0_hz),
        "voiced": torch.from_numpy(mine.voiced), "tokens": torch.from_numpy(tokens[at]).short(),
    }  # fmt: skip
    return {"said": said, "heard": heard}


def _person(path: Path, heard: Envelopes, args: argparse.Namespace, match: SpeakerMatch) -> dict[str, Any]:
    frames, tokens, said = len(heard.env), None, None
    if (args.aligned / path.name).exists() and (data := np.load(args.aligned / path.name))["score"] >= LEAST_SCORE:
        found = np.repeat(data["tokens"], 2)[:frames]
        tokens = torch.from_numpy(np.pad(found, (0, frames - len(found)), constant_values=UNKNOWN)).short()
    if (args.rendered / path.name).exists():
        said = torch.from_numpy(read_envelopes(args.rendered / path.name).env[:frames]).half()
    return {"name": path.name, "heard": heard.heard(match, frames, REGISTER_HZ), "tokens": tokens, "said": said}


if __name__ == "__main__":
    main()
