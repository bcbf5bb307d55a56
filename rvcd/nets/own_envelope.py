"""Leans a lite encoder's envelope on the speaker's own: what the target would sound like, with the detail of what was said.

A small encoder guesses the target's spectral envelope well for voices like those it was taught with, and blurs it for others. The
speaker's own envelope is there in the features, sharp. It is given the target's vocal tract length, mean and spread, as both are
known from what was heard so far, and mixed in where the target speaks (mean and variance normalisation, Viikki & Laurila 1998;
vocal tract length normalisation, Lee & Rose 1996). Shapes: B batch, N units, C bands of the envelope, F tract lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rvcd.nets.decayed_sums import decayed_sums

MEMORY_UNITS = 1000
"""Of the statistics, 20 s: after so long a sound counts 1 / e."""
BELIEVED_UNITS = 10
"""So much speech, and the speaker's own envelope has half its share."""
USUAL_VARIANCE = 0.32
LEAST_SPREAD, MOST_SPREAD = 0.5, 2.0
SHARPNESS = 150.0
"""How much rather a tract length is taken that is nearer to what the encoder guesses, per unit of distance."""


@dataclass(frozen=True)
class OwnEnvelopeSizes:
    """bands: the envelope's, the first of a unit; hidden: width of the layer that hears the envelope; throats: F."""

    bands: int
    hidden: int
    throats: int


class OwnEnvelope(nn.Module):
    """throats (F, C, C): own envelope -> the same in a tract of another length. share (C,): how much of it is taken.

    levels (2,): the mean of the bands in silence, where nothing is taken, and in speech, where all of the share is.
    """

    throats: Tensor
    share: Tensor
    levels: Tensor

    def __init__(self, sizes: OwnEnvelopeSizes, features: int) -> None:
        super().__init__()
        C, F = sizes.bands, sizes.throats
        self.sizes = sizes
        self.enter = nn.Linear(features, sizes.hidden)
        self.leave = nn.Linear(sizes.hidden, C)
        self.register_buffer("throats", torch.zeros(F, C, C))
        self.register_buffer("share", torch.zeros(C))
        self.register_buffer("levels", torch.tensor([-1.0, 0.0]))

    def hear(self, features: Tensor) -> Tensor:
        """(B, N, features) -> (B, N, C): the speaker's own envelope."""
        return self.leave(nn.functional.gelu(self.enter(features)))  # type: ignore[no-any-return]

    def forward(self, features: Tensor, units: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, N, features), (B, N, unit width) -> the units with their envelope leaned, and the state after every one of them.

        state: that after the unit before, (B, S); None at the start.
        """
        C, F = self.sizes.bands, self.sizes.throats
        guess = units[..., :C]
        silent, speaking = self.levels
        speech = ((guess.mean(2, keepdim=True) - silent) / (speaking - silent)).clamp(0, 1)
        own = torch.einsum("bnc,fcd->bnfd", self.hear(features), self.throats)
        seen = torch.cat((torch.ones_like(speech), own.flatten(2), own.square().flatten(2), guess, guess.square()), dim=2)
        statistics = seen.shape[2]
        sums = decayed_sums(speech * seen, None if state is None else state[:, :statistics], MEMORY_UNITS)
        count, own_sum, own_squares, guess_sum, guess_squares = torch.split(sums, [1, F * C, F * C, C, C], dim=2)
        heard = count[..., None] + 1e-3
        own_mean, own_squares = (s.reshape(own.shape) / heard for s in (own_sum, own_squares))
        guess_mean, guess_squares = (s[:, :, None] / heard for s in (guess_sum, guess_squares))
        own_variance = (own_squares - own_mean.square()).clamp_min(0) * count[..., None] + BELIEVED_UNITS * USUAL_VARIANCE
        guess_variance = (guess_squares - guess_mean.square()).clamp_min(0) * count[..., None] + BELIEVED_UNITS * USUAL_VARIANCE
        spread = (guess_variance / own_variance).sqrt().clamp(LEAST_SPREAD, MOST_SPREAD)
        moved = (own - own_mean) * spread + guess_mean
        apart = (moved - guess[:, :, None]).abs().mean(3)
        errors = decayed_sums(speech * apart, None if state is None else state[:, statistics:], MEMORY_UNITS)
        weights = (-SHARPNESS * errors / heard[..., 0]).softmax(2)
        nearest = (weights[..., None] * moved).sum(2)
        trust = self.share * speech * count / (count + BELIEVED_UNITS)
        leaned = guess + trust * (nearest - guess)
        return torch.cat((leaned, units[..., C:]), dim=2), torch.cat((sums, errors), dim=2)
