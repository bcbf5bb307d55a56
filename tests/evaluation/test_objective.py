"""Measures of signals whose noise, distortion and pitch are known."""

from __future__ import annotations

import math
import zlib
from dataclasses import fields

import numpy as np
import pytest

from rvcd.evaluation import measuring, objective
from rvcd.evaluation.html_report import Picture, page, png, spectrogram
from rvcd.evaluation.measures import RATE_HZ, pitch_agreement
from tests.support import speech_like

NOISE = np.random.default_rng(0).standard_normal(4 * RATE_HZ).astype(np.float32)
SPEECH = speech_like(RATE_HZ, 4.0)


def bursts(noise_db: float) -> np.ndarray:
    """Half a second of tone, half a second of pause, over noise so far below the tone."""
    t = np.arange(4 * RATE_HZ) / RATE_HZ
    tone = np.where(t % 1 < 0.5, np.sin(2 * np.pi * 300 * t), 0) * 0.3
    return (tone + 0.3 / np.sqrt(2) * 10 ** (noise_db / 20) * NOISE).astype(np.float32)


@pytest.mark.parametrize("noise_db", [-20, -40, -60])
def test_the_snr_is_how_far_speech_is_above_the_pauses(noise_db: float) -> None:
    assert objective.snr_db(bursts(noise_db)) == pytest.approx(-noise_db, abs=1.5)


@pytest.mark.parametrize("ratio_db", [0, 10, 20])
def test_harmonics_to_noise_is_that_of_the_mixture(ratio_db: float) -> None:
    t = np.arange(4 * RATE_HZ) / RATE_HZ
    tone = sum(np.sin(2 * np.pi * 160 * k * t) / k for k in range(1, 8))
    noise = NOISE * np.std(tone) / np.std(NOISE) * 10 ** (-ratio_db / 20)
    audio = (0.1 * (tone + noise)).astype(np.float32)
    f0_hz, voiced = np.full(400, 160, np.float32), np.ones(400, np.bool_)
    assert objective.harmonics_to_noise_db(audio, f0_hz, voiced) == pytest.approx(ratio_db, abs=1.5)
    assert math.isnan(objective.harmonics_to_noise_db(audio, f0_hz, ~voiced))


def test_a_signal_is_at_no_distance_from_itself_and_further_from_what_is_more_distorted() -> None:
    clipped = [np.clip(SPEECH, -level, level) for level in (0.2, 0.05, 0.01)]
    for distance in (objective.cepstral_distortion_db, objective.spectral_distance_db):
        assert distance(SPEECH, SPEECH) == 0
        found = [distance(audio, SPEECH) for audio in clipped]
        assert 0 < found[0] < found[1] < found[2]


def test_a_gain_is_a_spectral_distance_of_its_decibels_and_no_cepstral_distortion() -> None:
    assert objective.spectral_distance_db(0.05 * NOISE, 0.1 * NOISE) == pytest.approx(6.02, abs=0.05)
    assert objective.cepstral_distortion_db(0.05 * NOISE, 0.1 * NOISE) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("error_db", [-6, -30])
def test_signal_to_error_counts_the_difference(error_db: float) -> None:
    noise = NOISE * np.std(SPEECH) / np.std(NOISE) * 10 ** (error_db / 20)
    assert objective.signal_to_error_db(SPEECH + noise, SPEECH) == pytest.approx(-error_db, abs=0.1)
    assert objective.signal_to_error_db(SPEECH, SPEECH) == pytest.approx(120)


def test_what_is_silent_or_short_gives_no_numbers_and_no_error() -> None:
    for audio in (np.zeros(0, np.float32), np.zeros(100, np.float32), np.zeros(16000, np.float32)):
        assert math.isnan(objective.cepstral_distortion_db(audio, audio))
        assert math.isnan(objective.spectral_distance_db(audio, audio))
        assert math.isnan(objective.signal_to_error_db(audio, audio))
        assert math.isnan(objective.snr_db(audio)) or objective.snr_db(audio) == 0


def test_a_pitch_an_octave_off_is_a_gross_error() -> None:
    wanted = np.full(100, 100, np.float32)
    made = wanted.copy()
    made[:25] = 200
    voiced = np.ones(100, np.bool_)
    assert pitch_agreement(wanted, voiced, made, voiced).gross == 0.25
    assert math.isnan(pitch_agreement(wanted, voiced, made, ~voiced).gross)


def test_unknown_measures_are_dashes_and_sums_are_of_what_is_known() -> None:
    values = {f.name: math.nan for f in fields(measuring.Measures)} | {"clip": "a.wav", "source_clipped": 3, "clipped": 0}
    row = measuring.Measures(**{**values, "seconds": 1.0, "pitch_semitones": 0.0})  # type: ignore[arg-type]
    known = measuring.Measures(**{**values, "seconds": 1.0, "pitch_semitones": 0.0, "lufs": -20.0})  # type: ignore[arg-type]
    cells = measuring.table_rows([row])[0]
    assert len(cells) == len(measuring.HEADINGS) and cells[3:6] == ("- (-) LUFS", "0 (3)", "- (-) dB")
    assert measuring.summary_lines([row, known])[0] == "loudness -20.0 LUFS (source -); clipped samples 0 (source 6)"


def test_a_spectrogram_shows_a_tone_in_its_place_and_is_never_too_wide() -> None:
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    low, high = (spectrogram((0.3 * np.sin(2 * np.pi * f * t)).astype(np.float32)).sum(axis=(1, 2)).argmax() for f in (200, 6000))
    assert high < 20 < 90 < low, "low frequencies are at the bottom"
    assert spectrogram(np.zeros(40 * RATE_HZ, np.float32)).shape[1] <= 1000
    assert spectrogram(np.zeros(0, np.float32)).size > 0


def test_the_pictures_are_png_files_that_others_read() -> None:
    pixels = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    data = png(pixels)
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[16:24] == b"\0\0\0\x07\0\0\0\x05"
    at = data.index(b"IDAT") + 4
    lines = np.frombuffer(zlib.decompress(data[at:-16]), np.uint8).reshape(5, 22)
    np.testing.assert_array_equal(lines[:, 1:].reshape(5, 7, 3), pixels)


def test_a_page_shows_names_as_text_whatever_they_are() -> None:
    text = page("<b>", ["a & b"], [], [Picture.of("\x1b[31m<i>", SPEECH, SPEECH)])
    assert "<b>" not in text and "a &amp; b" in text and "?[31m&lt;i&gt;" in text and "\x1b" not in text
