"""Names of daemons: what may be one, and that no two of them share what is called after them."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.errors import RvcdError
from rvcd.instance import check_name, client_name, full_name, is_microphone_node, microphone_node, shown_name

ALPHABET = string.ascii_letters + string.digits + "-_"
names = st.text(ALPHABET, min_size=1, max_size=32)


@given(names)
def test_letters_digits_dash_and_underscore_are_a_name(name: str) -> None:
    assert check_name(name) == name


@given(st.text(max_size=80))
def test_anything_else_is_refused_in_one_line_that_says_what_is_taken(text: str) -> None:
    if re.fullmatch(r"[A-Za-z0-9_-]{1,32}", text) and text.isascii():
        return
    with pytest.raises(RvcdError) as refused:
        check_name(text)
    sentence = str(refused.value)
    assert sentence.isprintable() and len(sentence) < 500
    assert "1 to 32 letters without accents, digits, - and _" in sentence


@pytest.mark.parametrize("text", ["", " ", "a b", "Zoë", "a/b", "..", "a.b", "a@b", "x" * 33, "deep\n", "%i", "a:b", "٣"])
def test_what_no_file_unit_or_server_could_hold_is_no_name(text: str) -> None:
    with pytest.raises(RvcdError, match="is no name for a daemon"):
        check_name(text)


@given(names, names)
def test_nothing_that_is_called_after_a_name_is_called_so_after_another_or_without_one(one: str, other: str) -> None:
    for called in (full_name, client_name, shown_name):
        assert called(one) != called("")
        assert (called(one) == called(other)) is (one == other)


def test_without_a_name_everything_is_called_rvcd() -> None:
    assert (full_name(""), client_name(""), shown_name("")) == ("rvcd", "rvcd", "rvcd")
    assert (full_name("deep"), client_name("deep"), shown_name("deep")) == ("rvcd@deep", "rvcd-deep", "rvcd 'deep'")


@given(names)
def test_the_microphone_of_every_name_is_known_as_one_of_rvcd_s(name: str) -> None:
    assert is_microphone_node(microphone_node(name)) and is_microphone_node(microphone_node(""))
    assert microphone_node(name) != microphone_node("")


@pytest.mark.parametrize(
    "node", ["", "microphone", "rvcd--microphone", "rvcd-microphone-sink", "rvcd-a.b-microphone", "my-rvcd-microphone"]
)
def test_another_node_is_none(node: str) -> None:
    assert not is_microphone_node(node)
