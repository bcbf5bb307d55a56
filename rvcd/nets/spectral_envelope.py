"""The spectral envelope of speech without its pitch, frame by frame, in mel bands.

CheapTrick (Morise 2015, "CheapTrick, a spectral envelope estimator for high-quality speech synthesis"): a window of three
periods, the power spectrum smoothed over two thirds of the pitch, and a lifter that takes out what the harmonics still leave;
here for many frames at once, each with a pitch of its own. Shapes: N frames, S samples of a slice, K bins, C bands.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

RATE_HZ = 16000
FFT_SAMPLES = 1024
BANDS = 80
HIGHEST_HZ = 8000.0
UNVOICED_HZ = 500.0
"""The pitch that an unvoiced frame is looked at with: a window of 6 ms."""
HALF_WINDOW_SAMPLES = 280
"""At most: three periods of 86 Hz. A lower voice is seen through a window that is a little short for it."""
LOOK_SAMPLES = 40
"""A frame is looked at twice, so far before and behind its middle."""
SIDE_SAMPLES = HALF_WINDOW_SAMPLES + LOOK_SAMPLES
SLICE_SAMPLES = 2 * SIDE_SAMPLES
"""What a frame's envelope depends on: SIDE_SAMPLES to each side of its middle."""
LIFTER = -0.15
"""CheapTrick's q1."""
POWER_FLOOR = 1e-10
LOWEST_HZ, MOST_HZ = 60.0, 800.0


def band_envelope(slices: Tensor, f0_hz: Tensor, voiced: Tensor, triangles: Tensor) -> Tensor:
    """slices (N, SLICE_SAMPLES) at 16 kHz around the frames' middles, f0_hz, voiced (N,) -> (N, BANDS) log10 powers.

    triangles: mel_triangles().
    """
    pitch = torch.where(voiced, f0_hz.clamp(LOWEST_HZ, MOST_HZ), torch.full_like(f0_hz, UNVOICED_HZ))
    width = 2 * HALF_WINDOW_SAMPLES
    looks = torch.stack((slices[:, :width], slices[:, 2 * LOOK_SAMPLES : 2 * LOOK_SAMPLES + width]), dim=1)
    spectrum = cheap_trick(looks.flatten(0, 1), pitch.repeat_interleave(2))
    bands = torch.log10(spectrum @ triangles + POWER_FLOOR)
    return bands.view(-1, 2, BANDS).mean(1)


def cheap_trick(looks: Tensor, f0_hz: Tensor) -> Tensor:
    """looks (N, 2 * HALF_WINDOW_SAMPLES), f0_hz (N,) above 0 -> power spectra (N, FFT_SAMPLES / 2 + 1)."""
    f0 = f0_hz[:, None]
    power = _power_at_pitch(looks, f0)
    power = _smoothed(_without_hole(power, f0), 2 * f0 / 3)
    quefrency_s = torch.arange(FFT_SAMPLES // 2 + 1, device=looks.device, dtype=looks.dtype) / RATE_HZ
    turns = quefrency_s * f0
    lifter = torch.sinc(turns) * (1 - 2 * LIFTER + 2 * LIFTER * torch.cos(2 * math.pi * turns))
    cepstrum = torch.fft.irfft((power + 1e-14).log(), FFT_SAMPLES)
    half = cepstrum[:, : FFT_SAMPLES // 2 + 1] * lifter
    return torch.exp(torch.fft.hfft(half, FFT_SAMPLES)[:, : FFT_SAMPLES // 2 + 1])


def _power_at_pitch(looks: Tensor, f0: Tensor) -> Tensor:
    """Return the power spectra through a Hann window of three periods, of length 1, without the mean."""
    steps = torch.arange(-HALF_WINDOW_SAMPLES, HALF_WINDOW_SAMPLES, device=looks.device, dtype=looks.dtype)
    half = (1.5 * RATE_HZ / f0).round().clamp_max(HALF_WINDOW_SAMPLES - 1)
    window = (0.5 + 0.5 * torch.cos(math.pi * steps / half)) * (steps.abs() <= half)
    window = window / window.square().sum(1, keepdim=True).sqrt()
    heard = looks * window
    heard = heard - window * (heard.sum(1, keepdim=True) / window.sum(1, keepdim=True))
    spectrum = torch.fft.rfft(heard, FFT_SAMPLES)
    return spectrum.real.square() + spectrum.imag.square()  # type: ignore[no-any-return]


def _without_hole(power: Tensor, f0: Tensor) -> Tensor:
    """Fill the hole below the first harmonic with its mirror image: below f0, P(f) + P(f0 - f)."""
    bins = torch.arange(power.shape[1], device=power.device, dtype=power.dtype)
    pitch_bins = f0 * FFT_SAMPLES / RATE_HZ
    return power + torch.where(bins < pitch_bins, _at(power, (pitch_bins - bins).clamp_min(0)), torch.zeros_like(power))


def _smoothed(power: Tensor, width_hz: Tensor) -> Tensor:
    """Return the mean over width_hz (N, 1) around each bin; the spectrum is mirrored at both ends."""
    K, margin = power.shape[1], int(MOST_HZ / 3 * FFT_SAMPLES / RATE_HZ) + 3
    mirrored = torch.cat((power[:, 1 : margin + 1].flip(1), power, power[:, K - margin - 1 : K - 1].flip(1)), dim=1)
    # A bin's power covers half a bin to each side of it.
    sums = torch.nn.functional.pad(mirrored.double().cumsum(1), (1, 0))
    middles = torch.arange(K, device=power.device, dtype=torch.float64) + margin + 0.5
    half = (width_hz * FFT_SAMPLES / RATE_HZ / 2).double()
    return ((_at(sums, middles + half) - _at(sums, middles - half)) / (2 * half)).clamp_min(0).to(power.dtype)


def _at(rows: Tensor, positions: Tensor) -> Tensor:
    """(N, K), (N, M) -> (N, M): linear between the columns."""
    below = positions.floor()
    index = below.long().clamp(0, rows.shape[1] - 2)
    low, high = rows.gather(1, index), rows.gather(1, index + 1)
    return low + (high - low) * (positions - index)


def band_centres_hz() -> Tensor:
    """Return the middles of the bands (BANDS,), float64, evenly spaced in mel = 2595 log10(1 + f / 700) (O'Shaughnessy 1987)."""
    return _edges_hz()[1:-1]


def _edges_hz() -> Tensor:
    top = 2595 * math.log10(1 + HIGHEST_HZ / 700)
    return 700 * (10 ** (torch.linspace(0, top, BANDS + 2, dtype=torch.float64) / 2595) - 1)


def mel_triangles() -> Tensor:
    """Return (FFT_SAMPLES / 2 + 1, BANDS): triangles with a sum of one each, so that a band has its bins' mean power."""
    edges = _edges_hz()
    hz = torch.linspace(0, RATE_HZ / 2, FFT_SAMPLES // 2 + 1, dtype=torch.float64)[:, None]
    rising = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    triangles = torch.minimum(rising, falling).clamp_min(0)
    nearest = (hz - edges[1:-1]).abs().argmin(dim=0)
    triangles[nearest, torch.arange(BANDS)] += 1e-3
    return (triangles / triangles.sum(0)).float()
