"""The registry finds voices and their indexes in folders, and never turns a name into a path."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvcd.errors import VoiceNotFoundError
from rvcd.models.registry import VoiceRegistry


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def indexes(folder: Path) -> dict[str, str | None]:
    entries = VoiceRegistry.scan([folder]).entries
    return {entry.name: entry.index_path.name if entry.index_path else None for entry in entries}


def test_voices_get_slots_in_the_order_of_their_names(tmp_path: Path) -> None:
    registry = VoiceRegistry.scan([make(tmp_path, "zoe.pth", "Bob.pth", "anna/anna v2.pth", "notes.txt", "x.index")])
    assert [(entry.slot, entry.name) for entry in registry.entries] == [(1, "anna v2"), (2, "Bob"), (3, "zoe")]
    assert registry.find(2).path == tmp_path / "Bob.pth"
    assert registry.find("zoe").slot == 3
    assert registry.find("bob").slot == 2


def test_an_index_is_found_by_stem_by_rvc_s_name_or_by_being_alone(tmp_path: Path) -> None:
    make(tmp_path / "a", "one.pth", "two.pth", "three.pth", "one.index", "added_IVF256_Flat_nprobe_1_two_v2.index", "other.index")
    assert indexes(tmp_path / "a") == {"one": "one.index", "three": None, "two": "added_IVF256_Flat_nprobe_1_two_v2.index"}
    make(tmp_path / "b", "solo.pth", "whatever.index", "trained_IVF256_Flat_nprobe_1_solo_v2.index")
    assert indexes(tmp_path / "b") == {"solo": "whatever.index"}
    make(tmp_path / "c", "solo.pth", "x.index", "y.index")
    assert indexes(tmp_path / "c") == {"solo": None}
    make(tmp_path / "d", "ann.pth", "joann.pth", "added_IVF8_Flat_nprobe_1_joann_v1.index")
    assert indexes(tmp_path / "d") == {"ann": None, "joann": "added_IVF8_Flat_nprobe_1_joann_v1.index"}


def test_files_that_are_no_voices_are_passed_over_with_the_reason(tmp_path: Path) -> None:
    make(tmp_path, "G_2333.pth", "D_2333.pth", "ok.pth", "bad;name.pth", "x" * 65 + ".pth", ".hidden.pth")
    (tmp_path / "folder.pth").mkdir()
    registry = VoiceRegistry.scan([tmp_path, tmp_path / "none"])
    assert registry.names == ("ok",)
    reasons = "\n".join(registry.skipped)
    assert reasons.count("training checkpoint") == 2
    assert reasons.count("its name has") == 2
    assert "none: cannot be read" in reasons


def test_of_two_voices_of_one_name_the_first_folder_s_is_kept(tmp_path: Path) -> None:
    registry = VoiceRegistry.scan([make(tmp_path / "a", "v.pth"), make(tmp_path / "b", "v.pth")])
    assert [entry.path for entry in registry.entries] == [tmp_path / "a" / "v.pth"]
    assert "which has the same name" in registry.skipped[0]


def test_an_unknown_voice_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    registry = VoiceRegistry.scan([make(tmp_path, "Caroline.pth", "Bob.pth")])
    for wrong, said in (("carolne", "did you mean 'Caroline'?"), ("qqq", "known: Bob, Caroline")):
        with pytest.raises(VoiceNotFoundError) as caught:
            registry.find(wrong)
        assert said in str(caught.value)
    for slot in (0, -1, 3, 10**12):
        with pytest.raises(VoiceNotFoundError, match=r"slots 1\.\.2 hold voices"):
            registry.find(slot)


def test_an_empty_registry_says_where_to_put_voices(tmp_path: Path) -> None:
    with pytest.raises(VoiceNotFoundError, match="there are no voices in"):
        VoiceRegistry.scan([tmp_path]).find("x")


@given(st.text(max_size=80))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_finds_a_scanned_file_or_nothing(tmp_path: Path, name: str) -> None:
    registry = VoiceRegistry.scan([make(tmp_path, "a.pth")])
    try:
        found = registry.find(name)
    except VoiceNotFoundError:
        return
    assert found.path == tmp_path / "a.pth"


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a\x00b", "a/b", "", "a\nb"])
def test_a_name_that_is_a_path_is_refused_without_being_repeated(tmp_path: Path, name: str) -> None:
    with pytest.raises(VoiceNotFoundError, match="that is no voice's name"):
        VoiceRegistry.scan([make(tmp_path, "a.pth")]).find(name)
