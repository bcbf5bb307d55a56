"""RMVPE (Wei et al. 2023): log-mel -> U-Net -> GRU -> salience over 360 pitches, and its decoder to f0.

The network as torch's modules, E2E(4, 1, (2, 2)) of the published weights, batch norm folded into the convolutions; on a CPU
with AVX2 rvcd.nets.rmvpe_planes computes the same. Shapes: B batch, T frames (10 ms; frame t is centred at sample 160 * t), M
mel bands.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rvcd.errors import ModelFileError
from rvcd.formats.checkpoint import outlined_tensors
from rvcd.formats.torch_file import read_outline
from rvcd.nets.rmvpe_planes import RmvpePlanes
from rvcd.nets.rmvpe_weights import PITCHES, RmvpeReader, RmvpeSizes
from rvcd.nets.tiled_conv import available
from rvcd.yielding import yield_point

RATE_HZ, HOP_SAMPLES, WINDOW_SAMPLES = 16_000, 160, 1024
MEL_LOW_HZ, MEL_HIGH_HZ, MEL_FLOOR = 30.0, 8000.0, 1e-5
CENTS_STEP, FIRST_PITCH_CENTS = 20.0, 1997.3794084376191
"""Pitch i of the salience is 10 Hz * 2 ** ((FIRST_PITCH_CENTS + 20 i) / 1200)."""
VOICED_SALIENCE = 0.03
LOCAL_PITCHES = 4
"""The decoder averages this many pitches on each side of the strongest one."""


class PitchNetwork:
    """16 kHz audio -> f0, around whatever computes the salience."""

    def __init__(self, bands: int, device: str, salience: Callable[[Tensor], Tensor]) -> None:
        """bands: of the mel scale. salience: (1, M, T) -> (1, T, 360)."""
        self.mel_basis = mel_filters(bands).to(device)
        self.window = torch.hann_window(WINDOW_SAMPLES, device=device)
        self.salience = salience

    def log_mel(self, audio_16k: Tensor) -> Tensor:
        """(B, L) -> (B, M, L // 160 + 1): natural log of the mel magnitude spectrum, floored at 1e-5. L > 512."""
        spectrum = torch.stft(
            audio_16k, WINDOW_SAMPLES, HOP_SAMPLES, window=self.window, center=True, pad_mode="reflect", return_complex=True
        )
        return torch.log(torch.clamp(self.mel_basis @ spectrum.abs(), min=MEL_FLOOR))

    @torch.inference_mode()
    def f0(self, audio_16k: NDArray[np.float32] | Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """(L,) audio -> f0 in Hz, 0 where unvoiced, and the strongest salience, both (L // 160 + 1,).

        Audio shorter than half a window (513 samples) is extended with zeros.
        """
        audio = torch.as_tensor(audio_16k, dtype=torch.float32).to(self.window.device).reshape(1, -1)
        frames = audio.shape[1] // HOP_SAMPLES + 1
        audio = F.pad(audio, (0, max(0, WINDOW_SAMPLES // 2 + 1 - audio.shape[1])))
        salience = self.salience(self.log_mel(audio))[0, :frames].float().cpu().numpy()
        return decode_f0(salience), salience.max(axis=1)


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
    """The network by torch's modules: log-mel -> salience."""

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

    def forward(self, log_mel: Tensor) -> Tensor:
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


def load_rmvpe(path: Path | str, device: str = "cpu", *, plain: bool = False) -> PitchNetwork:
    """Load rmvpe.pt. Raises ModelFileError for a file that is not RMVPE's weights.

    plain: by torch's modules, also where our kernels would run.
    """
    outline = read_outline(path)
    nested = isinstance(outline.root, dict) and isinstance(outline.root.get("model"), dict)
    reader = RmvpeReader(outline.path, outlined_tensors(outline, "model" if nested else None))
    sizes = reader.sizes()
    # On the meta device nothing is allocated, and no random weights are drawn that the file's replace.
    with torch.device("meta"):
        model = RMVPE(sizes)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    _check_amount(reader, wanted)
    convs, others = reader.convolutions(sizes), reader.others(sizes)
    given = {f"{name}.weight": conv.weight for name, conv in convs.items()}
    given |= {f"{name}.bias": conv.bias for name, conv in convs.items()} | others
    for name, shape in wanted.items():
        if name not in given or given[name].shape != shape:
            found = tuple(given[name].shape) if name in given else "nothing"
            raise ModelFileError(
                f"{outline.path}: its tensors do not fit together ({name} is {found}, not {shape}); use rmvpe.pt"
            )
    if extra := sorted(given.keys() - wanted.keys()):
        raise ModelFileError(f"{outline.path}: its tensors do not fit together (it has {extra[0]}); use rmvpe.pt")
    if not plain and available(torch.empty(0, device=device)):
        planes = RmvpePlanes(sizes, convs, others)
        return PitchNetwork(sizes.mel_bands, device, planes.salience)
    state = others | {f"{name}.bias": conv.bias for name, conv in convs.items()}
    state |= {f"{name}.weight": conv.folded() for name, conv in convs.items()}
    model.load_state_dict(state, strict=True, assign=True)
    return PitchNetwork(sizes.mel_bands, device, model.to(device).eval().requires_grad_(False))


def _check_amount(reader: RmvpeReader, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Building allocates: what the sizes ask for must be in the file."""
    if sum(math.prod(shape) for shape in wanted.values()) > sum(value.numel() for value in reader.tensors.values()):
        raise ModelFileError(f"{reader.path}: is not RMVPE's weights: its tensors do not fit together; use rmvpe.pt")
