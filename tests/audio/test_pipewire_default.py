"""The default source and sink, and rvcd's own microphones, as pw-dump shows them."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.audio.pipewire_default import PipeWireDevices, devices_in, objects_in, pipewire_devices

DUMP = [
    {"id": 29, "info": {"props": {"node.name": "mic_v", "node.description": "Mic V"}}},
    {"id": 45, "info": {"props": {"node.name": "a_mic", "node.description": "A: Mic"}}},
    {"id": 46, "info": {"props": {"node.name": "sink_b"}}},
    {"id": 32, "metadata": [{"subject": 0, "key": "clock.rate", "value": 48000}]},
    {
        "id": 34,
        "metadata": [
            {"subject": 0, "key": "default.audio.sink", "value": {"name": "sink_b"}},
            {"subject": 0, "key": "default.audio.source", "value": {"name": "a_mic"}},
        ],
    },
]
MICROPHONES = [
    {"info": {"props": {"node.name": "rvcd-microphone", "node.description": "My voice"}}},
    {"info": {"props": {"node.name": "rvcd-deep-microphone", "node.description": "rvcd deep"}}},
    {"info": {"props": {"node.name": "rvcd-a b-microphone", "node.description": "somebody else's"}}},
]


def test_the_default_is_named_as_its_jack_client() -> None:
    assert devices_in(DUMP, "input").default == "A  Mic"
    assert devices_in(DUMP, "output").default == "sink_b"


@pytest.mark.parametrize("objects", [None, {}, [], [3, {"info": 3}, {"metadata": [3]}], DUMP[:4]])
def test_without_a_default_there_is_none(objects: object) -> None:
    assert devices_in(objects, "input") == PipeWireDevices()


def test_microphones_of_this_and_other_rvcds_are_known_whatever_their_labels() -> None:
    devices = devices_in([*DUMP, *MICROPHONES], "input")
    assert devices == PipeWireDevices("A  Mic", frozenset({"My voice", "rvcd deep"}))
    assert devices.has_microphone("My voice") and not devices.has_microphone("A  Mic")


def test_where_pipewire_has_not_answered_those_that_are_called_as_usual_are_known() -> None:
    assert [PipeWireDevices().has_microphone(client) for client in ("rvcd", "rvcd deep", "rvcdeep", "Mic")] == [
        True, True, False, False,
    ]  # fmt: skip


def test_what_changed_while_pipewire_was_asked_counts_instead_of_being_no_answer() -> None:
    moved = [
        {"id": 34, "metadata": [{"key": "default.audio.source", "value": {"name": "rvcd-microphone"}}]},
        {"id": 45, "info": None},
    ]
    text = f"{json.dumps([*DUMP, *MICROPHONES], indent=2)}\n{json.dumps(moved)}\n[\n"
    devices = devices_in(objects_in(text), "input")
    assert devices == PipeWireDevices("My voice", frozenset({"My voice", "rvcd deep"}))


@pytest.mark.parametrize("text", ["", " \n", "[", "none", "[" * 100_000])
def test_what_is_no_answer_is_none(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "said").write_text(text)
    tool = tmp_path / "pw-dump"
    tool.write_text(f'#!/bin/sh\nwhile read -r line || [ -n "$line" ]; do echo "$line"; done <{tmp_path / "said"}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pipewire_devices("input") is None
    tool.unlink()
    assert pipewire_devices("input") == PipeWireDevices(), "there is no such tool, and never will be an answer"


@given(st.text(max_size=60))
def test_no_text_is_a_traceback(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(objects_in(text), list)
