"""The default source and sink as pw-dump shows them."""

from __future__ import annotations

import pytest

from rvcd.audio.pipewire_default import default_in

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


def test_the_default_is_named_as_its_jack_client() -> None:
    assert default_in(DUMP, "input") == "A  Mic"
    assert default_in(DUMP, "output") == "sink_b"


@pytest.mark.parametrize("objects", [None, {}, [], [3, {"info": 3}, {"metadata": [3]}], DUMP[:4]])
def test_without_a_default_there_is_none(objects: object) -> None:
    assert default_in(objects, "input") == ""
