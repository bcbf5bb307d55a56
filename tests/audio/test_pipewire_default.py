"""The default source and sink, and rvcd's own microphones, as pw-dump shows them."""

from __future__ import annotations

import pytest

from rvcd.audio.pipewire_default import PipeWireDevices, devices_in

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
    assert devices.is_microphone_of_rvcd("My voice") and not devices.is_microphone_of_rvcd("A  Mic")


def test_where_pipewire_has_not_answered_those_that_are_called_as_usual_are_known() -> None:
    assert [PipeWireDevices().is_microphone_of_rvcd(client) for client in ("rvcd", "rvcd deep", "rvcdeep", "Mic")] == [
        True, True, False, False,
    ]  # fmt: skip
