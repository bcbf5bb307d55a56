"""What tells the target's speech from what is made of anybody's: small networks over log spectra at three resolutions, and over
envelopes.

Multi-resolution spectrogram discriminators (Jang et al. 2021, UnivNet), with least-squares losses (Mao et al. 2017).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FFTS = (1024, 512, 256)
SLOPE = 0.15
SOFTEST = 1e-4

Judged = tuple[Tensor, list[Tensor]]
"""What a discriminator says of each place, and its layers' outputs on the way."""


class SpectrumDiscriminator(nn.Module):
    window: Tensor

    def __init__(self, fft: int) -> None:
        super().__init__()
        self.fft = fft
        self.register_buffer("window", torch.hann_window(fft))
        shapes = [(1, 16, (3, 9), (1, 2), (1, 4)), (16, 24, (3, 9), (1, 2), (1, 4)), (24, 32, (3, 7), (2, 2), (1, 3)),
                  (32, 48, (3, 3), (1, 2), (1, 1)), (48, 1, (3, 3), (1, 1), (1, 1))]  # fmt: skip
        self.layers = nn.ModuleList(nn.utils.parametrizations.weight_norm(nn.Conv2d(*shape)) for shape in shapes)

    def forward(self, audio: Tensor) -> Judged:
        """(B, L) -> (B, 1, frames, bins)."""
        spectrum = torch.stft(audio, self.fft, self.fft // 4, window=self.window, return_complex=True).abs() / self.fft**0.5
        x = (spectrum.clamp_min(SOFTEST).log() / 3 + 1).transpose(1, 2)[:, None]
        inside = []
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), SLOPE)
            inside.append(x)
        return self.layers[-1](x), inside


class Discriminators(nn.ModuleList):
    def __init__(self) -> None:
        super().__init__(SpectrumDiscriminator(fft) for fft in FFTS)

    def forward(self, audio: Tensor) -> list[Judged]:
        return [part(audio) for part in self]


class EnvelopeDiscriminator(nn.Module):
    """kernels: of its four layers over (frames, bands)."""

    def __init__(self, kernels: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        normed, widths = nn.utils.parametrizations.weight_norm, (1, 24, 32, 48, 64)
        self.layers = nn.ModuleList(
            normed(nn.Conv2d(before, after, kernel, stride, (kernel[0] // 2, kernel[1] // 2)))
            for before, after, kernel, stride in zip(widths, widths[1:], kernels, ((1, 2), (1, 2), (2, 2), (2, 2)), strict=False)
        )
        self.last = normed(nn.Conv2d(widths[-1], 1, 3, 1, 1))

    def forward(self, env: Tensor) -> Judged:
        """(B, T, C) in the target's spreads -> (B, 1, frames, bands)."""
        x, inside = env[:, None], []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
            inside.append(x)
        return self.last(x), inside


class EnvelopeDiscriminators(nn.ModuleList):
    """One that sees both ways, one that sees along the bands, one that sees along time."""

    def __init__(self) -> None:
        super().__init__(
            EnvelopeDiscriminator(kernels)
            for kernels in (((3, 5), (3, 5), (3, 5), (3, 3)), ((1, 7), (1, 5), (3, 3), (5, 3)), ((9, 3), (7, 3), (5, 3), (3, 3)))
        )

    def forward(self, env: Tensor) -> list[Judged]:
        return [part(env) for part in self]


def told_apart(real: list[Judged], made: list[Judged]) -> Tensor:
    """Return the discriminators' loss."""
    return torch.stack(
        [(1 - r.float()).square().mean() + m.float().square().mean() for (r, _), (m, _) in zip(real, made, strict=True)]
    ).sum()


def not_believed(made: list[Judged], trust: Tensor | None = None) -> Tensor:
    """Return the loss for what is not taken for the target's. trust (B,): how much each counts."""
    weight = torch.ones(()) if trust is None else trust
    return torch.stack([((1 - m.float()).square().mean((1, 2, 3)) * weight).mean() for m, _ in made]).sum()


def features_apart(made: list[Judged], true: list[Judged], count: int) -> Tensor:
    """Return how far the layers' outputs are for the first `count` of what was made, relative to the true ones."""
    parts = [
        (m[:count].float() - t.float()).abs().mean() / (t.float().abs().mean() + 1e-3)
        for (_, of_made), (_, of_true) in zip(made, true, strict=True)
        for m, t in zip(of_made, of_true, strict=True)
    ]
    return torch.stack(parts).mean()
