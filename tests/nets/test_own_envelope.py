"""The envelope that leans on the speaker's own: it takes the detail, not the speaker, and nothing where nobody speaks."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rvcd.nets.decayed_sums import CHUNK_ROWS, decayed_sums
from rvcd.nets.own_envelope import MEMORY_UNITS, OwnEnvelope, OwnEnvelopeSizes

BANDS = 12


class AsHeard(OwnEnvelope):
    """Takes the features for the speaker's own envelope."""

    def hear(self, features: Tensor) -> Tensor:
        return features


def leaning(share: float, *, throats: int = 3) -> OwnEnvelope:
    part = AsHeard(OwnEnvelopeSizes(BANDS, 1, throats), BANDS).requires_grad_(False)
    part.throats.copy_(torch.stack([torch.eye(BANDS).roll(i - 1, dims=1) for i in range(throats)]))
    part.share.fill_(share)
    part.levels.copy_(torch.tensor([-1.0, 0.0]))
    return part


def speech(units: int, seed: int) -> Tensor:
    """(1, units, BANDS): an envelope of somebody who never pauses."""
    moments = torch.randn(1, units, BANDS, generator=torch.Generator().manual_seed(seed)) * 0.5
    return moments + torch.linspace(1.5, 0.2, BANDS)


@settings(deadline=None, max_examples=30)
@given(lengths=st.lists(st.integers(1, 2 * CHUNK_ROWS), min_size=1, max_size=4))
def test_decayed_sums_are_those_of_one_row_after_the_other(lengths: list[int]) -> None:
    rows = torch.randn(1, sum(lengths), 2, generator=torch.Generator().manual_seed(len(lengths)))
    keep, total, expected = torch.exp(torch.tensor(-1 / MEMORY_UNITS)), torch.zeros(1, 2), []
    for t in range(rows.shape[1]):
        total = total * keep + rows[:, t]
        expected.append(total)
    state, done = None, []
    for part in rows.split(lengths, dim=1):
        sums = decayed_sums(part, state, MEMORY_UNITS)
        state = sums[:, -1]
        done.append(sums)
    torch.testing.assert_close(torch.cat(done, dim=1), torch.stack(expected, dim=1), rtol=1e-4, atol=1e-4)


def test_another_microphone_tract_and_liveliness_come_out_as_the_target() -> None:
    true = speech(600, 1)
    own = (true * 0.8 + torch.linspace(-3, -1, BANDS)).roll(-1, dims=2)  # a tract one band shorter, other means and spread
    blurred = true.mean(1, keepdim=True) + 0.5 * (true - true.mean(1, keepdim=True)) + 0.1 * speech(600, 2)
    leaned, _ = leaning(1.0)(own, blurred)
    told, plain = leaned[0, 300:], blurred[0, 300:]
    wanted = blurred.mean(1) + (true - true.mean(1, keepdim=True))[0, 300:] * blurred.std(1) / true.std(1)
    inner = slice(1, BANDS - 1)
    assert float((told - wanted)[:, inner].abs().mean()) < 0.4 * float((plain - wanted)[:, inner].abs().mean())
    assert float((told.mean(0) - plain.mean(0))[inner].abs().max()) < 0.1


def test_silence_takes_nothing_and_teaches_nothing() -> None:
    part, guess = leaning(0.8), torch.full((1, 40, BANDS), -2.0)
    noise = speech(40, 3)
    leaned, state = part(noise, guess)
    assert torch.equal(leaned, guess)
    assert float(state.abs().max()) == 0


def test_what_is_behind_the_envelope_is_left_alone() -> None:
    units = torch.cat((speech(50, 4), speech(50, 5)), dim=2)
    leaned, _ = leaning(0.5)(speech(50, 6), units)
    assert torch.equal(leaned[..., BANDS:], units[..., BANDS:]) and not torch.equal(leaned, units)


def test_the_first_words_are_the_guess_alone() -> None:
    guess = speech(50, 7)
    leaned, _ = leaning(1.0)(speech(50, 8), guess)
    change = (leaned - guess).abs().mean(dim=2)[0]
    assert float(change[0]) < 0.2 * float(change[30:].mean())


def test_constant_input_stays_finite() -> None:
    for value in (-30.0, 0.0, 30.0):
        leaned, state = leaning(1.0)(torch.full((1, 2000, BANDS), value), torch.full((1, 2000, BANDS), 1.0))
        assert bool(leaned.isfinite().all()) and bool(state.isfinite().all())
