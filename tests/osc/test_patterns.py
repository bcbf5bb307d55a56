from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.osc.patterns import MAX_PATTERN_CHARS, is_pattern, match
from rvcd.osc.verbs import VERBS
from tests.osc.packets import STARS


@pytest.mark.parametrize(
    ("pattern", "address", "expected"),
    [
        ("/rvc/pitch", "/rvc/pitch", True),
        ("/rvc/pitc", "/rvc/pitch", False),
        ("/rvc/*", "/rvc/pitch", True),
        ("/rvc/*", "/rvc/gain/in", False),
        ("/*/*/in", "/rvc/gain/in", True),
        ("/rvc/p*h", "/rvc/pitch", True),
        ("/rvc/p*t", "/rvc/pitch", False),
        ("/rvc/**", "/rvc/pitch", True),
        ("/rvc/*pitch*", "/rvc/pitch", True),
        ("/rvc/?itch", "/rvc/pitch", True),
        ("/rvc/??", "/rvc/pitch", False),
        ("/rvc?pitch", "/rvc/pitch", False),
        ("/rvc/gain/{in,out}", "/rvc/gain/out", True),
        ("/rvc/gain/{in,out}", "/rvc/gain/inout", False),
        ("/rvc/{p,pi,pit}*h", "/rvc/pitch", True),
        ("/rvc/{,p}itch", "/rvc/pitch", True),
        ("/rvc/[a-p]itch", "/rvc/pitch", True),
        ("/rvc/[z-a]itch", "/rvc/pitch", True),
        ("/rvc/[!a-o]itch", "/rvc/pitch", True),
        ("/rvc/[!p]itch", "/rvc/pitch", False),
        ("/rvc/[p-]itch", "/rvc/pitch", True),
        ("/rvc/[]pitch", "/rvc/pitch", False),
        ("/rvc/[pitch", "/rvc/pitch", False),
        ("/rvc/{pitch", "/rvc/pitch", False),
        ("/rvc/{gain/in}", "/rvc/gain/in", False),
        ("/rvc/pitch]", "/rvc/pitch]", False),
        ("*", "", True),
    ],
)
def test_patterns_match_as_osc_1_0_says(pattern: str, address: str, expected: bool) -> None:
    assert match(pattern, address) is expected


@given(st.text("ab*?/", max_size=12), st.text("ab/", max_size=12))
@settings(max_examples=300)
def test_stars_and_question_marks_agree_with_a_regular_expression(pattern: str, address: str) -> None:
    as_regex = "".join({"*": "[^/]*", "?": "[^/]"}.get(char, char) for char in pattern)
    assert match(pattern, address) == bool(re.fullmatch(as_regex, address))


@given(st.lists(st.sampled_from(["a", "b", "[ab]", "[!a]", "{a,ab}", "{b,}", "*"]), max_size=7), st.text("abc", max_size=10))
@settings(max_examples=300)
def test_brackets_and_braces_agree_with_a_regular_expression(parts: list[str], address: str) -> None:
    regex = {"[!a]": "[^a/]", "{a,ab}": "(?:a|ab)", "{b,}": "(?:b|)", "*": "[^/]*"}
    expected = bool(re.fullmatch("".join(regex.get(part, part) for part in parts), address))
    assert match("".join(parts), address) is expected


@given(st.text(max_size=MAX_PATTERN_CHARS + 10), st.text(max_size=40))
@settings(max_examples=200)
def test_no_pattern_makes_matching_raise(pattern: str, address: str) -> None:
    assert match(pattern, address) in (True, False)


@pytest.mark.parametrize(
    "pattern",
    [STARS, "/" + "*a" * 60, "/" + "{a,aa}" * 20, "/" + "[!b-z]*" * 17, "/" + "{" + "a," * 60 + "}", "*" * 128, "*" * 10**6],
)
def test_patterns_that_make_others_backtrack_are_matched(pattern: str) -> None:
    addresses = ["/" + "a" * 200 + "b", *(verb.full_address for verb in VERBS)]
    # A matcher that backtracks would take years.
    for address in addresses:
        match(pattern, address)


def test_is_pattern_finds_every_wildcard_character() -> None:
    assert all(is_pattern(f"/rvc/{char}") for char in "?*[]{}")
    assert not any(is_pattern(verb.full_address) for verb in VERBS)
