"""What makes envelopes sound like the target's: slow changes, and at once only softer ones."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.nets.envelope_converter import SLOW_VALUES, SMOOTH_FRAMES, EnvelopeConverter
from rvcd.nets.frame_net import FrameNetSizes
from rvcd.nets.spectral_envelope import BANDS

FRAMES = 70


def converter() -> EnvelopeConverter:
    torch.manual_seed(1)
    return EnvelopeConverter(FrameNetSizes.of(16, 24, [3, 5], 1)).eval().requires_grad_(False)


def speech(seed: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    f0_hz, voiced = 100 + 200 * torch.rand((1, FRAMES), generator=random), torch.rand((1, FRAMES), generator=random) > 0.4
    return 0.5 * torch.randn((1, FRAMES, BANDS), generator=random) - 3, f0_hz, voiced


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, FRAMES - 1), max_size=6, unique=True))
def test_a_stream_cut_anywhere_gives_the_envelopes_of_the_whole(cuts: list[int]) -> None:
    made, (bands, f0_hz, voiced) = converter(), speech()
    whole, pasts, parts = made(bands, f0_hz, voiced), made.start(), []
    for first, end in itertools.pairwise([0, *sorted(cuts), FRAMES]):
        seen = slice(first, min(FRAMES, end + made.lookahead_frames))
        parts.append(made(bands[:, seen], f0_hz[:, seen], voiced[:, seen], pasts, end - first)[:, : end - first])
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-5)


def test_an_amount_of_nothing_leaves_envelopes_as_they_are() -> None:
    made, (bands, f0_hz, voiced) = converter(), speech()
    made.amount.zero_()
    assert torch.equal(made(bands, f0_hz, voiced), bands)


def test_what_it_does_at_once_only_makes_sounds_softer() -> None:
    made, (bands, f0_hz, voiced) = converter(), speech()
    made.net.leave.weight[:SLOW_VALUES] = 0
    made.net.leave.bias[:SLOW_VALUES] = 0
    changed = made(bands, f0_hz, voiced) - bands
    assert changed.max() <= 0 and changed.min() < -0.1


def test_a_colour_that_the_network_asks_for_in_one_frame_comes_and_goes_slowly() -> None:
    made, (bands, f0_hz, voiced) = converter(), speech()
    asked = torch.zeros((1, FRAMES, SLOW_VALUES + 10))
    asked[..., SLOW_VALUES:] = -50.0  # no softening
    asked[0, 30, :BANDS] = 1.0
    made.net.forward = lambda *_: asked  # type: ignore[method-assign]
    changed = (made(bands, f0_hz, voiced) - bands)[0].mean(1)
    assert (changed != 0).sum() == SMOOTH_FRAMES and changed.max() < 0.2
    torch.testing.assert_close(changed.sum(), torch.ones(()))
