"""The registry finds voices and their indexes in folders, and never turns a name into a path."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from rvcd.errors import VoiceNotFoundError
from rvcd.voices.registry import VoiceRegistry, assign_slots, voice_of_file
from rvcd.voices.voice_folders import choose_index, voices_in
from tests.formats.hostile import voice_dict


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


@pytest.mark.parametrize(
    "end", ["_e200_s12400", "_e200", "_s12400", "_200e_12400s", "_200e_12400s_best_epoch", "_E200_S12400", ""]
)
def test_a_voice_named_by_how_far_it_was_trained_has_the_index_of_its_name(tmp_path: Path, end: str) -> None:
    indexes_there = ("added_IVF8_Flat_nprobe_1_Ann_v2.index", "added_IVF8_Flat_nprobe_1_Bert_v2.index", "Carl.index")
    make(tmp_path, f"Ann{end}.pth", f"bert{end}.pth", f"Carl{end}.pth", *indexes_there)
    registry = VoiceRegistry.scan([tmp_path])
    assert sorted(entry.index_path.name for entry in registry.entries if entry.index_path) == sorted(indexes_there)
    assert [(e.name[0].upper(), e.index_path.stem.removesuffix("_v2")[-3:]) for e in registry.entries if e.index_path] == [
        ("A", "Ann"), ("B", "ert"), ("C", "arl")
    ]  # fmt: skip
    assert registry.skipped == ()


@given(
    name=st.text("abcXYZ_- 0189se", min_size=1, max_size=12),
    ends=st.lists(st.sampled_from(["_e1", "_s20", "_3e", "_40s", "_best_epoch"]), max_size=3),
    kind=st.sampled_from(["added_IVF8_Flat_nprobe_1_{}_v2.index", "added_{}_v1.index", "added_IVF8_Flat_nprobe_1_{}.index"]),
)
def test_any_name_with_any_end_of_training_has_the_index_of_the_name(name: str, ends: list[str], kind: str) -> None:
    others = ["added_IVF8_Flat_nprobe_1_QQ_v2.index", "trained_IVF8_Flat_nprobe_1_QQ_v2.index"]
    if choose_index(name, [kind.format(name)], alone=False):  # the name itself is no end of training
        assert choose_index(name + "".join(ends), sorted([kind.format(name), *others]), alone=False) == kind.format(name)


def test_an_index_that_is_no_voice_s_is_passed_over_with_the_reason(tmp_path: Path) -> None:
    make(tmp_path / "a", "ann.pth", "bob.pth", "other.index", "ann.index", "added_ann_v2.index", "trained_ann_v2.index")
    make(tmp_path / "b", "solo.pth", "x.index", "y.index")
    make(tmp_path / "c", "cat.pth", "dog.pth", "trained_IVF8_cat_v2.index")
    make(tmp_path / "d", "lost.index")
    make(tmp_path / "e", "eve.pth", "fay.pth", *(f"{i}.index" for i in range(500)))
    said = {
        str(Path(s.split(": ")[0]).relative_to(tmp_path)): s.partition(": ")[2] for s in VoiceRegistry.scan([tmp_path]).skipped
    }
    no_ones = "is passed over: by its name it is no voice's here; rename it after one "
    assert said == {
        "a/added_ann_v2.index": "is passed over: ann.index is nearer to the name of ann.pth",
        "a/other.index": no_ones + "(ann.index), or name it in ann.toml",
        "b/x.index": no_ones + "(solo.index), or name it in solo.toml",
        "b/y.index": no_ones + "(solo.index), or name it in solo.toml",
        "c/trained_IVF8_cat_v2.index": "is passed over: it is the empty first half of an index by its name; "
        "use the added_*.index of the same training",
        "d/lost.index": "is passed over: there is no voice beside it; put it into the folder of its .pth",
        "e": "500 indexes are passed over (0.index, 1.index, 10.index, ...): no voice there has their names",
    }


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
    assert reasons.count("names have 1 to 64 letters") == 2
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


# ---- voice.toml


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_voice_toml_names_and_sets_the_one_voice_of_its_folder(tmp_path: Path) -> None:
    make(tmp_path / "a", "model_e200.pth", "one.index", "two.index")
    write(
        tmp_path / "a" / "voice.toml",
        'name = "Anna"\nslot = 7\nindex = "two.index"\nspeaker = 2\ngain_db = -3\n[params]\npitch = 4',
    )
    registry = VoiceRegistry.scan([make(tmp_path, "Bob.pth")])
    anna = registry.find("Anna")
    assert (anna.slot, anna.path.name, anna.speaker, anna.gain_db, dict(anna.params)) == (
        7,
        "model_e200.pth",
        2,
        -3.0,
        {"pitch": 4.0},
    )
    assert anna.index_path == tmp_path / "a" / "two.index"
    assert [(entry.slot, entry.name) for entry in registry.entries] == [(1, "Bob"), (7, "Anna")]
    assert registry.skipped == ()


def test_in_a_flat_folder_each_voice_has_a_toml_of_its_own_name(tmp_path: Path) -> None:
    make(tmp_path, "anna.pth", "bob.pth")
    write(tmp_path / "anna.toml", "gain_db = 2")
    write(tmp_path / "voice.toml", "gain_db = 9")
    registry = VoiceRegistry.scan([tmp_path])
    assert [entry.gain_db for entry in registry.entries] == [2.0, 0.0]
    (sentence,) = registry.skipped
    assert sentence.startswith(f"{tmp_path / 'voice.toml'}: is passed over: 2 voices are beside it")
    assert "anna.toml" in sentence


def test_a_toml_of_the_voice_s_name_comes_before_voice_toml(tmp_path: Path) -> None:
    make(tmp_path / "x", "anna.pth")
    write(tmp_path / "x" / "anna.toml", "gain_db = 2")
    write(tmp_path / "x" / "voice.toml", "gain_db = 9")
    assert VoiceRegistry.scan([tmp_path]).find("anna").gain_db == 2.0


def test_a_voice_called_voice_has_voice_toml_wherever_it_is(tmp_path: Path) -> None:
    make(tmp_path, "anna.pth", "voice.pth")
    write(tmp_path / "voice.toml", "gain_db = 9")
    registry = VoiceRegistry.scan([tmp_path])
    assert (registry.find("voice").gain_db, registry.skipped) == (9.0, ())


def test_a_bad_voice_toml_leaves_the_voice_usable_and_is_reported(tmp_path: Path) -> None:
    make(tmp_path / "a", "anna.pth", "anna.index")
    write(tmp_path / "a" / "voice.toml", 'name = "Renamed"\nslot = 1000')
    registry = VoiceRegistry.scan([tmp_path])
    (entry,) = registry.entries
    assert (entry.name, entry.slot, entry.index_path) == ("anna", 1, tmp_path / "a" / "anna.index")
    assert registry.skipped == entry.problems
    assert entry.problems == (
        f"{tmp_path / 'a' / 'voice.toml'}: slot: 1000 is too large; it takes a whole number, 1..999 "
        "(all of voice.toml is ignored until then)",
    )


def test_an_index_that_is_not_beside_the_voice_is_reported(tmp_path: Path) -> None:
    make(tmp_path / "a", "anna.pth", "other.index")
    toml = write(tmp_path / "a" / "voice.toml", 'index = "anna.index"')
    entry = voice_of_file(tmp_path / "a" / "anna.pth")
    assert entry.index_path == tmp_path / "a" / "other.index"
    assert "index: 'anna.index' is not beside the voice; there are other.index" in entry.problems[0]
    toml.write_text('index = ""')
    assert voice_of_file(tmp_path / "a" / "anna.pth").index_path is None


def test_a_file_whose_name_will_not_do_can_be_named_by_its_toml(tmp_path: Path) -> None:
    make(tmp_path / "a", "Anna [RVC v2].pth")
    assert VoiceRegistry.scan([tmp_path]).names == ()
    write(tmp_path / "a" / "voice.toml", 'name = "Anna"')
    assert VoiceRegistry.scan([tmp_path]).names == ("Anna",)


def test_of_two_voices_that_want_one_slot_the_first_by_name_has_it_and_the_other_is_reported(tmp_path: Path) -> None:
    make(tmp_path, "a/zoe.pth", "b/bob.pth", "c/cat.pth")
    zoe = write(tmp_path / "a" / "voice.toml", "slot = 2")
    write(tmp_path / "b" / "voice.toml", "slot = 2")
    registry = VoiceRegistry.scan([tmp_path])
    assert {entry.name: entry.slot for entry in registry.entries} == {"bob": 2, "cat": 1, "zoe": 3}
    (sentence,) = registry.skipped
    assert sentence.startswith(f"{zoe}: slot: 2 is also the slot of 'bob'") and "'zoe' is in slot 3" in sentence


def test_slots_with_gaps_are_found_and_an_empty_one_names_those_that_hold_voices(tmp_path: Path) -> None:
    make(tmp_path, "a/anna.pth", "b/bob.pth", "c/cat.pth")
    write(tmp_path / "a" / "voice.toml", "slot = 9")
    registry = VoiceRegistry.scan([tmp_path])
    assert registry.find(9).name == "anna"
    with pytest.raises(VoiceNotFoundError) as caught:
        registry.find(3)
    assert str(caught.value) == "no voice is in slot 3; slots 1..2, 9 hold voices"


def test_special_files_called_voice_toml_are_reported_and_harmless(tmp_path: Path) -> None:
    make(tmp_path, "a/anna.pth", "b/bob.pth", "c/cat.pth")
    (tmp_path / "a" / "voice.toml").mkdir()
    (tmp_path / "b" / "voice.toml").symlink_to(tmp_path / "b" / "voice.toml")
    os.mkfifo(tmp_path / "c" / "voice.toml")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    registry = VoiceRegistry.scan([tmp_path])
    assert registry.names == ("anna", "bob", "cat")
    assert len(registry.skipped) == 3


def test_file_names_of_any_bytes_are_reported_on_one_printable_line(tmp_path: Path) -> None:
    for name in (b"a\nb.pth", b"\xff.pth", b"\x1b[31m.pth"):
        os.close(os.open(os.fsencode(tmp_path) + b"/" + name, os.O_CREAT))
    registry = VoiceRegistry.scan([tmp_path])
    assert len(registry.skipped) == 3 and not registry.entries
    assert all(sentence.isprintable() for sentence in registry.skipped)


def test_a_file_is_the_voice_that_a_scan_of_its_folder_finds(tmp_path: Path) -> None:
    make(tmp_path, "anna.pth", "added_IVF8_Flat_nprobe_1_anna_v2.index", "G_1.pth")
    found = voice_of_file(tmp_path / "anna.pth")
    assert (found.slot, found.name, found.index_path) == (0, "anna", tmp_path / "added_IVF8_Flat_nprobe_1_anna_v2.index")
    for name in ("G_1.pth", "none.pth"):
        assert voice_of_file(tmp_path / name).path == tmp_path / name


wanted_slots = st.dictionaries(st.text(min_size=1, max_size=6), st.integers(0, 999) | st.integers(0, 4), max_size=40)


@given(wanted_slots, st.randoms())
@settings(deadline=None)
def test_slots_are_distinct_within_bounds_kept_where_fixed_and_independent_of_the_order(
    wanted: dict[str, int], shuffler: random.Random
) -> None:
    slots = assign_slots(wanted)
    assert set(slots) == set(wanted)
    assert len(set(slots.values())) == len(slots) and all(1 <= slot <= 999 for slot in slots.values())
    ordered = sorted(wanted, key=lambda name: (name.casefold(), name))
    for slot in set(wanted.values()) - {0}:
        assert slots[next(name for name in ordered if wanted[name] == slot)] == slot
    # Those that chose no slot, or lost it, fill the lowest free ones in the order of names.
    rest = [name for name in ordered if slots[name] != wanted[name]]
    fixed = {slots[name] for name in wanted if name not in rest}
    assert [slots[name] for name in rest] == [slot for slot in range(1, 1000) if slot not in fixed][: len(rest)]
    items = list(wanted.items())
    shuffler.shuffle(items)
    assert assign_slots(dict(items)) == slots


def test_beyond_999_voices_those_with_fixed_slots_come_first_and_the_rest_is_reported(tmp_path: Path) -> None:
    slots = assign_slots({**{f"{number:04}": 0 for number in range(1200)}, "zoe": 999})
    assert len(slots) == 999 and slots["zoe"] == 999 and slots["0997"] == 998 and "0998" not in slots
    make(tmp_path, *(f"{number:04}.pth" for number in range(1001)))
    registry = VoiceRegistry.scan([tmp_path])
    assert len(registry.entries) == 999 and len(registry.skipped) == 2
    assert "is beyond the first 999 voices" in registry.skipped[0]


def test_the_registry_does_not_depend_on_the_order_of_a_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, *(f"{name}/{name}.pth" for name in ("zoe", "bob", "anna", "cat")))
    write(tmp_path / "zoe" / "voice.toml", "slot = 1")
    expected = VoiceRegistry.scan([tmp_path])
    listdir = os.listdir
    monkeypatch.setattr("os.listdir", lambda path: sorted(listdir(path), reverse=True))
    assert VoiceRegistry.scan([tmp_path]) == expected
    assert [voice.name for voice in voices_in(tmp_path / "bob", [])] == ["bob"]


def test_a_voice_may_be_a_pt_or_a_safetensors_and_other_models_beside_it_are_none(tmp_path: Path) -> None:
    content = voice_dict()
    torch.save(content, tmp_path / "Ann.pt")
    tensors = {key: value.contiguous() for key, value in content["weight"].items()}
    save_file(tensors, tmp_path / "Bert.safetensors", {"config": json.dumps(content["config"])})
    torch.save({"model": {"encoder.layer_norm.weight": torch.ones(3)}}, tmp_path / "hubert_base.pt")
    save_file({"x": torch.ones(3)}, tmp_path / "other.safetensors")
    registry = VoiceRegistry.scan([tmp_path])
    assert registry.names == ("Ann", "Bert")
    assert registry.skipped == ()
    assert voice_of_file(tmp_path / "Ann.pt").path == tmp_path / "Ann.pt"
