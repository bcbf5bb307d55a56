"""Exports one voice, or the content encoder of one, and says in the file what it is."""

from __future__ import annotations

from pathlib import Path

import torch

from rvcd.errors import ModelFileError
from rvcd.exporting.networks import ExportedEncoder, ExportedVoice
from rvcd.exporting.onnx_file import OPSET, Written, write_onnx
from rvcd.formats.onnx_header import METADATA_PREFIX
from rvcd.formats.voice_config import Vocoder
from rvcd.formats.voice_file import read_voice
from rvcd.nets.contentvec import ContentEncoder
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.contentvec_state import RECEPTIVE_FIELD_SAMPLES
from rvcd.nets.synthesizer import build_synthesizer

EXAMPLE_FRAMES = (40, 61, 130)
EXAMPLE_SAMPLES = (8_000, 12_345, 32_000)
"""The first is exported with; all are compared."""
MIN_FRAMES, MAX_FRAMES = 2, 360_000


def export_voice(voice: Path, name: str, out: Path, *, replace: bool = False) -> Written:
    """Write the networks behind the content encoder of a voice's `.pth`. Raises RvcdError."""
    file = read_voice(voice)
    config = file.spec.config
    if config.vocoder is Vocoder.SOURCE_FILTER:
        raise ModelFileError(f"{voice}: has rvcd's source-filter decoder, which cannot be exported; name an RVC voice")
    network = ExportedVoice(build_synthesizer(config, file.weights, path=str(voice))).eval()
    frames = torch.export.Dim("frames", min=MIN_FRAMES, max=MAX_FRAMES)
    axes = {
        "units": {1: frames},
        "f0_hz": {1: frames},
        "prior_noise": {2: frames},
        "source_noise": {0: config.hop_samples * frames},
    }
    metadata = {
        "kind": "voice",
        "name": name,
        "version": file.spec.version,
        "rate_hz": str(config.rate_hz),
        "hop_samples": str(config.hop_samples),
        "unit_width": str(config.unit_width),
        "unit_layer": str(file.spec.unit_layer or ""),
        "encoder": file.spec.embedder,
        "f0": "yes" if config.has_f0 else "no",
        "speakers": str(file.spec.speakers),
        "vocoder": config.vocoder.value,
    }
    examples = [network.example(frames, seed) for seed, frames in enumerate(EXAMPLE_FRAMES)]
    return write_onnx(network, "samples", axes, examples, _marked(metadata), out, replace=replace)


def export_encoder(encoder: Path, unit_width: int, layer: int, out: Path, *, replace: bool = False) -> Written:
    """Write a content encoder that makes units of one width (of `layer`; 0: the usual one). Raises RvcdError."""
    loaded = load_content_encoder(encoder)
    if not isinstance(loaded, ContentEncoder):
        raise ModelFileError(
            f"{encoder}: the built-in voice's own content encoder cannot be exported, only those of RVC voices;"
            " leave --content-encoder away"
        )
    loaded.check_units(unit_width, layer)
    network = ExportedEncoder(loaded, unit_width, layer).eval()
    axes = {"audio": {1: torch.export.Dim("samples", min=RECEPTIVE_FIELD_SAMPLES, max=MAX_FRAMES * 160)}}
    metadata = {
        "kind": "content encoder",
        "name": encoder.name,
        "rate_hz": "16000",
        "unit_width": str(unit_width),
        "unit_layer": str(layer or ""),
    }
    examples = [network.example(samples, seed) for seed, samples in enumerate(EXAMPLE_SAMPLES)]
    return write_onnx(network, "units", axes, examples, _marked(metadata), out, replace=replace)


def _marked(metadata: dict[str, str]) -> dict[str, str]:
    return {f"{METADATA_PREFIX}{key}": value for key, value in {**metadata, "opset": str(OPSET)}.items() if value}
