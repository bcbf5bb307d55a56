"""Log-mel features of speech: what a front end is first taught to tell.

Shapes: B batch, T samples at 16 kHz.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rvcd.nets.contentvec_state import ENCODER_RATE_HZ, RECEPTIVE_FIELD_SAMPLES, UNIT_HOP_SAMPLES

LONG_BANDS, SHORT_BANDS = 80, 32
FEATURES = LONG_BANDS + 2 * SHORT_BANDS
FFT_SAMPLES = 512
SHORT_SAMPLES, SHORT_HOP_SAMPLES = 240, 160
POWER_FLOOR = 1e-10
LOWEST_HZ, HIGHEST_HZ = 40.0, 7800.0


class LogMel(nn.Module):
    """Log powers in mel bands: of the unit's 25 ms, and of its two halves (15 ms each), which tell when a consonant bursts."""

    long_window: Tensor
    short_window: Tensor
    long_bands: Tensor
    short_bands: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, samples, bands in (("long", RECEPTIVE_FIELD_SAMPLES, LONG_BANDS), ("short", SHORT_SAMPLES, SHORT_BANDS)):
            window = torch.hann_window(samples, periodic=True)
            self.register_buffer(f"{name}_window", window / window.sum(), persistent=False)
            self.register_buffer(f"{name}_bands", mel_bands(bands), persistent=False)

    def forward(self, audio_16k: Tensor) -> Tensor:
        """(B, T >= 400) -> (B, floor((T - 400) / 320) + 1, FEATURES): about -1 (silence) to 1."""
        units = audio_16k.unfold(1, RECEPTIVE_FIELD_SAMPLES, UNIT_HOP_SAMPLES)
        halves = units.unfold(2, SHORT_SAMPLES, SHORT_HOP_SAMPLES)
        long = self._powers(units, self.long_window) @ self.long_bands
        short = (self._powers(halves, self.short_window) @ self.short_bands).flatten(2)
        return torch.log10(torch.cat((long, short), dim=2) + POWER_FLOOR) / 5 + 1

    def _powers(self, frames: Tensor, window: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(frames * window, FFT_SAMPLES)
        return spectrum.real.square() + spectrum.imag.square()  # type: ignore[no-any-return]


def mel_bands(count: int) -> Tensor:
    """Return triangles (FFT_SAMPLES / 2 + 1, count), evenly spaced in mel = 2595 log10(1 + f / 700) (O'Shaughnessy 1987)."""
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (LOWEST_HZ, HIGHEST_HZ))
    edges_hz = 700 * (10 ** (torch.linspace(low, high, count + 2, dtype=torch.float64) / 2595) - 1)
    bins_hz = torch.arange(FFT_SAMPLES // 2 + 1, dtype=torch.float64)[:, None] * ENCODER_RATE_HZ / FFT_SAMPLES
    rising = (bins_hz - edges_hz[:-2]) / (edges_hz[1:-1] - edges_hz[:-2])
    falling = (edges_hz[2:] - bins_hz) / (edges_hz[2:] - edges_hz[1:-1])
    triangles = torch.minimum(rising, falling).clamp_min(0)
    # The lowest bands are narrower than one bin: each takes the bin that is nearest to its centre.
    nearest = (bins_hz - edges_hz[1:-1]).abs().argmin(dim=0)
    triangles[nearest, torch.arange(count)] = triangles[nearest, torch.arange(count)].clamp_min(0.5)
    return triangles.float()
