"""Presets: a book of named parameter sets, and its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.daemon.presets import MAX_PRESETS, Preset, PresetBook, load_presets, presets_path, save_presets
from rvcd.errors import PresetError
from rvcd.params import BY_NAME, VOICE_PARAMS
from rvcd.protocol import NAME_PATTERN
from tests.param_values import values_of

VALUES = {param.name: param.default for param in VOICE_PARAMS}
BOOK = PresetBook((Preset("Deep", {**VALUES, "pitch": -5.0}), Preset("Robot 2", VALUES)))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = presets_path(tmp_path / "state" / "state.json")
    save_presets(BOOK, path)
    assert path == tmp_path / "state" / "presets.json"
    assert load_presets(path) == (BOOK, None)


def test_presets_are_found_by_name_and_by_number_from_1() -> None:
    assert BOOK.find("Robot 2") == BOOK.find(2)
    for wrong in (0, 3, -1):
        with pytest.raises(PresetError, match=r"1\.\.2: Deep, Robot 2"):
            BOOK.find(wrong)
    with pytest.raises(PresetError, match="did you mean 'Deep'"):
        BOOK.find("Depe")
    with pytest.raises(PresetError, match="none has been saved"):
        PresetBook().find(1)


def test_saving_again_keeps_the_place_and_the_next_number_makes_a_new_one() -> None:
    again, name = BOOK.put("Deep", {"pitch": 1.0})
    assert (name, again.names, again.find(1).params["pitch"]) == ("Deep", BOOK.names, 1.0)
    again, name = BOOK.put(1, {"pitch": 2.0})
    assert (name, again.find("Deep").params["pitch"]) == ("Deep", 2.0)
    more, name = BOOK.put(3, VALUES)
    assert (name, more.names) == ("preset 3", ("Deep", "Robot 2", "preset 3"))
    taken, _ = PresetBook().put("preset 2", VALUES)
    assert taken.put(2, VALUES)[1] == "preset 3"
    with pytest.raises(PresetError):
        BOOK.put(5, VALUES)


@pytest.mark.parametrize("name", ["", " ", "a/b", "a\nb", "x" * 65, "\x1b[2J", "a\0b"])
def test_a_name_that_cannot_be_one_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(PresetError, match="1 to 64 letters"):
        PresetBook().put(name, VALUES)


def test_there_is_a_most() -> None:
    book = PresetBook()
    for number in range(MAX_PRESETS):
        book, _ = book.put(f"p{number}", VALUES)
    assert book.put("p0", {"pitch": 3.0})[0].find("p0").params == {"pitch": 3.0}
    with pytest.raises(PresetError, match=f"{MAX_PRESETS} presets"):
        book.put("one more", VALUES)


def test_deleting_moves_the_later_ones_up() -> None:
    book, name = BOOK.without(1)
    assert (name, book.names, book.find(1).name) == ("Deep", ("Robot 2",), "Robot 2")


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", '{"format": 2, "presets": []}', '{"format": 1}', '{"format": 1, "presets": [{}]}',
        '{"format": 1, "presets": [{"name": "../x", "params": {}}]}', '{"format": 1, "presets": [{"name": "x", "params": 3}]}',
        '{"format": 1, "presets": [{"name": "x", "params": {"pitch": "high"}}]}',
    ],
)  # fmt: skip
def test_a_corrupt_file_is_set_aside_with_a_warning(content: str, tmp_path: Path) -> None:
    path = tmp_path / "presets.json"
    path.write_text(content)
    book, warning = load_presets(path)
    assert book == PresetBook()
    assert warning is not None and "presets.json.corrupt" in warning
    assert (tmp_path / "presets.json.corrupt").read_text() == content


def test_unknown_parameters_are_dropped_and_values_out_of_range_limited(tmp_path: Path) -> None:
    path = tmp_path / "presets.json"
    path.write_text(json.dumps({"format": 1, "presets": [{"name": "x", "params": {"pitch": 99, "breath": 1}}]}))
    assert load_presets(path)[0].find("x").params == {"pitch": BY_NAME["pitch"].high}


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "without"]), st.integers(-1, 5) | st.sampled_from(["a", "b", "a b", "preset 2", "/"])),
        max_size=20,
    )
)
def test_whatever_is_done_names_stay_unique_and_numbers_dense(changes: list[tuple[str, int | str]]) -> None:
    book = PresetBook()
    for change, which in changes:
        try:
            book, name = book.put(which, VALUES) if change == "put" else book.without(which)
        except PresetError:
            continue
        assert (name in book.names) is (change == "put")
    assert len(set(book.names)) == len(book.names)
    assert [book.find(number).name for number in range(1, len(book.names) + 1)] == list(book.names)


NAMES = st.from_regex(NAME_PATTERN, fullmatch=True).map(str.strip).filter(bool)
PARAMS_OF_A_PRESET = st.fixed_dictionaries({}, optional={param.name: values_of(param) for param in VOICE_PARAMS})


@given(st.lists(st.builds(Preset, name=NAMES, params=PARAMS_OF_A_PRESET), unique_by=lambda preset: preset.name, max_size=5))
def test_every_book_comes_back_as_it_was_saved(tmp_path_factory: pytest.TempPathFactory, presets: list[Preset]) -> None:
    path = presets_path(tmp_path_factory.mktemp("presets") / "state.json")
    save_presets(PresetBook(tuple(presets)), path)
    assert load_presets(path) == (PresetBook(tuple(presets)), None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "params", "pitch"]), inner, max_size=3),
    max_leaves=9,
)


@given(st.lists(JSON, max_size=3))
def test_any_document_is_a_book_or_set_aside_with_a_reason(
    tmp_path_factory: pytest.TempPathFactory, entries: list[object]
) -> None:
    path = presets_path(tmp_path_factory.mktemp("presets") / "state.json")
    path.write_text(json.dumps({"format": 1, "presets": entries}))
    book, warning = load_presets(path)
    assert (warning is None) == path.exists()
    assert warning is None or (book == PresetBook() and "\n" not in warning)
