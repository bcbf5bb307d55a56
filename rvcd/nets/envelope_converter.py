"""Gives envelopes that were moved to the target the target's own sound, and takes rooms and noise out of them.

What a network says is added so that words survive a voice that it has never heard: a colour, and how much the envelope stands out
from its surroundings in time and in frequency, all of them smoothed over 130 ms, which is longer than most phones; and what
follows at once may only make sounds softer, in a few broad bands. So it can change who speaks, but hardly what is said.
Shapes: B batch, T frames (10 ms), C bands.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rvcd.formats.voice_shapes import SOFTER_BANDS
from rvcd.nets.frame_net import FrameNet, FrameNetSizes
from rvcd.nets.rolling_buffer import Past
from rvcd.nets.spectral_envelope import BANDS

NET_LOOKAHEAD_FRAMES, SMOOTH_LOOKAHEAD_FRAMES = 1, 3
SMOOTH_FRAMES = 13
SURROUNDING_FRAMES, SURROUNDING_LOOKAHEAD_FRAMES = 25, 4
SURROUNDING_BANDS = 11
MOST_TIME_CONTRAST, MOST_BAND_CONTRAST = 0.6, 0.8
SLOW_VALUES = 3 * BANDS
CONVERTER_VALUES = SLOW_VALUES + SOFTER_BANDS


@dataclass
class ConverterPasts:
    """What a stream carries: of the network's blocks, of what is smoothed, and of the envelope's surroundings in time."""

    blocks: list[Past]
    slow: Past
    surroundings: Past

    def all(self) -> list[Past]:
        return [*self.blocks, self.slow, self.surroundings]


class EnvelopeConverter(nn.Module):
    """amount (): how much of what the network says is done, 0..1."""

    amount: Tensor
    smoothing: Tensor
    averaging: Tensor
    band_smoothing: Tensor
    softer_bands: Tensor

    def __init__(self, sizes: FrameNetSizes) -> None:
        super().__init__()
        self.net = FrameNet(sizes, CONVERTER_VALUES)
        self.register_buffer("amount", torch.ones(()))
        for name, weights in (
            ("smoothing", _hann(SMOOTH_FRAMES)),
            ("averaging", torch.full((SURROUNDING_FRAMES,), 1 / SURROUNDING_FRAMES)),
            ("band_smoothing", _hann(SURROUNDING_BANDS)),
        ):
            self.register_buffer(name, weights, persistent=False)
        self.register_buffer("softer_bands", _between_bands(), persistent=False)

    @property
    def lookahead_frames(self) -> int:
        return max(self.net.sizes.lookahead_frames + SMOOTH_LOOKAHEAD_FRAMES, SURROUNDING_LOOKAHEAD_FRAMES)

    def start(self) -> ConverterPasts:
        """Return what a stream carries."""
        slow = SMOOTH_FRAMES - 1 - SMOOTH_LOOKAHEAD_FRAMES
        surroundings = SURROUNDING_FRAMES - 1 - SURROUNDING_LOOKAHEAD_FRAMES
        return ConverterPasts(self.net.start(), Past(slow, 1, zeros=True), Past(surroundings, 1, zeros=True))

    def forward(
        self, bands: Tensor, f0_hz: Tensor, voiced: Tensor, pasts: ConverterPasts | None = None, final: int = 0
    ) -> Tensor:
        """bands (B, T, C) log10 powers, f0_hz, voiced (B, T) -> (B, T, C).

        pasts: to which the first `final` frames belong from now on. Frames that are all average stand beyond both ends.
        """
        told = self.net(bands, f0_hz, voiced, None if pasts is None else pasts.blocks, final)
        slow = _over_time(
            told[..., :SLOW_VALUES], self.smoothing, SMOOTH_LOOKAHEAD_FRAMES, None if pasts is None else pasts.slow, final
        )
        colour, in_time, over_bands = torch.split(slow, BANDS, dim=2)
        apart = bands - self.net.mean
        around = _over_time(
            apart, self.averaging, SURROUNDING_LOOKAHEAD_FRAMES, None if pasts is None else pasts.surroundings, final
        )
        softer = F.softplus(told[..., SLOW_VALUES:]) @ self.softer_bands
        contrast = MOST_TIME_CONTRAST * torch.tanh(in_time) * (apart - around)
        contrast = contrast + MOST_BAND_CONTRAST * torch.tanh(over_bands) * (bands - self._smooth_bands(bands))
        return bands + self.amount * (colour * self.net.spread + contrast - softer)

    def _smooth_bands(self, bands: Tensor) -> Tensor:
        side = SURROUNDING_BANDS // 2
        held = torch.cat((bands[..., :1].expand(-1, -1, side), bands, bands[..., -1:].expand(-1, -1, side)), dim=2)
        smooth: Tensor = held.unfold(2, SURROUNDING_BANDS, 1) @ self.band_smoothing
        return smooth


def _over_time(rows: Tensor, weights: Tensor, ahead: int, past: Past | None, final: int) -> Tensor:
    """(B, T, C) -> the same: weighted sums of len(weights) frames, `ahead` of them in the future; zeros stand beyond the ends."""
    seen = F.pad(rows, (0, 0, len(weights) - 1 - ahead, 0)) if past is None else past.extend(rows, final)
    return F.pad(seen, (0, 0, 0, ahead)).unfold(1, len(weights), 1) @ weights


def _hann(count: int) -> Tensor:
    """Return (count,) weights whose sum is 1."""
    weights = torch.hann_window(count + 2, periodic=False)[1:-1]
    return weights / weights.sum()


def _between_bands() -> Tensor:
    """Return (SOFTER_BANDS, C): linear between a few bands that are evenly spaced."""
    at = torch.arange(BANDS) / (BANDS - 1) * (SOFTER_BANDS - 1)
    below = at.floor().long().clamp_max(SOFTER_BANDS - 2)
    matrix = torch.zeros(SOFTER_BANDS, BANDS)
    matrix[below, torch.arange(BANDS)] = 1 - (at - below)
    matrix[below + 1, torch.arange(BANDS)] += at - below
    return matrix
