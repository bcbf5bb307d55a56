"""voice.toml: what it may say, and that the worst that anything in one does is to be refused in one sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvcd.params import VOICE_PARAMS
from rvcd.protocol import NAME_PATTERN, NOTE_NAMES
from rvcd.voices.voice_toml import (
    MAX_BYTES,
    NOTHING_SAID,
    VoiceSettings,
    parse_voice_toml,
    read_voice_toml,
    voice_toml_text,
)
from tests.param_values import values_of

FULL = """
name = "Anna"
slot = 3
index = "added_IVF256_Flat_nprobe_1_anna_v2.index"
speaker = 1
gain_db = -2.5

[params]
pitch = 12
index_rate = 0.7
"""


def read(folder: Path, content: str | bytes) -> tuple[VoiceSettings, tuple[str, ...]]:
    path = folder / "voice.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_voice_toml(path)


def refused(folder: Path, content: str | bytes) -> str:
    """Return the one sentence that a file is refused with, without its path."""
    settings, problems = read(folder, content)
    assert settings == NOTHING_SAID
    assert len(problems) == 1 and "\n" not in problems[0] and len(problems[0]) < 500
    path = f"{folder / 'voice.toml'}: "
    assert problems[0].startswith(path)
    return problems[0].removeprefix(path)


def test_every_key_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, FULL) == (
        VoiceSettings("Anna", 3, "added_IVF256_Flat_nprobe_1_anna_v2.index", 1, -2.5, {"pitch": 12.0, "index_rate": 0.7}),
        (),
    )
    assert read(tmp_path, "") == (NOTHING_SAID, ())
    assert read(tmp_path, 'index = ""') == (VoiceSettings(index=""), ())


@pytest.mark.parametrize(
    "content, sentence",
    [
        ('encoder = "a b"', "encoder: 'a b' is no encoder's name; it takes 1 to 40 letters, digits, dots, dashes and "
                            "underscores"),
        ("slott = 3", "slott: unknown key; did you mean 'slot'?"),
        ("colour = 3", "colour: unknown key; known here: name, slot, index, speaker, gain_db, encoder, f0_median_hz, params"),
        ("pitch = 3", "pitch: is a parameter, and belongs in [params]"),
        ("[params]\nslot = 3", "params.slot: is no parameter; it belongs above [params]"),
        ("[params]\npich = 3", "params.pich: unknown parameter; did you mean 'pitch'?"),
        ("params = 3", "params: 3 is a whole number; it takes a table: [params], then one parameter a line"),
        ("slot = 0", "slot: 0 is too small; it takes a whole number, 1..999"),
        ("slot = 1000", "slot: 1000 is too large; it takes a whole number, 1..999"),
        ("slot = 2.0", "slot: 2.0 is a number; it takes a whole number, 1..999"),
        ("slot = true", "slot: true is a boolean; it takes a whole number, 1..999"),
        ('slot = "2"', "slot: '2' is text; it takes a whole number, 1..999"),
        ("speaker = -1", "speaker: -1 is too small; it takes a whole number, 0..9999"),
        ("gain_db = 24.5", "gain_db: 24.5 is too large; it takes a number, -24..24 dB"),
        ("gain_db = nan", "gain_db: nan is not finite; it takes a number, -24..24 dB"),
        ("gain_db = 2020-01-01", "gain_db: 2020-01-01 is a date or time; it takes a number, -24..24 dB"),
        ("[params]\npitch = 99", "params.pitch: 99 is too large; it takes a number, -24..24 semitones"),
        ("[params]\nprotect = -inf", "params.protect: -inf is not finite; it takes a number, 0..0.5"),
        ("[params]\nautotune_key = 'H'", "params.autotune_key: 'H' is not one of C, C#, D, D#, E, F, F#, G, G#, A, A#, B"),
        ("[params]\nautotune_key = 12", f"params.autotune_key: 12 is too large; it takes one of {', '.join(NOTE_NAMES)}"),
        ("[params]\nautotune_key = true", f"params.autotune_key: true is a boolean; it takes one of {', '.join(NOTE_NAMES)}"),
        ("[params]\ngate = [1]", "params.gate: '[...]' is a list; it takes a number, -90..0 dBFS"),
        ('name = "a/b"', "name: 'a/b' will not do; it takes 1 to 64 letters, digits, spaces, dots, dashes or underscores, "
                         "no space at either end"),
        ('name = " a"', "name: ' a' will not do; it takes 1 to 64 letters, digits, spaces, dots, dashes or underscores, "
                        "no space at either end"),
        ("name = {}", "name: '{...}' is a table; it takes text"),
        ('index = "../other.index"', "index: '../other.index' is a path; it takes the name of a file in the voice's own folder"),
        ('index = ".."', "index: '..' is a path; it takes the name of a file in the voice's own folder"),
        ('index = "C:\\\\x.index"', "index: 'C:\\x.index' is a path; it takes the name of a file in the voice's own folder"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_value_bound_and_fix(tmp_path: Path, content: str, sentence: str) -> None:
    assert refused(tmp_path, content) == sentence


def test_all_problems_are_told_at_once_and_nothing_is_half_obeyed(tmp_path: Path) -> None:
    settings, problems = read(tmp_path, 'name = "Anna"\nslot = 0\nspeaker = "x"\n[params]\npitch = 99\n')
    assert settings == NOTHING_SAID
    assert [problem.split(": ")[1] for problem in problems] == ["slot", "speaker", "params.pitch"]


def test_a_file_full_of_problems_is_told_in_a_few_sentences(tmp_path: Path) -> None:
    _, problems = read(tmp_path, "\n".join(f"{'key' * 100}{number} = 1" for number in range(100)))
    assert len(problems) == 6 and problems[-1] == f"{tmp_path / 'voice.toml'}: has 95 more problems"
    assert all(len(problem) < 300 for problem in problems)


@pytest.mark.parametrize(
    "content, words",
    [
        ("name = ", "is not valid TOML: Invalid value"),
        ("slot = 1\nslot = 2", "is not valid TOML"),
        (b"name = '\xff'", "is not UTF-8 text: line 1, byte 8 is 0xff; save it as UTF-8"),
        (b"\x00" * 10, "is not valid TOML"),
        ("#" * (MAX_BYTES + 1), f"has more than {MAX_BYTES:,} bytes"),
        ("name = '" + "x" * 5000 + "'", "line 1 has 5,009 characters, more than 1,000; break it"),
        ("slot = [\n" + "[\n" * 20_000, "has 20,001 brackets; it needs [params] and no other table or list"),
        ("slot = " + "[" * 200, "is not valid TOML"),
        ("slot = " + "9" * 900, "slot: a number of more digits than fit a line is too large"),
        ("slot = 0x" + "f" * 900, "slot: a number of more digits than fit a line is too large"),
        ("gain_db = 9999-99-99", "is not valid TOML"),
        ('name = "\\u001b[31m\\n"', "name: '?[31m?' will not do"),
        ('"a\\nb" = 1', "a?b: unknown key"),
    ],
)
def test_hostile_files_are_refused_in_one_printable_sentence(tmp_path: Path, content: str | bytes, words: str) -> None:
    sentence = refused(tmp_path, content)
    assert words in sentence and sentence.isprintable()


def test_dotted_keys_that_cost_the_parser_quadratic_time_never_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rvcd.voices.voice_toml.parse_toml", lambda text: pytest.fail("parsed"))
    assert "break it" in refused(tmp_path, ".".join(["a"] * 30_000) + " = 1")


def test_what_is_no_readable_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    for name, words in (
        ("folder", "is a folder"),
        ("pipe", "is no file"),
        ("loop", "is a link that leads nowhere"),
        ("dangling", "is a link that leads nowhere"),
    ):
        settings, problems = read_voice_toml(tmp_path / name)
        assert settings == NOTHING_SAID
        assert len(problems) == 1 and words in problems[0] and "remove it" in problems[0]


def test_a_file_that_may_not_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "voice.toml").write_text("slot = 1")
    monkeypatch.setattr(Path, "open", denied)  # tests may run as root, whom no mode bits stop
    _, problems = read_voice_toml(tmp_path / "voice.toml")
    assert problems == (f"{tmp_path / 'voice.toml'}: cannot be read: permission denied; mend that, or remove it",)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_makes_more_than_settings_or_sentences(tmp_path: Path, content: bytes) -> None:
    settings, problems = read(tmp_path, content)
    assert settings == NOTHING_SAID or not problems
    assert all(problem.isprintable() for problem in problems)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["name", "slot", "index", "speaker", "gain_db", "params", "x"]), values))
@settings(max_examples=200, deadline=None)
def test_whatever_the_tables_hold_the_settings_are_within_their_bounds(tables: dict[str, Any]) -> None:
    found, problems = parse_voice_toml(tables)
    assert 0 <= found.slot <= 999 and found.speaker >= 0 and -24 <= found.gain_db <= 24
    assert "/" not in (found.index or "")
    assert bool(problems) or set(found.params) <= {param.name for param in VOICE_PARAMS}


names = st.from_regex(NAME_PATTERN, fullmatch=True).filter(lambda name: name == name.strip())
params = st.fixed_dictionaries({}, optional={p.name: values_of(p) for p in VOICE_PARAMS})


def test_a_parameter_of_words_is_read_and_written_as_one(tmp_path: Path) -> None:
    found, problems = read(tmp_path, '[params]\nautotune_key = "eb"\nautotune_scale = "minor"\n')
    assert (found.params, problems) == ({"autotune_key": 3.0, "autotune_scale": 2.0}, ())
    assert 'autotune_key = "D#"\nautotune_scale = "minor"' in voice_toml_text(found)


@given(names, st.integers(1, 999), st.none() | st.sampled_from(["", "x.index", "ä'\"é.index"]), st.integers(0, 9999),
       st.floats(-24, 24), params, st.sampled_from(["", "spin-v2", "my.own_1"]))  # fmt: skip
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_reads_back_the_same(
    tmp_path: Path,
    name: str,
    slot: int,
    index: str | None,
    speaker: int,
    gain_db: float,
    params: dict[str, float],
    encoder: str,
) -> None:
    said = VoiceSettings(name, slot, index, speaker, gain_db, params, encoder)
    assert read(tmp_path, voice_toml_text(said)) == (said, ())
