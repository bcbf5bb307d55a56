"""Names as people type them."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.errors import ProtocolError
from rvcd.osc.names import did_you_mean, find_name, whole_in
from rvcd.osc.router import _choice
from rvcd.protocol import F0_METHODS

CHARACTERS = string.ascii_letters + string.digits + " ._-äöß"
NAMES = st.lists(st.text(CHARACTERS, max_size=12).map(str.strip).filter(bool), min_size=1, max_size=8, unique=True)


@given(NAMES, st.data())
def test_a_name_in_another_case_is_that_name_or_none_where_two_would_fit(names: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(names))
    assert find_name(name, names) == name
    said = name.upper()
    alike = {other for other in names if other.casefold() == name.upper().casefold()}
    assert find_name(said, names) == (said if said in names else name if alike == {name} else None)


def test_two_names_that_differ_in_case_alone_are_never_guessed_between() -> None:
    assert find_name("ANNA", ("Anna", "anna")) is None
    assert find_name("anna", ("Anna", "anna")) == "anna"


@pytest.mark.parametrize(("wanted", "said"), [
    ("ann", "did you mean 'Anna'?"),
    ("ANN", "did you mean 'Anna'?"),
    ("anan", "did you mean 'Anna'?"),
    ("xyzxyz", "nothing"),
    ("", "nothing"),
])  # fmt: skip
def test_the_beginning_of_a_name_or_a_slip_is_answered_with_the_name(wanted: str, said: str) -> None:
    assert did_you_mean(wanted, ("Bo Li", "Anna"), "nothing") == said


@given(st.text(max_size=8))
def test_text_is_a_number_only_where_it_is_few_plain_digits(text: str) -> None:
    number = whole_in(text)
    assert number is None or (0 <= number <= 9999 and text.strip().isdigit())


def test_a_choice_is_taken_in_any_case_and_by_its_number_as_text() -> None:
    for number, name in enumerate(F0_METHODS):
        for said in (name, name.upper(), str(number), number, float(number)):
            assert _choice((said,), "F0 method", F0_METHODS) == name
    for wrong in ("99", "-1", "magic", ""):
        with pytest.raises(ProtocolError, match="F0 method"):
            _choice((wrong,), "F0 method", F0_METHODS)
