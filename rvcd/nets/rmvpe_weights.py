"""The sizes and weights of RMVPE, read from the published layout of tensors (E2E(4, 1, (2, 2)))."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rvcd.errors import ModelFileError
from rvcd.yielding import yield_point

PITCHES = 360
BATCH_NORM_EPS = 1e-5
MAX_LEVELS, MAX_BLOCKS, MAX_CHANNELS = 8, 16, 8192


@dataclass(frozen=True)
class RmvpeSizes:
    """channels: of the encoder's levels, finest first; each level halves time and frequency."""

    channels: tuple[int, ...]
    blocks: int
    middle_channels: int
    middle_layers: int
    output_channels: int
    mel_bands: int
    gru_width: int
    gru_layers: int

    @property
    def frame_multiple(self) -> int:
        """The U-Net takes a multiple of this many frames."""
        return int(2 ** len(self.channels))


@dataclass(frozen=True)
class ScaledConv:
    """A convolution as it lies in the file, and what the batch norm behind it does: scale * conv(x) + bias.

    The two are kept apart because the file's weights are half floats, and products with the scale would be none. scale: None
    for 1. output_axis: of weight: 0, or 1 for a transposed convolution.
    """

    weight: Tensor
    scale: Tensor | None
    bias: Tensor
    output_axis: int = 0

    def folded(self) -> Tensor:
        """Return the weight with the scale in it."""
        if self.scale is None:
            return self.weight
        shape = [1, 1, 1, 1]
        shape[self.output_axis] = len(self.scale)
        yield_point()
        return self.weight * self.scale.view(shape)


@dataclass(frozen=True)
class RmvpeReader:
    """Finds RMVPE's sizes and weights among the tensors of the published layout."""

    path: Path
    tensors: Mapping[str, Tensor]

    def tensor(self, key: str, dimensions: int) -> Tensor:
        value = self.tensors.get(key)
        if value is None or value.dim() != dimensions or not value.numel() or max(value.shape) > MAX_CHANNELS:
            raise ModelFileError(f"{self.path}: is not RMVPE's weights: it has no usable {key}; use rmvpe.pt")
        yield_point()
        return value.float()

    def count(self, pattern: str, high: int) -> int:
        n = 0
        while n <= high and pattern.format(n) in self.tensors:
            n += 1
        if not 0 < n <= high:
            raise ModelFileError(f"{self.path}: is not RMVPE's weights: it has {n} of {pattern.format('N')}; use rmvpe.pt")
        return n

    def sizes(self) -> RmvpeSizes:
        down = "unet.encoder.layers.{}.conv.0.conv.0.weight"
        levels = self.count(down, MAX_LEVELS)
        middle = "unet.intermediate.layers.{}.conv.0.conv.0.weight"
        output_channels = self.tensor("cnn.weight", 4).shape[0]
        gru_inputs = self.tensor("fc.0.gru.weight_ih_l0", 2).shape[1]
        mel_bands, gru_width = gru_inputs // output_channels, self.tensor("fc.0.gru.weight_hh_l0", 2).shape[1]
        pitches = self.tensor("fc.1.weight", 2).shape[0]
        if gru_inputs % output_channels or mel_bands % 2**levels or pitches != PITCHES:
            raise ModelFileError(
                f"{self.path}: is not RMVPE's weights: {pitches} pitches from {gru_inputs} inputs do not fit; use rmvpe.pt"
            )
        sizes = RmvpeSizes(
            channels=tuple(self.tensor(down.format(i), 4).shape[0] for i in range(levels)),
            blocks=self.count("unet.encoder.layers.0.conv.{}.conv.0.weight", MAX_BLOCKS),
            middle_channels=self.tensor(middle.format(0), 4).shape[0],
            middle_layers=self.count(middle, MAX_BLOCKS),
            output_channels=output_channels,
            mel_bands=mel_bands,
            gru_width=gru_width,
            gru_layers=self.count("fc.0.gru.weight_ih_l{}", MAX_BLOCKS),
        )
        return sizes

    def convolutions(self, sizes: RmvpeSizes) -> dict[str, ScaledConv]:
        """Return every convolution under the name that rvcd.nets.rmvpe.RMVPE gives it, float32."""
        convs = {"cnn": ScaledConv(self.tensor("cnn.weight", 4), None, self.tensor("cnn.bias", 1))}
        for i in range(len(sizes.channels)):
            self._blocks(convs, f"down.{i}", f"unet.encoder.layers.{i}.conv", sizes.blocks)
            up = f"unet.decoder.layers.{i}"
            convs[f"up.{i}.up"] = self._convolution(f"{up}.conv1.0", f"{up}.conv1.1", output_axis=1)
            self._blocks(convs, f"up.{i}.blocks", f"{up}.conv2", sizes.blocks)
        for i in range(sizes.middle_layers):
            self._blocks(convs, f"middle.{i}", f"unet.intermediate.layers.{i}.conv", sizes.blocks)
        return convs

    def others(self, sizes: RmvpeSizes) -> dict[str, Tensor]:
        """Return what is no convolution, under RMVPE's names, float32."""
        scale, shift = self._batch_norm("unet.encoder.bn")
        others = {"input_scale": scale, "input_shift": shift}
        for i in range(sizes.gru_layers):
            for side in ("", "_reverse"):
                for name, dimensions in (("weight_ih", 2), ("weight_hh", 2), ("bias_ih", 1), ("bias_hh", 1)):
                    key = f"gru.{name}_l{i}{side}"
                    others[key] = self.tensor(f"fc.0.{key}", dimensions)
        others["out.weight"], others["out.bias"] = self.tensor("fc.1.weight", 2), self.tensor("fc.1.bias", 1)
        return others

    def _blocks(self, convs: dict[str, ScaledConv], ours: str, theirs: str, count: int) -> None:
        for i in range(count):
            convs[f"{ours}.{i}.conv_1"] = self._convolution(f"{theirs}.{i}.conv.0", f"{theirs}.{i}.conv.1")
            convs[f"{ours}.{i}.conv_2"] = self._convolution(f"{theirs}.{i}.conv.3", f"{theirs}.{i}.conv.4")
            if f"{theirs}.{i}.shortcut.weight" in self.tensors:
                weight, bias = self.tensor(f"{theirs}.{i}.shortcut.weight", 4), self.tensor(f"{theirs}.{i}.shortcut.bias", 1)
                convs[f"{ours}.{i}.shortcut"] = ScaledConv(weight, None, bias)

    def _convolution(self, conv: str, norm: str, output_axis: int = 0) -> ScaledConv:
        """Return a bias-free convolution with the batch norm behind it."""
        weight = self.tensor(f"{conv}.weight", 4)
        scale, shift = self._batch_norm(norm)
        if len(scale) != weight.shape[output_axis]:
            raise ModelFileError(f"{self.path}: is not RMVPE's weights: {norm} does not fit {conv}; use rmvpe.pt")
        return ScaledConv(weight, scale, shift, output_axis)

    def _batch_norm(self, stem: str) -> tuple[Tensor, Tensor]:
        """Return what the norm does in eval mode: x * scale + shift."""
        weight, bias, mean, variance = (self.tensor(f"{stem}.{n}", 1) for n in ("weight", "bias", "running_mean", "running_var"))
        if len({len(weight), len(bias), len(mean), len(variance)}) != 1 or bool((variance < 0).any()):
            raise ModelFileError(f"{self.path}: is not RMVPE's weights: its {stem} is damaged; use rmvpe.pt")
        scale = weight / torch.sqrt(variance + BATCH_NORM_EPS)
        return scale, bias - mean * scale
