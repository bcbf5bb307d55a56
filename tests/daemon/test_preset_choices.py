"""Where measured latency presets are kept, and what a measurement depends on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from rvcd.config.settings import Settings, parse_config
from rvcd.daemon.preset_choices import MAX_CHOICES, PresetChoices, choice_key, sentence_of
from rvcd.errors import RvcdError
from rvcd.ipc.messages import Choice, VoiceFiles

ANNA = VoiceFiles("Anna", "/voices/anna.pth", identity="1")


def settings(tables: dict[str, object] | None = None) -> Settings:
    return parse_config(tables or {}, Path("/nowhere/rvcd.toml"))


def test_what_is_put_is_there_at_the_next_start(tmp_path: Path) -> None:
    choices = PresetChoices.load(tmp_path / "choices.json")
    assert choices.get("a") == ""
    choices.put("a", "low")
    choices.put("a", "safe")
    choices.save()
    assert PresetChoices.load(tmp_path / "choices.json").get("a") == "safe"


def test_the_oldest_are_let_go(tmp_path: Path) -> None:
    choices = PresetChoices.load(tmp_path / "choices.json")
    for number in range(MAX_CHOICES + 5):
        choices.put(str(number), "low")
    assert choices.get("4") == "" and choices.get("5") == "low"
    choices.save()
    assert PresetChoices.load(tmp_path / "choices.json").get(str(MAX_CHOICES + 4)) == "low"


def test_a_copy_does_not_change_with_the_original(tmp_path: Path) -> None:
    choices = PresetChoices.load(tmp_path / "choices.json")
    copy = choices.copy()
    choices.put("a", "low")
    assert copy.get("a") == ""


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"format": 1}', '{"format": 2, "presets": {"a": "low"}}', '{"format": 1, "presets": []}', "[" * 9999],
)
def test_a_file_that_cannot_be_understood_is_measured_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "choices.json").write_text(text)
    assert PresetChoices.load(tmp_path / "choices.json").get("a") == ""


def test_a_preset_that_is_none_is_measured_again(tmp_path: Path) -> None:
    document = {"format": 1, "presets": {"a": "quick", "b": 3, "c": ["low"], "d": "safe"}}
    (tmp_path / "choices.json").write_text(json.dumps(document))
    choices = PresetChoices.load(tmp_path / "choices.json")
    assert [choices.get(key) for key in "abcd"] == ["", "", "", "safe"]


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RvcdError, match="the latency presets that were measured cannot be saved"):
        PresetChoices.load(tmp_path / "file" / "choices.json").save()


def test_the_key_changes_with_all_that_a_measurement_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        choice_key(settings(), ANNA, "swift", "1"),
        choice_key(settings(), ANNA, "swift", "2"),
        choice_key(settings(), ANNA, "rmvpe", "1"),
        choice_key(settings(), replace(ANNA, identity="2"), "swift", "1"),
        choice_key(settings(), replace(ANNA, path="/voices/bert.pth"), "swift", "1"),
        choice_key(settings({"engine": {"threads": 1}}), ANNA, "swift", "1"),
        choice_key(settings({"engine": {"precision": "fp32"}}), ANNA, "swift", "1"),
    }
    monkeypatch.setattr("rvcd.daemon.preset_choices.processor_name", lambda: "another processor")
    keys.add(choice_key(settings(), ANNA, "swift", "1"))
    assert len(keys) == 8
    assert choice_key(settings(), replace(ANNA, gain_db=3.0), "swift", "1") in keys


def test_the_line_for_the_log_says_what_was_measured_and_what_decides_otherwise() -> None:
    sure, unsure = (sentence_of(Choice("low", {"low": 0.456, "balanced": 0.2}, sure)) for sure in (True, False))
    assert sure.startswith("latency preset low, chosen by measurement (a block takes of the time that it may take: low 46 %, ")
    assert "balanced 20 %); latency.preset decides otherwise" in sure
    assert "measured again" not in sure and "measured again at the next start" in unsure
