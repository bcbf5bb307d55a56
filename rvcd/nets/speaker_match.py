"""Gives a speaker's spectral envelope the target's vocal tract, mean and spread: what is said stays, who says it changes.

Mean and variance normalisation (Viikki & Laurila 1998) and vocal tract length normalisation (Lee & Rose 1996) from what was heard
so far, with what is known of people beforehand as long as little was. Nothing is guessed from frame to frame, so that a voice
that nobody has heard before keeps its words. Shapes: B batch, T frames (10 ms), C bands, F tract lengths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rvcd.nets.decayed_sums import decayed_sums
from rvcd.nets.spectral_envelope import BANDS, band_centres_hz

MEMORY_FRAMES = 1000
"""Of what is known of a speaker, 10 s of speech and silence: after so long a sound counts 1 / e."""
FACTORS = 29
LEAST_FACTOR, MOST_FACTOR = 0.9, 1.45
"""By how much the target's formants may lie higher than the speaker's."""
WEIGHT = 0.5
"""A voiced frame counts by its power to this power: loud ones tell who speaks. Noise has no voice, and counts nothing."""
TRUST_FRAMES = 20.0
"""After so many loud frames, about a second of speech, half of what is known is the speaker's own."""
LEVEL_TRUST_FRAMES = 3.0
QUIET = 2.8
"""Sounds that are so much below what a speaker's voice has on average, log10 power, are noise, and made quieter: 1 dB a dB."""
LEAST_LEVEL = -10.0
MOST_COLOUR = 1.2
"""The colour changes by so much at most, log10 power: what a microphone never heard stays unheard."""
LEAST_SPREAD, MOST_SPREAD = 0.55, 1.7
EXPECTED_FACTOR, EXPECTED_BY_PITCH = 0.22, -0.42
"""Of the logarithm of the factor: at MIDDLE_HZ, and by the logarithm of the pitch. Deep voices have long tracts."""
STRAYING = 4.0
SPREAD_REACH = 2.0
"""The spread is mended so far from the mean, log10 power: noise far below speech stays where it is."""
SHARPNESS = 120.0
"""How much rather a tract length is taken that comes nearer to the target's mean, per unit of log10 power."""
LEVEL_BANDS = BANDS * 2 // 3
"""The lower ones, whose mean is called level."""
MIDDLE_HZ = 160.0
PEAK_FALL = 0.003
"""Of the loudest level, log10 power a frame: 3 dB a second."""
HIGHEST_WARPED_HZ = 7700.0
SUMS = 2 * BANDS + 2
"""Statistics of a speaker: see voiced_statistics()."""


@dataclass(frozen=True)
class Speaker:
    """What is known of who speaks, at each frame (B, T, ...): mean and variance of voiced frames, (C,), level, and pitch, (1,).

    pitch: the logarithm of its ratio to MIDDLE_HZ.
    """

    mean: Tensor
    variance: Tensor
    level: Tensor
    pitch: Tensor


class SpeakerMatch(nn.Module):
    """What is known beforehand, of voiced frames.

    target_mean, target_variance (C,): of the target's. usual_mean (2, C): what people's mean is at MIDDLE_HZ, less its level, and
    how it changes with the logarithm of the pitch. usual_variance (C,), usual_level (): theirs.
    """

    target_mean: Tensor
    target_variance: Tensor
    usual_mean: Tensor
    usual_variance: Tensor
    usual_level: Tensor
    centres: Tensor
    warps: Tensor
    factors: Tensor
    trend: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, size in (("target_mean", (BANDS,)), ("target_variance", (BANDS,)), ("usual_mean", (2, BANDS)),
                           ("usual_variance", (BANDS,))):  # fmt: skip
            self.register_buffer(name, torch.zeros(size))
        self.register_buffer("usual_level", torch.zeros(()))
        self.register_buffer("centres", band_centres_hz(), persistent=False)
        self.register_buffer("warps", warps(), persistent=False)
        self.register_buffer("factors", all_factors(), persistent=False)
        self.register_buffer("trend", detrending(), persistent=False)

    def forward(self, bands: Tensor, f0_hz: Tensor, voiced: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """bands (B, T, C) log10 powers, f0_hz, voiced (B, T) -> the same in the target's voice, and the state after each frame.

        state: that after the frame before, (B, S), float64; None at the start.
        """
        statistics, peak = (None, None) if state is None else torch.split(state, [SUMS, 1], dim=1)
        level = bands[..., :LEVEL_BANDS].mean(2)
        sums = decayed_sums(voiced_statistics(bands, level, f0_hz, voiced), statistics, MEMORY_FRAMES)
        voiced_level = torch.where(voiced, level, torch.full_like(level, LEAST_LEVEL)).double()
        peaks = running_peak(voiced_level, peak)
        made = self._moved(bands, level, self._known(sums, peaks))
        return made, torch.cat((sums, peaks[..., None]), dim=2)

    def _known(self, sums: Tensor, peaks: Tensor) -> Speaker:
        """Return what the sums say, mixed with what people are like as long as they say little."""
        heard = sums / torch.pow(10.0, WEIGHT * peaks)[..., None]  # so that a loud frame counts one
        count, total, squares, pitches = torch.split(heard, [1, BANDS, BANDS, 1], dim=2)
        own_mean = total / count.clamp_min(1e-9)
        own_variance = (squares / count.clamp_min(1e-9) - own_mean.square()).clamp_min(0)
        own_level = own_mean[..., :LEVEL_BANDS].mean(2, keepdim=True)
        pitch = pitches / (count + LEVEL_TRUST_FRAMES)
        usual = self.usual_mean[0] + pitch * self.usual_mean[1]
        level = self.usual_level + (own_level - self.usual_level) * count / (count + LEVEL_TRUST_FRAMES)
        trust = count / (count + TRUST_FRAMES)
        mean = level + usual + trust * (own_mean - own_level - usual)
        variance = self.usual_variance + trust * (own_variance - self.usual_variance)
        dtype = self.usual_mean.dtype
        return Speaker(mean.to(dtype), variance.to(dtype), level.to(dtype), pitch)

    def _factor(self, speaker: Speaker) -> Tensor:
        """Return by how much the target's formants lie higher, (B, T), float64."""
        apart = (torch.einsum("btc,fcd->btfd", speaker.mean, self.warps) - self.target_mean) @ self.trend
        expected = EXPECTED_FACTOR + EXPECTED_BY_PITCH * speaker.pitch
        strayed = (torch.log(self.factors) - expected).square().to(apart.dtype)
        taken = (-SHARPNESS * (apart.abs().mean(3) + STRAYING * strayed)).softmax(2)
        return taken.double() @ self.factors

    def _moved(self, bands: Tensor, level: Tensor, speaker: Speaker) -> Tensor:
        """Return envelopes with the target's tract, mean and spread."""
        at = positions(self._factor(speaker), self.centres, bands.dtype)
        mean, apart = between(speaker.mean, at), between(bands - speaker.mean, at)
        spread = (self.target_variance / between(speaker.variance, at).clamp_min(1e-4)).sqrt().clamp(LEAST_SPREAD, MOST_SPREAD)
        louder = self.target_mean[:LEVEL_BANDS].mean() - speaker.level
        colour = (self.target_mean - mean - louder).clamp(-MOST_COLOUR, MOST_COLOUR)
        made = mean + louder + colour + apart + (spread - 1) * apart.clamp(-SPREAD_REACH, SPREAD_REACH)
        return made + (level[..., None] - speaker.level + QUIET).clamp_max(0)


def voiced_statistics(bands: Tensor, level: Tensor, f0_hz: Tensor, voiced: Tensor) -> Tensor:
    """Return what is summed up of each frame, (B, T, SUMS), float64: a weight, and that times bands, their squares and pitch."""
    weight = (torch.pow(10.0, WEIGHT * level.double()) * voiced)[..., None]
    pitch = torch.log(f0_hz.clamp_min(20.0) / MIDDLE_HZ).double()[..., None]
    exact = bands.double()
    return torch.cat((weight, weight * exact, weight * exact.square(), weight * pitch), dim=2)


def positions(factor: Tensor, centres: Tensor, dtype: torch.dtype) -> Tensor:
    """factor (B, T) -> (B, T, C): where each band of the target has its like among the bands. centres: band_centres_hz()."""
    hz = (centres / factor[..., None]).clamp_max(HIGHEST_WARPED_HZ)
    step = 2595 * torch.log10(1 + centres[1] / 700) - 2595 * torch.log10(1 + centres[0] / 700)
    mel = 2595 * torch.log10(1 + hz / 700) - 2595 * torch.log10(1 + centres[0] / 700)
    return (mel / step).clamp(0, BANDS - 1).to(dtype)


def between(rows: Tensor, at: Tensor) -> Tensor:
    """(B, T, C), (B, T, C) -> (B, T, C): the rows at fractional bands, by cubic convolution (Keys 1981, a = -0.5)."""
    below = at.floor().clamp_max(BANDS - 2)
    t, index = at - below, below.long()
    y = [rows.gather(2, (index + i).clamp(0, BANDS - 1)) for i in (-1, 0, 1, 2)]
    return y[1] + 0.5 * t * (y[2] - y[0] + t * (2 * y[0] - 5 * y[1] + 4 * y[2] - y[3] + t * (3 * (y[1] - y[2]) + y[3] - y[0])))


def running_peak(levels: Tensor, start: Tensor | None) -> Tensor:
    """(B, T) -> (B, T): the loudest level so far, which falls slowly. start (B, 1): that before the first."""
    steps = torch.arange(1, levels.shape[1] + 1, device=levels.device, dtype=levels.dtype) * PEAK_FALL
    peaks = torch.cummax(levels + steps, 1).values
    return (peaks if start is None else torch.maximum(peaks, start)) - steps


def all_factors() -> Tensor:
    return torch.linspace(math.log(LEAST_FACTOR), math.log(MOST_FACTOR), FACTORS, dtype=torch.float64).exp()


def warps() -> Tensor:
    """Return (F, C, C): bands times it have their formants at a factor's times the frequency."""
    eye = torch.eye(BANDS, dtype=torch.float64)
    at = positions(all_factors()[:, None], band_centres_hz(), torch.float64)[:, 0]
    return torch.stack([between(eye[None], row.expand(1, BANDS, BANDS))[0] for row in at]).float()


def detrending() -> Tensor:
    """Return (C, C'): takes a straight line out of what lies below 7 kHz; only that is kept."""
    low = int((band_centres_hz() < 7000).sum())
    line = torch.stack((torch.ones(low), torch.arange(low) / low - 0.5), dim=1).double()
    keep = torch.eye(low, dtype=torch.float64) - line @ torch.linalg.pinv(line)
    return torch.cat((keep, torch.zeros(BANDS - low, low, dtype=torch.float64))).float()
