"""Writes an RMVPE with random weights, half floats in the published layout: it loads and computes like the published one."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from rvcd.nets.rmvpe import RMVPE
from rvcd.nets.rmvpe_weights import RmvpeSizes

PUBLISHED = RmvpeSizes(
    channels=(16, 32, 64, 128, 256), blocks=4, middle_channels=512, middle_layers=4, output_channels=3, mel_bands=128,
    gru_width=256, gru_layers=1,
)  # fmt: skip
BRANCH = 0.5
"""Standard deviation of what a pair of convolutions adds, relative to what goes in."""
MEL_MEAN, MEL_STD = -6.0, 3.0
"""Of the log-mel of speech: the first batch norm brings it to 0 and 1."""


def write_rmvpe(path: Path, sizes: RmvpeSizes, generator: torch.Generator) -> None:
    """Write rmvpe.pt (181 MB for PUBLISHED). Raises OSError."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in RMVPE(sizes).state_dict().items()}
    tensors: dict[str, Tensor] = {}
    _norm(tensors, "unet.encoder.bn", 1, 1.0)
    tensors["unet.encoder.bn.running_mean"].fill_(MEL_MEAN)
    tensors["unet.encoder.bn.running_var"].fill_(MEL_STD**2)
    for name, shape in shapes.items():
        stem, _, kind = name.rpartition(".")
        if stem in ("", "gru", "out"):
            if stem:
                theirs = f"fc.0.{name}" if stem == "gru" else f"fc.1.{kind}"
                tensors[theirs] = _random(shape, generator, shape[-1] ** -0.5)
        elif kind == "weight":
            _convolution(tensors, stem, shape, generator)
    tensors["cnn.bias"] = torch.zeros(sizes.output_channels)
    torch.save({name: tensor.half() for name, tensor in tensors.items()}, path)


def _convolution(tensors: dict[str, Tensor], ours: str, shape: torch.Size, generator: torch.Generator) -> None:
    parts = ours.split(".")
    if ours == "cnn":
        tensors["cnn.weight"] = _random(shape, generator, (shape[1] * 9) ** -0.5)
        return
    side = {"down": "encoder", "middle": "intermediate", "up": "decoder"}[parts[0]]
    level = f"unet.{side}.layers.{parts[1]}"
    if parts[-1] == "up":
        tensors[f"{level}.conv1.0.weight"] = _random(shape, generator, (shape[0] * 9 / 4) ** -0.5)
        _norm(tensors, f"{level}.conv1.1", shape[1], 1.4)  # the ReLU behind takes half of it
        return
    block = f"{level}.{'conv2' if side == 'decoder' else 'conv'}.{parts[-2]}"
    if parts[-1] == "shortcut":
        tensors[f"{block}.shortcut.weight"] = _random(shape, generator, shape[1] ** -0.5)
        tensors[f"{block}.shortcut.bias"] = torch.zeros(shape[0])
        return
    conv, norm = ("conv.0", "conv.1") if parts[-1] == "conv_1" else ("conv.3", "conv.4")
    tensors[f"{block}.{conv}.weight"] = _random(shape, generator, (shape[1] * 9) ** -0.5)
    _norm(tensors, f"{block}.{norm}", shape[0], 1.4 if parts[-1] == "conv_1" else BRANCH)


def _norm(tensors: dict[str, Tensor], name: str, channels: int, scale: float) -> None:
    tensors[f"{name}.weight"], tensors[f"{name}.bias"] = torch.full((channels,), scale), torch.zeros(channels)
    tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"] = torch.zeros(channels), torch.ones(channels)


def _random(shape: torch.Size, generator: torch.Generator, std: float) -> Tensor:
    return torch.randn(shape, generator=generator) * std
