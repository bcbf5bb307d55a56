"""Loads and writes the lite content encoder: one safetensors file, its shape told by its tensors. Nothing in a file runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from rvcd.errors import ModelFileError
from rvcd.formats.checkpoint import check_finite
from rvcd.formats.contentvec_header import LITE_LAYOUT_KEY
from rvcd.nets.convnext import ConvNextShape
from rvcd.nets.lite_encoder import FEATURES, LiteEncoder, LiteSizes
from rvcd.nets.own_envelope import OwnEnvelopeSizes
from rvcd.yielding import yield_point

MAX_BLOCKS, MAX_KERNEL, MAX_DILATION, MAX_WIDTH, MAX_THROATS = 64, 64, 256, 4096, 64


def is_lite(tensors: Mapping[str, Tensor]) -> bool:
    """Say whether these are a lite encoder's."""
    return LITE_LAYOUT_KEY in tensors


def build_lite_encoder(path: Path, tensors: Mapping[str, Tensor], *, device: str = "cpu") -> LiteEncoder:
    """Build the network from its file's tensors, float32, in eval mode, without gradients. Raises ModelFileError."""
    weights: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if key != LITE_LAYOUT_KEY:
            weights[key] = value.float()
            yield_point()
    model = LiteEncoder(_sizes(path, tensors), str(path))
    try:
        model.load_state_dict(check_finite(path, weights), strict=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()[:160]
        raise ModelFileError(f"{path}: its tensors do not fit together ({reason})") from None
    if model.own_envelope is not None and not model.own_envelope.levels.diff() > 0:
        raise ModelFileError(f"{path}: is not a usable lite content encoder: in own_envelope.levels speech is not above silence")
    return model.to(device).eval().requires_grad_(False)


def save_lite_encoder(model: LiteEncoder, path: Path) -> None:
    """Write the network to a `.safetensors` file, in float16."""
    from safetensors.torch import save_file

    tensors = {key: value.detach().half().contiguous().cpu() for key, value in model.state_dict().items()}
    shapes = [[block.kernel, block.dilation, block.lookahead] for block in model.sizes.blocks]
    save_file({**tensors, LITE_LAYOUT_KEY: torch.tensor(shapes, dtype=torch.int32)}, str(path))


def _sizes(path: Path, tensors: Mapping[str, Tensor]) -> LiteSizes:
    layout = tensors[LITE_LAYOUT_KEY]
    if layout.dim() != 2 or layout.shape[1] != 3 or layout.is_floating_point() or not 0 < len(layout) <= MAX_BLOCKS:
        raise ModelFileError(f"{path}: is not a usable lite content encoder: its {LITE_LAYOUT_KEY} is no list of blocks")
    blocks = tuple(ConvNextShape(*(int(n) for n in row)) for row in layout)
    for block in blocks:
        if not (1 <= block.kernel <= MAX_KERNEL and 1 <= block.dilation <= MAX_DILATION and 0 <= block.lookahead < block.kernel):
            raise ModelFileError(
                f"{path}: is not a usable lite content encoder: a block has the kernel {block.kernel}, "
                f"dilation {block.dilation} and lookahead {block.lookahead}"
            )
    return LiteSizes(
        width=_rows(path, tensors, "enter.weight", FEATURES),
        inner_width=_rows(path, tensors, "blocks.0.inner.weight"),
        unit_width=_rows(path, tensors, "leave.weight"),
        blocks=blocks,
        own_envelope=_own_envelope(path, tensors),
    )


def _own_envelope(path: Path, tensors: Mapping[str, Tensor]) -> OwnEnvelopeSizes | None:
    throats = tensors.get("own_envelope.throats")
    if throats is None:
        return None
    unit_width = _rows(path, tensors, "leave.weight")
    if throats.dim() != 3 or not 0 < throats.shape[0] <= MAX_THROATS or not 0 < throats.shape[1] <= unit_width:
        raise ModelFileError(f"{path}: is not a usable lite content encoder: it has no fitting own_envelope.throats")
    hidden = _rows(path, tensors, "own_envelope.enter.weight", FEATURES)
    return OwnEnvelopeSizes(bands=throats.shape[1], hidden=hidden, throats=throats.shape[0])


def _rows(path: Path, tensors: Mapping[str, Tensor], key: str, columns: int | None = None) -> int:
    """Return the first size of a matrix. columns: what its second must be."""
    value = tensors.get(key)
    if value is None or value.dim() != 2 or not 0 < value.shape[0] <= MAX_WIDTH or columns not in (None, value.shape[1]):
        raise ModelFileError(f"{path}: is not a usable lite content encoder: it has no fitting {key}")
    return value.shape[0]
