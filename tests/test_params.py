"""The table of live parameters: numbers, and words that stand for numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.errors import ParamError
from rvcd.params import BY_NAME, GROUPS, PARAMS, VOICE_PARAMS, ParamStore, Snapshot

KEY, SCALE = BY_NAME["autotune_key"], BY_NAME["autotune_scale"]


def test_every_parameter_belongs_to_a_group_and_a_snapshot_has_those_of_the_voice() -> None:
    assert {param.group for param in PARAMS} == set(GROUPS)
    assert Snapshot().values() == tuple(param.default for param in VOICE_PARAMS)
    for param in PARAMS:
        if param.choices:
            assert (param.low, param.high, param.step) == (0.0, len(param.choices) - 1, 1.0)


@pytest.mark.parametrize(("word", "value"), [("C", 0), ("c#", 1), ("Db", 1), ("bB", 10), (" b ", 11), ("7", 7), ("99", 11)])
def test_a_word_stands_for_its_number(word: str, value: float) -> None:
    assert KEY.named(word) == value == KEY.named(KEY.word(value))


def test_an_unknown_word_is_refused_with_those_there_are() -> None:
    with pytest.raises(ParamError, match=r"autotune_key takes one of C, C#, D, .*, B, not 'H'"):
        ParamStore().set("autotune_key", "H")
    with pytest.raises(ParamError, match=r"pitch takes a number in -24\.\.24 semitones, not 'high'"):
        ParamStore().set("pitch", "high")


@given(st.floats(-1e9, 1e9))
def test_a_number_for_words_becomes_a_whole_one_of_theirs(value: float) -> None:
    applied = ParamStore().set("autotune_scale", value)
    assert applied in range(len(SCALE.choices)) and abs(applied - min(max(value, SCALE.low), SCALE.high)) <= 0.5


def test_no_number_is_none_of_the_words() -> None:
    with pytest.raises(ParamError, match="must be a finite number"):
        KEY.clamp(math.nan)
