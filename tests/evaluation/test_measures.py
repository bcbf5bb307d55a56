"""What `rvcd eval` counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.evaluation.measures import (
    at_level,
    cosine,
    median_f0_hz,
    pitch_agreement,
    semitones_to,
    word_errors,
    words_of,
)

WORDS = st.lists(st.sampled_from(["the", "birch", "canoe", "slid"]), max_size=8)


def test_words_lose_case_and_punctuation() -> None:
    assert words_of("The birch-canoe SLID, on Glue’s — 3 planks!") == [
        "the",
        "birch",
        "canoe",
        "slid",
        "on",
        "glue's",
        "3",
        "planks",
    ]


@pytest.mark.parametrize(
    ("said", "heard", "errors"),
    [("a b c", "a b c", 0), ("a b c", "a x c", 1), ("a b c", "a c", 1), ("a b", "a x b y", 2), ("a b", "", 2), ("", "a", 1)],
)
def test_word_errors_are_changes_insertions_and_omissions(said: str, heard: str, errors: int) -> None:
    assert word_errors(said.split(), heard.split()) == errors


@given(WORDS, WORDS, WORDS)
def test_word_errors_are_a_distance(a: list[str], b: list[str], c: list[str]) -> None:
    assert word_errors(a, b) == word_errors(b, a)
    assert (word_errors(a, b) == 0) == (a == b)
    assert word_errors(a, c) <= word_errors(a, b) + word_errors(b, c)
    assert abs(len(a) - len(b)) <= word_errors(a, b) <= max(len(a), len(b))


def test_pitches_are_compared_where_both_are_voiced() -> None:
    wanted = np.array([100, 100, 200, 0, 300], np.float32)
    made = np.array([100, 200, 200 * 2 ** (50 / 1200), 150, 0], np.float32)
    found = pitch_agreement(wanted, wanted > 0, made, made > 0)
    assert found.median_cents == pytest.approx(50, abs=0.01)
    assert found.agreement == pytest.approx(3 / 5)


def test_the_longer_track_s_end_is_left_out_and_silence_has_no_error() -> None:
    wanted, made = np.full(5, 100, np.float32), np.full(9, 100, np.float32)
    assert pitch_agreement(wanted, wanted > 0, made, made > 0).median_cents == 0
    silent = pitch_agreement(wanted, wanted < 0, made, made < 0)
    assert math.isnan(silent.median_cents) and silent.agreement == 1


@pytest.mark.parametrize(
    ("median", "register", "semitones"), [(100, 200, 12), (200, 100, -12), (100, 105, 1), (0, 200, 0), (200, 0, 0)]
)
def test_registers_are_whole_semitones_apart(median: float, register: float, semitones: int) -> None:
    assert semitones_to(median, register) == semitones


def test_the_middle_of_nothing_voiced_is_zero() -> None:
    assert median_f0_hz(np.array([100.0], np.float32), np.array([False])) == 0
    assert median_f0_hz(np.array([100.0, 300, 200], np.float32), np.array([True, True, True])) == 200


def test_the_cosine_is_one_for_the_same_direction() -> None:
    a = np.array([1, 2, 3], np.float32)
    assert cosine(a, 2 * a) == pytest.approx(1) and cosine(a, -a) == pytest.approx(-1)


@given(st.floats(-80, 0))
def test_audio_is_judged_at_one_level_and_never_clips(level_db: float) -> None:
    audio = (10 ** (level_db / 20) * np.sin(np.arange(16000) * 0.1)).astype(np.float32)
    levelled = at_level(audio)
    assert 20 * np.log10(np.sqrt(np.mean(levelled**2))) == pytest.approx(-23, abs=0.1)
    peaky = np.zeros(16000, np.float32)
    peaky[::4000] = 0.5
    assert np.abs(at_level(peaky)).max() <= 0.99
    assert np.array_equal(at_level(np.zeros(10, np.float32)), np.zeros(10))
