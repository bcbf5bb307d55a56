"""RMVPE (Wei et al. 2023): log-mel -> U-Net -> GRU -> salience over 360 pitches, and its decoder to f0.

One network, one file: E2E(4, 1, (2, 2)) of the published weights, sizes read from their shapes, batch norm folded into the
convolutions at load. Shapes: B batch, T frames (10 ms; frame t is centred at sample 160 * t), M mel bands.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rvcd.errors import ModelFileError
from rvcd.formats.checkpoint import outlined_tensors
from rvcd.formats.torch_file import read_outline
from rvcd.yielding import yield_point

RATE_HZ, HOP_SAMPLES, WINDOW_SAMPLES = 16_000, 160, 1024
MEL_LOW_HZ, MEL_HIGH_HZ, MEL_FLOOR = 30.0, 8000.0, 1e-5
PITCHES, CENTS_STEP, FIRST_PITCH_CENTS = 360, 20.0, 1997.3794084376191
"""Pitch i of the salience is 10 Hz * 2 ** ((FIRST_PITCH_CENTS + 20 i) / 1200)."""
VOICED_SALIENCE = 0.03
LOCAL_PITCHES = 4
"""The decoder averages this many pitches on each side of the strongest one."""
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


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with ReLU, and a shortcut (1x1 where the width changes)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        yield_point()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.conv_1(x))
        yield_point()
        y = torch.relu(self.conv_2(y)) + self.shortcut(x)
        yield_point()
        return y  # type: ignore[no-any-return]


def _blocks(count: int, inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(inputs if i == 0 else outputs, outputs) for i in range(count)))


class UpLevel(nn.Module):
    """One step up: doubles time and frequency, joins what the encoder saw at that level."""

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
        self.blocks = _blocks(blocks, 2 * outputs, outputs)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        return self.blocks(torch.cat((torch.relu(self.up(x)), seen), dim=1))  # type: ignore[no-any-return]


class RMVPE(nn.Module):
    """16 kHz audio -> f0."""

    mel_basis: Tensor
    window: Tensor

    def __init__(self, sizes: RmvpeSizes) -> None:
        super().__init__()
        self.sizes = sizes
        channels = sizes.channels
        self.input_scale = nn.Parameter(torch.ones(1))
        self.input_shift = nn.Parameter(torch.zeros(1))
        self.down = nn.ModuleList(_blocks(sizes.blocks, c_in, c) for c_in, c in zip((1, *channels[:-1]), channels, strict=True))
        self.middle = nn.ModuleList(
            _blocks(sizes.blocks, channels[-1] if i == 0 else sizes.middle_channels, sizes.middle_channels)
            for i in range(sizes.middle_layers)
        )
        ups = (sizes.middle_channels, *reversed(channels))
        self.up = nn.ModuleList(UpLevel(c_in, c, sizes.blocks) for c_in, c in itertools.pairwise(ups))
        self.cnn = nn.Conv2d(channels[0], sizes.output_channels, 3, padding=1)
        self.gru = nn.GRU(
            sizes.output_channels * sizes.mel_bands, sizes.gru_width, sizes.gru_layers, batch_first=True, bidirectional=True
        )
        self.out = nn.Linear(2 * sizes.gru_width, PITCHES)
        self.register_buffer("mel_basis", mel_filters(sizes.mel_bands), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW_SAMPLES, device="cpu"), persistent=False)

    def log_mel(self, audio_16k: Tensor) -> Tensor:
        """(B, L) -> (B, M, L // 160 + 1): natural log of the mel magnitude spectrum, floored at 1e-5. L > 512."""
        spectrum = torch.stft(
            audio_16k, WINDOW_SAMPLES, HOP_SAMPLES, window=self.window, center=True, pad_mode="reflect", return_complex=True
        )
        return torch.log(torch.clamp(self.mel_basis @ spectrum.abs(), min=MEL_FLOOR))

    def salience(self, log_mel: Tensor) -> Tensor:
        """(B, M, T) -> (B, T, 360), each 0..1. The end is padded with zeros to whole multiples of 32 frames, as trained."""
        T = log_mel.shape[2]
        x = F.pad(log_mel, (0, -T % self.sizes.frame_multiple)).transpose(1, 2)[:, None]
        x = x * self.input_scale + self.input_shift
        seen: list[Tensor] = []
        for level in self.down:
            x = level(x)
            seen.append(x)
            x = F.avg_pool2d(x, 2)
        for layer in self.middle:
            x = layer(x)
        for level in self.up:
            x = level(x, seen.pop())
        # (B, C, T, M) -> (B, T, C * M): the GRU reads one frame after the other.
        x = self.cnn(x).transpose(1, 2).flatten(2)
        yield_point()
        x, _ = self.gru(x)
        return torch.sigmoid(self.out(x))[:, :T]

    @torch.inference_mode()
    def f0(self, audio_16k: NDArray[np.float32] | Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """(L,) audio -> f0 in Hz, 0 where unvoiced, and the strongest salience, both (L // 160 + 1,).

        Audio shorter than half a window (513 samples) is extended with zeros.
        """
        audio = torch.as_tensor(audio_16k, dtype=torch.float32).to(self.window.device).reshape(1, -1)
        frames = audio.shape[1] // HOP_SAMPLES + 1
        audio = F.pad(audio, (0, max(0, WINDOW_SAMPLES // 2 + 1 - audio.shape[1])))
        salience = self.salience(self.log_mel(audio).to(self.input_scale.dtype))[0, :frames].float().cpu().numpy()
        return decode_f0(salience), salience.max(axis=1)


def decode_f0(salience: NDArray[np.float32], threshold: float = VOICED_SALIENCE) -> NDArray[np.float64]:
    """(T, 360) salience -> (T,) Hz: the mean of the pitches (in cents) around the strongest, weighted by salience.

    0 where the strongest salience is not above the threshold.
    """
    T, _ = salience.shape
    best = salience.argmax(axis=1)
    near = best[:, None] + np.arange(-LOCAL_PITCHES, LOCAL_PITCHES + 1)[None, :]
    weights = np.where((near >= 0) & (near < PITCHES), salience[np.arange(T)[:, None], near.clip(0, PITCHES - 1)], 0.0)
    cents = FIRST_PITCH_CENTS + CENTS_STEP * near
    total = weights.sum(axis=1)
    mean = (weights * cents).sum(axis=1) / np.where(total > 0, total, 1.0)
    voiced = (salience.max(axis=1) > threshold) & (total > 0)
    return np.where(voiced, 10.0 * np.exp2(mean / 1200.0), 0.0)


def mel_filters(bands: int) -> Tensor:
    """Return (bands, 513) triangular filters on the HTK mel scale, each of unit area in Hz ("slaney" norm)."""

    def mel(hz: float) -> float:
        return 2595.0 * math.log10(1.0 + hz / 700.0)

    edges_mel = np.linspace(mel(MEL_LOW_HZ), mel(MEL_HIGH_HZ), bands + 2)
    edges_hz = 700.0 * (10.0 ** (edges_mel / 2595.0) - 1.0)
    bins_hz = np.linspace(0.0, RATE_HZ / 2, WINDOW_SAMPLES // 2 + 1)
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising, falling = (bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (high - low)
    return torch.from_numpy(triangles.astype(np.float32))


def load_rmvpe(path: Path | str, device: str = "cpu") -> RMVPE:
    """Load rmvpe.pt, in eval mode, without gradients. Raises ModelFileError for a file that is not RMVPE's weights."""
    outline = read_outline(path)
    nested = isinstance(outline.root, dict) and isinstance(outline.root.get("model"), dict)
    reader = _Reader(outline.path, outlined_tensors(outline, "model" if nested else None))
    sizes = reader.sizes()
    # On the meta device nothing is allocated, and no random weights are drawn that the file's replace.
    with torch.device("meta"):
        model = RMVPE(sizes)
    try:
        model.load_state_dict(reader.state(sizes), strict=True, assign=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()[:160]
        raise ModelFileError(f"{outline.path}: its tensors do not fit together ({reason})") from None
    return model.to(device).eval().requires_grad_(False)


@dataclass(frozen=True)
class _Reader:
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
        # Building allocates: what the sizes ask for must be in the file.
        with torch.device("meta"):
            wanted = sum(parameter.numel() for parameter in RMVPE(sizes).parameters())
        if wanted > sum(value.numel() for value in self.tensors.values()):
            raise ModelFileError(f"{self.path}: is not RMVPE's weights: its tensors do not fit together; use rmvpe.pt")
        return sizes

    def state(self, sizes: RmvpeSizes) -> dict[str, Tensor]:
        """Return the weights under RMVPE's names, float32, batch norms folded."""
        state: dict[str, Tensor] = {}
        scale, shift = self.batch_norm("unet.encoder.bn")
        state["input_scale"], state["input_shift"] = scale, shift
        for i in range(len(sizes.channels)):
            self.blocks(state, f"down.{i}", f"unet.encoder.layers.{i}.conv", sizes.blocks)
            up = f"unet.decoder.layers.{i}"
            self.convolution(state, f"up.{i}.up", f"{up}.conv1.0", f"{up}.conv1.1", output_axis=1)
            self.blocks(state, f"up.{i}.blocks", f"{up}.conv2", sizes.blocks)
        for i in range(sizes.middle_layers):
            self.blocks(state, f"middle.{i}", f"unet.intermediate.layers.{i}.conv", sizes.blocks)
        state["cnn.weight"], state["cnn.bias"] = self.tensor("cnn.weight", 4), self.tensor("cnn.bias", 1)
        for i in range(sizes.gru_layers):
            for side in ("", "_reverse"):
                for name, dimensions in (("weight_ih", 2), ("weight_hh", 2), ("bias_ih", 1), ("bias_hh", 1)):
                    key = f"gru.{name}_l{i}{side}"
                    state[key] = self.tensor(f"fc.0.{key}", dimensions)
        state["out.weight"], state["out.bias"] = self.tensor("fc.1.weight", 2), self.tensor("fc.1.bias", 1)
        return state

    def blocks(self, state: dict[str, Tensor], ours: str, theirs: str, count: int) -> None:
        for i in range(count):
            self.convolution(state, f"{ours}.{i}.conv_1", f"{theirs}.{i}.conv.0", f"{theirs}.{i}.conv.1")
            self.convolution(state, f"{ours}.{i}.conv_2", f"{theirs}.{i}.conv.3", f"{theirs}.{i}.conv.4")
            if f"{theirs}.{i}.shortcut.weight" in self.tensors:
                state[f"{ours}.{i}.shortcut.weight"] = self.tensor(f"{theirs}.{i}.shortcut.weight", 4)
                state[f"{ours}.{i}.shortcut.bias"] = self.tensor(f"{theirs}.{i}.shortcut.bias", 1)

    def convolution(self, state: dict[str, Tensor], ours: str, conv: str, norm: str, output_axis: int = 0) -> None:
        """Fold a batch norm into the bias-free convolution before it: w * scale, bias = shift."""
        weight = self.tensor(f"{conv}.weight", 4)
        scale, shift = self.batch_norm(norm)
        if len(scale) != weight.shape[output_axis]:
            raise ModelFileError(f"{self.path}: is not RMVPE's weights: {norm} does not fit {conv}; use rmvpe.pt")
        shape = [1, 1, 1, 1]
        shape[output_axis] = len(scale)
        yield_point()
        state[f"{ours}.weight"], state[f"{ours}.bias"] = weight * scale.view(shape), shift

    def batch_norm(self, stem: str) -> tuple[Tensor, Tensor]:
        """Return what the norm does in eval mode: x * scale + shift."""
        weight, bias, mean, variance = (self.tensor(f"{stem}.{n}", 1) for n in ("weight", "bias", "running_mean", "running_var"))
        if len({len(weight), len(bias), len(mean), len(variance)}) != 1 or bool((variance < 0).any()):
            raise ModelFileError(f"{self.path}: is not RMVPE's weights: its {stem} is damaged; use rmvpe.pt")
        scale = weight / torch.sqrt(variance + BATCH_NORM_EPS)
        return scale, bias - mean * scale
