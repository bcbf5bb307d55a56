from __future__ import annotations

import math
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcctl.names import MAX_SLOT, READABLE, SETTABLE, Kind, Name, find_readable, find_settable, name_or_number, parse_value
from rvcctl.scripts.completion import _Escaped
from rvcd.errors import ParamError
from rvcd.osc.codec import encode
from rvcd.protocol import NAME_PATTERN

WORDS = st.one_of(
    st.text(max_size=40), st.floats().map(str), st.integers().map(str), st.sampled_from(["on", "OFF", " 1 ", "-0", "1e999"])
)


@given(st.sampled_from(list(SETTABLE.values())), WORDS)
def test_whatever_is_typed_is_a_value_of_its_kind_or_a_sentence_that_says_what_is_taken(known: Name, text: str) -> None:
    try:
        value = parse_value(known, text)
    except ParamError as error:
        reason = str(error)
    else:
        check_value(known, value)
        return
    assert reason == f"{known.name} takes {known.takes}, not '{text}'"


def check_value(known: Name, value: str | int | float) -> None:
    if known.kind is Kind.NUMBER:
        assert isinstance(value, float) and math.isfinite(value)
    elif known.kind is Kind.SWITCH:
        assert value in (0, 1)
    elif known.kind is Kind.WHOLE:
        assert isinstance(value, int) and 1 <= value <= MAX_SLOT
    else:
        assert isinstance(value, str | int)
    if isinstance(value, int):
        encode(known.set_address, value)  # fits the wire


@pytest.mark.parametrize(("written", "name"), [("gain/in", "gain_in"), ("/gain/in", "gain_in"), ("/f0/method", "f0_method")])
def test_a_name_may_be_written_as_its_address(written: str, name: str) -> None:
    assert find_settable(written).name == name
    assert find_readable(written) == name


def test_everything_that_can_be_set_can_be_read() -> None:
    assert set(SETTABLE) < set(READABLE)
    assert {"note", "cents", "state", "panic"} <= set(READABLE)


@pytest.mark.parametrize(
    ("word", "value"), [("3", 3), ("0012", 12), ("12345", "12345"), ("²", "²"), ("-1", "-1"), ("Anna", "Anna")]
)
def test_a_short_row_of_digits_is_a_number_and_all_else_a_name(word: str, value: str | int) -> None:
    assert name_or_number(word) == value


@given(st.from_regex(NAME_PATTERN, fullmatch=True))
def test_bash_reads_an_escaped_name_as_the_name(name: str) -> None:
    if not name.isascii():
        return  # shlex escapes no more than bash, but it knows only ASCII words
    assert shlex.split(_Escaped(name)) == [name]
    assert all(_Escaped(name).startswith(name[:length]) for length in range(len(name) + 1))
