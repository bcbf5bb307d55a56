"""SwiftF0: a small convolutional network for pitch and voicing (Nieradzik 2025), 16 kHz, a value every 256 samples.

One network, one file; weights in rvcd/data/swift_f0.safetensors (tools/convert_swift_f0.py). Log magnitudes of three spectra, in
128 bands, go through convolutions over bands and hops; each hop's pitch is the best of 95 classes and its two neighbours.
Runs on the CPU: it is smaller than the way to a GPU and back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from rvcd.nets.packed import fuses
from rvcd.yielding import yield_point

WEIGHTS = Path(__file__).parents[1] / "data" / "swift_f0.safetensors"
RATE_HZ = 16000
HOP_SAMPLES = 256
BANDS, LOW_BANDS, CLASSES = 128, 96, 95
WINDOWS_SAMPLES = (1024, 2048, 512)
LONGEST = max(WINDOWS_SAMPLES)
DILATIONS = (1, 17, 27, 40, 48, 2)
"""Of each residual block, over the bands: the distances of a tone's harmonics."""
BAND_GROUP = 32
"""Bands that are summed in one product: the lower groups need few bins."""
USUAL_HOPS = 36
"""Of a live window; the weights are laid out for it. For others they are laid out anew, which they are small enough for."""
FLOOR = 1e-8


@dataclass(frozen=True)
class BandSums:
    """Magnitudes -> bands, for 32 bands: the bins before `bins`, and their shares (bins, 32)."""

    bins: int
    shares: Tensor


class Spectrum:
    """Audio -> magnitudes in bands, for one length of window."""

    def __init__(self, length: int, shares: Tensor) -> None:
        """shares (length / 2 + 1, BANDS)."""
        self.length, self.window = length, torch.hann_window(length)
        self.groups = []
        for first in range(0, BANDS, BAND_GROUP):
            group = shares[:, first : first + BAND_GROUP]
            bins = int(group.any(dim=1).nonzero().max()) + 1
            self.groups.append(BandSums(bins, group[:bins].contiguous()))

    def __call__(self, audio: Tensor, hops: int) -> Tensor:
        """audio with LONGEST / 2 zeros at each end -> (hops, BANDS); hop j is centred at sample 256 * j of what is between."""
        framed = audio[(LONGEST - self.length) // 2 :].unfold(0, self.length, HOP_SAMPLES)[:hops]
        bins = torch.fft.rfft(framed * self.window)
        # numpy's magnitude: ten times as fast as torch's.
        magnitudes = torch.from_numpy(np.abs(bins.numpy()))
        return torch.cat([magnitudes[:, : group.bins] @ group.shares for group in self.groups], dim=1)


class Conv:
    """A same-padded convolution over (1, C, bands, hops), and what comes behind it."""

    def __init__(self, weights: Mapping[str, Tensor], name: str, dilation: int = 1) -> None:
        weight = weights[f"{name}.weight"]
        self.bias = weights[f"{name}.bias"]
        self.dilation = [dilation, 1]
        self.padding = [d * (size // 2) for d, size in zip(self.dilation, weight.shape[2:], strict=True)]
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.fused = fuses(weight)
        if self.fused:
            usual = [1, weight.shape[1], BANDS, USUAL_HOPS]
            reorder = torch.ops.mkldnn._reorder_convolution_weight
            self.weight = reorder(self.weight, self.padding, [1, 1], self.dilation, 1, usual)

    def __call__(self, x: Tensor, *, relu: bool = True, add: Tensor | None = None) -> Tensor:
        """Return the convolution of x, plus `add`, then a ReLU unless told otherwise."""
        if not self.fused:
            y = F.conv2d(x, self.weight, self.bias, padding=self.padding, dilation=self.dilation)
            y = y if add is None else y + add
            return F.relu(y) if relu else y
        shared = (self.weight, self.bias, self.padding, [1, 1], self.dilation, 1)
        if add is not None:
            made: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(x, add, *shared, "add", 1.0, "relu", [], "")
            return made
        made = torch.ops.mkldnn._convolution_pointwise(x, *shared, "relu" if relu else "none", [], "")
        return made


class SwiftF0:
    """The network. reach_samples: how far on each side a hop's value depends on the audio."""

    reach_samples = 2815

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        """weights: what load_weights() returns."""
        self.spectra = [Spectrum(length, _shares(weights, length)) for length in WINDOWS_SAMPLES]
        self.stem = Conv(weights, "stem")
        self.blocks = [
            (Conv(weights, f"blocks.{i}.first", dilation), Conv(weights, f"blocks.{i}.second", dilation))
            for i, dilation in enumerate(DILATIONS)
        ]
        self.head = weights["head.weight"], weights["head.bias"]
        self.pitch, self.peak = Conv(weights, "pitch"), Conv(weights, "peak")
        self.voicing = [(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in ("voicing_hidden", "voicing")]
        self.log_centres = weights["log_centres"]
        self.centres_hz = self.log_centres.exp().float()

    @torch.inference_mode()
    def __call__(self, audio: Tensor, low_hz: float, high_hz: float) -> tuple[Tensor, Tensor]:
        """audio (n,) float32 at 16 kHz -> (pitch in hertz, confidence 0..1), each (max(1, n // 256),).

        Confidence is 0 where the best class lies outside low_hz..high_hz; the pitch is the best one inside.
        """
        hops = max(len(audio) // HOP_SAMPLES, 1)
        missing = max(HOP_SAMPLES - len(audio), -len(audio) % HOP_SAMPLES)
        audio = F.pad(audio, (LONGEST // 2, missing + LONGEST // 2))
        bands = torch.stack([spectrum(audio, hops) for spectrum in self.spectra])
        seen = bands.add_(FLOOR).log_()[None].transpose(2, 3)
        yield_point()
        x = self.stem(seen.contiguous(memory_format=torch.channels_last))
        for first, second in self.blocks:
            x = second(first(x), add=x)
            yield_point()
        x = F.relu(F.conv2d(F.pad(x[:, :, :LOW_BANDS], (1, 1, 1, 0)), *self.head))
        logits = self.pitch(x, relu=False)[0, 0].T
        peak = self.peak(x, relu=False).amax(dim=2)
        (hidden, hidden_bias), (last, last_bias) = self.voicing
        level = seen.mean(dim=(1, 2))[:, None]
        voicing = F.relu(F.conv1d(torch.cat((peak, level), dim=1), hidden, hidden_bias, padding=1))
        confidence = torch.sigmoid(F.conv1d(voicing, last, last_bias))[0, 0]

        inside = (self.centres_hz >= low_hz) & (self.centres_hz <= high_hz)
        pitch = self._pitch(logits.masked_fill(~inside, -math.inf))
        return pitch, torch.where(inside[logits.argmax(dim=1)], confidence, torch.zeros_like(confidence))

    def _pitch(self, logits: Tensor) -> Tensor:
        """(hops, CLASSES) -> hertz: the mean of the best class and its neighbours, by their softmax, on a scale of logarithms."""
        three = logits.argmax(dim=1, keepdim=True) + torch.tensor([-1, 0, 1])
        shares = F.pad(logits, (1, 1), value=-math.inf).gather(1, three + 1).double().softmax(dim=1)
        return (shares * self.log_centres[three.clamp(0, CLASSES - 1)]).sum(dim=1).exp()


def load_weights(path: Path = WEIGHTS) -> dict[str, Tensor]:
    """Return the weights. Raises OSError or SafetensorError for a file that is not there or not whole."""
    return load_file(path)


def _shares(weights: Mapping[str, Tensor], length: int) -> Tensor:
    flat = torch.zeros((length // 2 + 1) * BANDS)
    flat[weights[f"bands_{length}.positions"].long()] = weights[f"bands_{length}.values"]
    return flat.view(-1, BANDS)
