"""Whether a file holds RMVPE's weights, told by its description: no torch, no number of its weights read. Stdlib only."""

from __future__ import annotations

from pathlib import Path

from rvcd.errors import ModelFileError
from rvcd.formats.pickle_scan import TensorRef
from rvcd.formats.torch_file import read_outline

DIMENSIONS = {
    "unet.encoder.bn.weight": 1, "unet.encoder.layers.0.conv.0.conv.0.weight": 4,
    "unet.intermediate.layers.0.conv.0.conv.0.weight": 4,
    "unet.decoder.layers.0.conv1.0.weight": 4, "cnn.weight": 4, "fc.0.gru.weight_ih_l0": 2, "fc.1.weight": 2,
}  # fmt: skip
"""One tensor of each part of the network, and how many dimensions it has."""


def check_rmvpe(path: Path | str) -> None:
    """Raises ModelFileError with one sentence for a file that is not whole, or is not RMVPE's weights."""
    outline = read_outline(path)
    root = outline.root
    if isinstance(root, dict) and isinstance(root.get("model"), dict):
        root = root["model"]
    for key, dimensions in DIMENSIONS.items():
        tensor = root.get(key) if isinstance(root, dict) else None
        if not isinstance(tensor, TensorRef) or len(tensor.shape) != dimensions:
            raise ModelFileError(f"{outline.path}: is not RMVPE's weights: it has no usable {key}; use rmvpe.pt")
