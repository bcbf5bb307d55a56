"""Loudness by the signals of EBU Tech 3341, whatever the blocks, and the other levels of a report."""

from __future__ import annotations

import numpy as np
import pytest

from rvcd.audio.level_meter import LevelMeter
from rvcd.audio.loudness_meter import LoudnessMeter


def tones(rate_hz: int, *parts: tuple[float, float]) -> np.ndarray:
    """Return stereo, (T, 2): for each part (dBFS, seconds) a sine of 1 kHz, as the recommendation's test signals have it."""
    pieces = [10 ** (level / 20) * np.sin(2 * np.pi * 1000 * np.arange(round(s * rate_hz)) / rate_hz) for level, s in parts]
    mono = np.concatenate(pieces).astype(np.float32)
    return np.stack((mono, mono), axis=1)


@pytest.mark.parametrize("rate_hz", [24000, 44100, 48000])
@pytest.mark.parametrize(
    ("parts", "wanted_lufs"),
    [
        (((-23.0, 20.0),), -23.0),
        (((-33.0, 20.0),), -33.0),
        (((-36.0, 10.0), (-23.0, 60.0), (-36.0, 10.0)), -23.0),
        (((-72.0, 10.0), (-36.0, 10.0), (-23.0, 60.0), (-36.0, 10.0), (-72.0, 10.0)), -23.0),
        (((-26.0, 20.0), (-20.0, 20.1), (-26.0, 20.0)), -23.0),
    ],
)
def test_the_signals_of_ebu_tech_3341_have_their_loudness(
    rate_hz: int, parts: tuple[tuple[float, float], ...], wanted_lufs: float
) -> None:
    meter = LoudnessMeter(rate_hz, 2)
    meter.feed(tones(rate_hz, *parts))
    assert meter.integrated_lufs() == pytest.approx(wanted_lufs, abs=0.1)


def test_the_blocks_in_which_audio_comes_change_nothing() -> None:
    audio = np.random.default_rng(0).standard_normal((100_000, 2)).astype(np.float32) * 0.1
    whole = LevelMeter(16000, 2)
    whole.feed(audio)
    for size in (1, 777, 1600, 50_001):
        meter = LevelMeter(16000, 2)
        part = audio[: 20 * 777] if size == 1 else audio
        for start in range(0, len(part), size):
            meter.feed(part[start : start + size])
        if size == 1:
            other = LevelMeter(16000, 2)
            other.feed(part)
            assert meter.loudness_lufs() == pytest.approx(other.loudness_lufs(), abs=1e-9)
        else:
            assert meter.loudness_lufs() == pytest.approx(whole.loudness_lufs(), abs=1e-9)
            assert meter.peak_dbfs() == whole.peak_dbfs()


def test_what_is_silent_or_short_has_no_loudness() -> None:
    for audio in (np.zeros((48000, 1)), np.full((19000, 1), 0.5), np.zeros((0, 1)), np.full((480_000, 1), 1e-5)):
        meter = LevelMeter(48000)
        meter.feed(audio.astype(np.float32))
        assert meter.loudness_lufs() is None
    assert LevelMeter(48000).peak_dbfs() is None


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_three_samples_in_a_row_at_full_scale_are_clipped_and_a_single_peak_is_not(size: int) -> None:
    audio = np.zeros((100, 2), np.float32)
    audio[10:15, 0] = 1.0
    audio[20:23, 1] = -1.0
    audio[30, 0] = audio[40:42, 1] = 1.0
    meter = LevelMeter(8000, 2)
    for start in range(0, 100, size):
        meter.feed(audio[start : start + size])
    assert meter.clipped_samples == 8
    assert meter.peak == 1.0 and meter.samples == 100
