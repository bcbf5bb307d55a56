"""Reads a voice file whole: what it is and its weights. rvcd.formats.voice_header says what it is without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from rvcd.formats.checkpoint import load_tensors, outlined_tensors
from rvcd.formats.safetensors_header import SUFFIX, without_prefix
from rvcd.formats.voice_config import SynthesizerConfig
from rvcd.formats.voice_header import VoiceSpec, is_voice_key, read_voice_spec, upstream_key, voice_outline, voice_spec


@dataclass(frozen=True)
class VoiceFile:
    """A voice, read. weights: by RVC's own key names, in the file's order and precision, all finite, without enc_q."""

    spec: VoiceSpec
    weights: dict[str, Tensor]


def read_voice(path: Path | str) -> VoiceFile:
    """Read and check a voice. Raises ModelFileError with one sentence when it is not a whole, usable RVC voice."""
    path = Path(path)
    outline = voice_outline(path)
    spec = voice_spec(outline)
    if path.suffix.lower() == SUFFIX:
        tensors = load_tensors(path)
        weights = {without_prefix(key, tensors): value for key, value in tensors.items()}
    else:
        weights = outlined_tensors(outline, "weight")
    return VoiceFile(spec, {upstream_key(key): value for key, value in weights.items() if is_voice_key(key)})


__all__ = ["SynthesizerConfig", "VoiceFile", "VoiceSpec", "read_voice", "read_voice_spec"]
