"""Loads and writes an envelope encoder: one small safetensors file of what it knows of voices. Nothing in it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from rvcd.errors import ModelFileError
from rvcd.formats.checkpoint import check_finite
from rvcd.formats.contentvec_header import ENVELOPE_KEY
from rvcd.nets.envelope_encoder import EnvelopeEncoder


def is_envelope_encoder(tensors: Mapping[str, Tensor]) -> bool:
    """Say whether these are an envelope encoder's."""
    return ENVELOPE_KEY in tensors


def build_envelope_encoder(path: Path, tensors: Mapping[str, Tensor], *, device: str = "cpu") -> EnvelopeEncoder:
    """Build it from its file's tensors, float32, in eval mode, without gradients. Raises ModelFileError."""
    model = EnvelopeEncoder(str(path))
    weights = check_finite(path, {key: value.float() for key, value in tensors.items()})
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()[:160]
        raise ModelFileError(f"{path}: is not a usable envelope encoder: its tensors do not fit together ({reason})") from None
    for key in ("match.target_variance", "match.usual_variance"):
        if not (weights[key] > 0).all():
            raise ModelFileError(f"{path}: is not a usable envelope encoder: {key} has values that are not above 0")
    return model.to(device).eval().requires_grad_(False)


def save_envelope_encoder(model: EnvelopeEncoder, path: Path) -> None:
    """Write it to a `.safetensors` file."""
    from safetensors.torch import save_file

    save_file({key: value.detach().contiguous().cpu() for key, value in model.state_dict().items()}, str(path))
