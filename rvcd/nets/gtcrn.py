"""GTCRN: a small network that takes noise out of speech (Rong et al., ICASSP 2024), 16 kHz, a spectrum every 256 samples.

One network, one file; weights in rvcd/data/gtcrn.safetensors (tools/convert_gtcrn.py). A spectrum's magnitude, real and imaginary
part go in 129 bands through causal convolutions, and through recurrent layers over the bands and over time; what comes out is a
complex mask. It sees no future, so a stream gives what one pass gives. Runs on the CPU: it is smaller than the way to a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

WEIGHTS = Path(__file__).parents[1] / "data" / "gtcrn.safetensors"
RATE_HZ = 16000
WINDOW_SAMPLES, HOP_SAMPLES = 512, 256
BINS, LOW_BINS = 257, 65
"""Of a spectrum; those below LOW_BINS are bands of their own, the others are summed in 64 bands."""
CHANNELS, WIDTH = 16, 33
DILATIONS = (1, 2, 5, 5, 2, 1)
"""Over time, of the blocks of the encoder and then of the decoder."""
BLOCKS = tuple(f"encoder.{i}" for i in range(3)) + tuple(f"decoder.{i}" for i in range(3))
DUAL_PATHS = ("dual_path.0", "dual_path.1")
MAGNITUDE_FLOOR = 1e-12


@dataclass
class GtcrnState:
    """What is carried from hop to hop. past: of each block, its last 2 * dilation hops, (1, 16, 2 * dilation, 33). attention: of
    each block's recurrent layer, (1, 1, 16). bands: of each dual path's layer over time, (1, 33, 16)."""

    past: list[Tensor]
    attention: list[Tensor]
    bands: list[Tensor]

    @classmethod
    def fresh(cls) -> GtcrnState:
        """Nothing heard."""
        return cls(
            [torch.zeros(1, CHANNELS, 2 * dilation, WIDTH) for dilation in DILATIONS],
            [torch.zeros(1, 1, CHANNELS) for _ in BLOCKS],
            [torch.zeros(1, WIDTH, CHANNELS) for _ in DUAL_PATHS],
        )


class Recurrence:
    """A gated recurrent layer over the first axis."""

    def __init__(self, weights: Mapping[str, Tensor], name: str) -> None:
        self._parameters = [weights[f"{name}.{part}"] for part in ("input", "hidden", "input_bias", "hidden_bias")]

    def __call__(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """x (steps, B, in), hidden (1, B, n) -> ((steps, B, n), the last hidden)."""
        out, last = torch.gru(x, hidden, self._parameters, True, 1, 0.0, False, False, False)
        return out, last


class Block:
    """A convolution over neighbouring bands and past hops on half of the channels, weighted by how loud each has been."""

    def __init__(self, weights: Mapping[str, Tensor], name: str, dilation: int) -> None:
        def pair(part: str) -> tuple[Tensor, Tensor]:
            return weights[f"{name}.{part}.weight"], weights[f"{name}.{part}.bias"]

        self._first, self._depth, self._second = pair("first"), pair("depth"), pair("second")
        self._slopes = weights[f"{name}.first.slope"], weights[f"{name}.depth.slope"]
        self._attention, self._gates = Recurrence(weights, f"{name}.attention"), pair("gates")
        self._dilation = dilation

    def __call__(self, x: Tensor, past: Tensor, attention: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (1, 16, T, 33) -> the same shape, and what is carried on."""
        half, kept = x.chunk(2, dim=1)
        hidden = F.prelu(F.conv2d(beside(half), *self._first), self._slopes[0])
        seen = torch.cat((past, hidden), dim=2)
        hidden = F.conv2d(seen, *self._depth, padding=(0, 1), dilation=(self._dilation, 1), groups=CHANNELS)
        hidden = F.conv2d(F.prelu(hidden, self._slopes[1]), *self._second)
        loudness = hidden.square().mean(dim=3).permute(2, 0, 1)
        heard, attention = self._attention(loudness, attention)
        gates = torch.sigmoid(F.linear(heard, *self._gates)).permute(1, 2, 0)[..., None]
        mixed = torch.stack((hidden * gates, kept), dim=2).flatten(1, 2)
        return mixed, seen[:, :, seen.shape[2] - past.shape[2] :], attention


class DualPath:
    """Two recurrent layers: over the bands, in both directions, and over time, for each band."""

    def __init__(self, weights: Mapping[str, Tensor], name: str) -> None:
        def parts(path: str) -> tuple[Tensor, ...]:
            return tuple(weights[f"{name}.{path}.{part}"] for part in ("weight", "bias", "norm_weight", "norm_bias"))

        self._across, self._along = Recurrence(weights, f"{name}.across"), Recurrence(weights, f"{name}.along")
        self._after_across, self._after_along = parts("across_linear"), parts("along_linear")

    def __call__(self, x: Tensor, bands: Tensor) -> tuple[Tensor, Tensor]:
        """x (T, 33, 16) -> the same shape, and what is carried on."""
        # One layer does both directions and both halves of the channels: its weights are zero between them.
        in_bands = x.transpose(0, 1)
        both = torch.cat((in_bands, in_bands.flip(0)), dim=2)
        found, _ = self._across(both, both.new_zeros(1, both.shape[1], CHANNELS))
        quarters = found.chunk(4, dim=2)
        back = [quarter.flip(0) for quarter in quarters[2:]]
        found = torch.cat((quarters[0], back[0], quarters[1], back[1]), dim=2).transpose(0, 1)
        x = x + _normalised(found, *self._after_across)
        found, bands = self._along(x, bands)
        return x + _normalised(found, *self._after_along), bands


class Gtcrn:
    """The network."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        """weights: what load_weights() returns."""
        self._to_bands, self._to_bins = weights["bands"], weights["bands"].T.contiguous()
        self._stem = [(weights[f"stem.{i}.weight"], weights[f"stem.{i}.bias"], weights[f"stem.{i}.slope"]) for i in range(2)]
        self._blocks = [Block(weights, name, dilation) for name, dilation in zip(BLOCKS, DILATIONS, strict=True)]
        self._dual_paths = [DualPath(weights, name) for name in DUAL_PATHS]
        self._head = [(weights[f"head.{i}.weight"], weights[f"head.{i}.bias"]) for i in range(2)]
        self._head_slope = weights["head.0.slope"]

    @torch.inference_mode()
    def __call__(self, spectra: Tensor, state: GtcrnState) -> Tensor:
        """Return the cleaned spectra of the next hops: (T, BINS) complex64 -> the same; state is carried on in place."""
        real, imaginary = spectra.real, spectra.imag
        magnitude = (real.square() + imaginary.square() + MAGNITUDE_FLOOR).sqrt()
        x = torch.stack((magnitude, real, imaginary))[None]
        x = beside(torch.cat((x[..., :LOW_BINS], x[..., LOW_BINS:] @ self._to_bands), dim=3))
        skipped = []
        for (weight, bias, slope), groups in zip(self._stem, (1, 2), strict=True):
            x = F.prelu(F.conv2d(x, weight, bias, stride=(1, 2), padding=(0, 2), groups=groups), slope)
            skipped.append(x)
        for i in range(3):
            x = self._through_block(i, x, state)
            skipped.append(x)
        rows = x[0].permute(1, 2, 0)
        for i, path in enumerate(self._dual_paths):
            rows, state.bands[i] = path(rows, state.bands[i])
        x = rows.permute(2, 0, 1)[None]
        for i in range(3, 6):
            x = self._through_block(i, x + skipped.pop(), state)
        x = F.conv_transpose2d(x + skipped.pop(), *self._head[0], stride=(1, 2), padding=(0, 2), groups=2)
        x = F.prelu(x, self._head_slope) + skipped.pop()
        mask = torch.tanh(F.conv_transpose2d(x, *self._head[1], stride=(1, 2), padding=(0, 2)))[0]
        mask = torch.cat((mask[..., :LOW_BINS], mask[..., LOW_BINS:] @ self._to_bins), dim=2)
        return spectra * torch.complex(mask[0], mask[1])

    def _through_block(self, number: int, x: Tensor, state: GtcrnState) -> Tensor:
        x, state.past[number], state.attention[number] = self._blocks[number](x, state.past[number], state.attention[number])
        return x


def beside(x: Tensor) -> Tensor:
    """Return each band with its two neighbours: (1, C, T, F) -> (1, 3 * C, T, F)."""
    padded = F.pad(x, (1, 1))
    return torch.stack((padded[..., :-2], x, padded[..., 2:]), dim=2).flatten(1, 2)


def _normalised(x: Tensor, weight: Tensor, bias: Tensor, norm_weight: Tensor, norm_bias: Tensor) -> Tensor:
    """x (T, 33, 16) -> a linear layer, and a normalisation over bands and channels."""
    return F.layer_norm(F.linear(x, weight, bias), [WIDTH, CHANNELS], norm_weight, norm_bias, eps=1e-8)


def load_weights(path: Path = WEIGHTS) -> dict[str, Tensor]:
    """Return the weights. Raises OSError or SafetensorError for a file that is not there or not whole."""
    return load_file(path)
