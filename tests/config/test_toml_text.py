"""TOML files as editors write them: byte order marks, curly quotes, paths of Windows; each cause is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.config.settings import load_config
from rvcd.config.toml_text import decode_toml, parse_toml, windows_path_problem
from rvcd.errors import ConfigError
from rvcd.voices.voice_toml import read_voice_toml

BOM = b"\xef\xbb\xbf"


def refusal_of_both(path: Path, config: bytes, voice: bytes) -> list[str]:
    """Return what is said of the same mistake in a configuration and in a voice.toml."""
    path.write_bytes(config)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    path.write_bytes(voice)
    _, problems = read_voice_toml(path)
    assert "\n" not in str(caught.value) + problems[0]
    assert str(caught.value).startswith(f"{path}: ") and problems[0].startswith(f"{path}: ")
    return [str(caught.value), problems[0]]


def test_a_byte_order_mark_is_accepted_in_both_kinds_of_file(tmp_path: Path) -> None:
    path = tmp_path / "bom.toml"
    path.write_bytes(BOM + b"[engine]\r\nseed = 1\r\n")
    assert load_config(path).engine.seed == 1
    path.write_bytes(BOM + b"slot = 3\r\n")
    assert read_voice_toml(path)[0].slot == 3 and read_voice_toml(path)[1] == ()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_another_encoding_is_named_with_the_fix(tmp_path: Path, encoding: str) -> None:
    mark = b"\xff\xfe" if encoding == "utf-16-le" else b""
    texts = ["[audio]\ninput = '\u00e4'\n", "slot = 3\nname = '\u00e4'\n"]
    for said in refusal_of_both(tmp_path / "a.toml", *(mark + text.encode(encoding) for text in texts)):
        assert "save it as UTF-8" in said
        assert ("is UTF-16 text" if encoding != "latin-1" else "is not UTF-8 text: line 2, byte") in said


@pytest.mark.parametrize("quote", "\u201c\u201d\u201e\u00ab\u2018\u2019\u00b4")
def test_a_curly_quote_is_named_with_its_line(tmp_path: Path, quote: str) -> None:
    texts = (f"[audio]\ninput = {quote}default{quote}\n", f"slot = 1\nname = {quote}Anna{quote}\n")
    for said in refusal_of_both(tmp_path / "a.toml", *(text.encode() for text in texts)):
        assert f"line 2 has the curly quote {quote}; write a straight one" in said


def test_curly_quotes_inside_a_text_are_no_mistake(tmp_path: Path) -> None:
    assert parse_toml("a = '\u201cx\u201d'\nb = \"don\u2019t\"") == {"a": "\u201cx\u201d", "b": "don\u2019t"}
    with pytest.raises(ValueError, match=r"not valid TOML: (?!.*curly)"):
        parse_toml("a = '\u201cx\u201d' b")


@pytest.mark.parametrize(
    "value", [r'"C:\Users\anna\x"', r'"C:\voices\x"', r'"C:\temp\new"', r"'C:\Users\anna\x'", '"D:/x"', r'"\temp"']
)
def test_a_path_of_windows_is_named_whatever_toml_made_of_it(tmp_path: Path, value: str) -> None:
    texts = (f"[models]\nrmvpe = {value}\n", f"slot = 1\nindex = {value}\n")
    for said in refusal_of_both(tmp_path / "a.toml", *(text.encode() for text in texts)):
        assert "is a path" in said or "in double quotes a backslash begins an escape" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("name = Anna", "line 2: text must stand in quotes: name = 'text'"),
        ("name = /home/x", "line 2: text must stand in quotes"),
        ("name: 'Anna'", "line 2: a key and its value are joined by =, not by a colon"),
        ("name =\u00a0'Anna'", "line 2, column 7 is U+00A0, no-break space; delete it and type it anew"),
    ],
)
def test_other_usual_mistakes_are_named_too(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^is not valid TOML: ") as caught:
        parse_toml(f"slot = 1\n{line}\n")
    assert said in str(caught.value)


@given(
    st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | st.text("a=\"'\\\u201c\n[]:C. ", max_size=40).map(str.encode)
)
def test_any_bytes_are_parsed_or_refused_in_words(data: bytes) -> None:
    refusal = ""
    try:
        parse_toml(decode_toml(data))
    except ValueError as error:
        refusal = str(error)
    assert refusal == "" or refusal.startswith(("is not valid TOML: ", "is not UTF-8 text: ", "is UTF-16 text"))


@given(st.text(st.characters(blacklist_characters="\b\t\n\f\r\x1b:"), max_size=30))
def test_a_path_of_this_system_is_no_path_of_windows(text: str) -> None:
    assert windows_path_problem(text) == ""
