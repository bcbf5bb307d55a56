"""Who speaks is learned while they speak: what that promises for streams, levels, noise and the target itself."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.nets.speaker_match import LEVEL_BANDS, SpeakerMatch, all_factors, between, positions, warps
from rvcd.nets.spectral_envelope import BANDS, band_centres_hz
from tests.support import envelope_encoder


def target() -> SpeakerMatch:
    """Return a match to somebody whose spectrum falls, and whom people are like on average."""
    match = envelope_encoder().match
    falls = torch.linspace(1.5, -2.5, BANDS)
    match.target_mean.copy_(falls - falls[:LEVEL_BANDS].mean() - 2.3)
    match.usual_mean[0].copy_(falls - falls[:LEVEL_BANDS].mean())
    match.usual_level.fill_(-2.5)
    return match


def speech(frames: int, level: float = -2.5, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return envelopes of somebody brighter than the target, with pauses, their pitch and voicing: (1, T, ...) each."""
    random = np.random.default_rng(seed)
    moves = np.cumsum(random.standard_normal((frames, BANDS)) * 0.05, axis=1)
    shapes = moves - np.linspace(-1, 1, BANDS)
    shapes += level - shapes[:, :LEVEL_BANDS].mean()
    talks = np.sin(np.arange(frames) / 20) > -0.5
    bands = np.where(talks[:, None], shapes, -9.0).astype(np.float32)
    return torch.from_numpy(bands)[None], torch.full((1, frames), 120.0), torch.from_numpy(talks)[None]


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 199), max_size=5, unique=True))
def test_a_stream_cut_anywhere_gives_what_the_whole_gives(cuts: list[int]) -> None:
    match, (bands, f0_hz, voiced) = target(), speech(200)
    whole, _ = match(bands, f0_hz, voiced)
    edges, state, parts = [0, *sorted(cuts), 200], None, []
    for first, end in itertools.pairwise(edges):
        part, states = match(bands[:, first:end], f0_hz[:, first:end], voiced[:, first:end], state)
        state = states[:, -1]
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=2e-4)


def test_after_some_speech_the_level_of_the_microphone_makes_no_difference() -> None:
    match = target()
    made = [match(*speech(800, level))[0][0, -200:] for level in (-1.5, -2.5, -3.5)]
    talking = speech(800)[2][0, -200:]
    for other in (made[0], made[2]):
        assert (other - made[1])[talking].abs().mean() < 0.1  # 1 dB


def test_a_speaker_gets_the_target_s_mean() -> None:
    match, (bands, f0_hz, voiced) = target(), speech(1500)
    made, _ = match(bands, f0_hz, voiced)
    late = made[0, 1000:][voiced[0, 1000:]].mean(0)
    before = (bands[0, 1000:][voiced[0, 1000:]].mean(0) - match.target_mean).abs().mean()
    assert (late - match.target_mean).abs().mean() < 0.4 * before


def test_noise_without_a_voice_is_not_made_louder() -> None:
    match = target()
    noise = -5.5 + 0.2 * torch.randn((1, 400, BANDS), generator=torch.Generator().manual_seed(3))
    made, _ = match(noise, torch.zeros((1, 400)), torch.zeros((1, 400)) > 0)
    assert made[0, 50:].mean() < noise[0, 50:].mean()


def test_a_factor_of_one_leaves_the_bands_and_another_moves_them() -> None:
    at = positions(torch.tensor([[1.0, 1.2]]), band_centres_hz(), torch.float32)
    rows = torch.randn((1, 2, BANDS), generator=torch.Generator().manual_seed(4))
    found = between(rows, at)
    kept = int((band_centres_hz() < 7600).sum())
    torch.testing.assert_close(found[0, 0, :kept], rows[0, 0, :kept], rtol=1e-4, atol=1e-4)
    ramp = band_centres_hz().float().expand(1, 2, BANDS)
    moved = between(ramp, at)[0, 1, 10:60]
    torch.testing.assert_close(moved, band_centres_hz()[10:60].float() / 1.2, rtol=0.01, atol=5.0)


def test_the_matrices_of_all_factors_do_the_same() -> None:
    row = torch.randn(BANDS, generator=torch.Generator().manual_seed(5))
    at = positions(all_factors()[:, None], band_centres_hz(), torch.float32)
    expected = between(row.expand(*at.shape[:2], BANDS), at)[:, 0]
    torch.testing.assert_close(torch.einsum("c,fcd->fd", row, warps()), expected, rtol=1e-4, atol=1e-4)
