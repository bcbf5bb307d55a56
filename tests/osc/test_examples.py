"""The files of examples/: every message in them is one that rvcd takes, and does not refuse."""

from __future__ import annotations

import asyncio
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rvcd.daemon.presets import PresetBook
from rvcd.osc.codec import decode
from rvcd.osc.session import VoiceStatus
from rvcd.osc.verbs import PUSHED, REPLIES, find_verb
from rvcd.params import PARAMS
from rvcd.protocol import PREFIX
from tests.osc.fake_session import FakeSession
from tests.osc.packets import message, padded
from tests.osc.udp import client_of, serving
from tools import make_open_stage_control

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SESSION = EXAMPLES / "open-stage-control.json"
TOLD = {PREFIX + pushed.address for pushed in PUSHED} | {PREFIX + reply for reply in REPLIES}
Message = tuple[str, str, tuple[Any, ...]]
"""Address, type tags, values."""


def widgets() -> list[dict[str, Any]]:
    return list(json.loads(SESSION.read_text())["content"]["widgets"])


def of_widgets() -> Iterator[Message]:
    """What the widgets of the session send: both ends of a fader, both sides of a button, every choice of a switch."""
    for widget in widgets():
        if widget.get("bypass"):
            continue
        if widget["type"] == "fader":
            values: list[Any] = [widget["range"]["min"], widget["range"]["max"], widget["default"]]
        elif widget["type"] == "button":
            values = [widget["on"]] if widget["mode"] == "tap" else [widget["on"], widget["off"]]
        else:
            values = list(widget["values"].values() if isinstance(widget["values"], dict) else widget["values"])
        for value in values:
            yield widget["address"], widget["typeTags"], (value,)


def of_lua(file: Path) -> Iterator[Message]:
    """What a script sends, and the messages that its comments offer."""
    text = file.read_text()
    for address, tags in re.findall(r':send \("(/rvc/[^"]+)", "([a-zA-Z]*)"', text):
        for value in (1, 0):
            yield address, tags, (value,)
    for address, tags, value in re.findall(r"(?<=[ \"])(/rvc/[\w/]+)(?: (?:([if]) )?(-?\d+))?", text.replace(':send ("', "")):
        yield address, tags or "f" if value else "", (float(value),) if value else ()


def of_reaper_pattern(file: Path) -> Iterator[Message]:
    """What REAPER sends by a pattern file: 1 and 0, as floats, for a pattern with the flag b."""
    for flag, address in re.findall(r"^[A-Z_]+ ([a-z])(/\S+)", file.read_text(), re.MULTILINE):
        assert flag == "b"
        yield address, "f", (1.0,)
        yield address, "f", (0.0,)


def datagram(sent: Message) -> bytes:
    address, tags, values = sent
    parts = [
        padded(value.encode()) if tag == "s" else struct.pack(f">{tag}", value) for tag, value in zip(tags, values, strict=False)
    ]
    return message(address, tags, b"".join(parts))


def of_examples() -> dict[str, list[Message]]:
    found = {SESSION.name: list(of_widgets())}
    found |= {file.name: list(of_lua(file)) for file in EXAMPLES.glob("*.lua")}
    found |= {file.name: list(of_reaper_pattern(file)) for file in EXAMPLES.glob("*.ReaperOSC")}
    return found


@pytest.mark.parametrize("name, messages", of_examples().items(), ids=list(of_examples()))
def test_every_message_of_an_example_is_taken_and_none_is_refused(name: str, messages: list[Message]) -> None:
    async def run() -> None:
        book = PresetBook()
        for number in range(1, 9):
            book, _ = book.put(number, {"pitch": float(number)})
        voices = tuple(VoiceStatus(f"voice {slot}", slot) for slot in range(1, 9))
        session = FakeSession(book=book, registry=voices, method="yin")
        hours = iter(range(10**9)).__next__
        async with serving(session, clock=lambda: 3600.0 * hours()) as server, client_of(server) as client:
            for sent in messages:
                if (sent[0], sent[2]) == ("/rvc/f0/method", ("pm",)):
                    continue  # the stand-in for the daemon lacks this extra
                assert decode(datagram(sent))[0].address == sent[0]
                client.send_raw(datagram(sent))
                await client.settle()
            await asyncio.sleep(0.01)
            assert [failure.args for failure in client.find("/rvc/fail")] == []
            assert server.counters.malformed == server.router.counters.unknown == server.router.counters.foreign == 0

    assert messages
    asyncio.run(run())


def test_no_file_of_the_examples_is_left_unchecked() -> None:
    assert {file.name for file in EXAMPLES.iterdir()} == set(of_examples())


def test_the_session_for_open_stage_control_is_what_its_script_makes() -> None:
    assert SESSION.read_text() == make_open_stage_control.text(), "run tools/make_open_stage_control.py"


def test_the_session_has_a_fader_for_every_parameter_over_its_whole_range() -> None:
    faders = {
        widget["address"]: widget["range"] for widget in widgets() if widget["type"] == "fader" and not widget.get("bypass")
    }
    assert faders == {PREFIX + param.address: {"min": param.low, "max": param.high} for param in PARAMS if not param.choices}
    switches = {widget["address"]: widget["values"] for widget in widgets() if widget["type"] == "switch"}
    for param in PARAMS:
        if param.choices:
            assert switches[PREFIX + param.address] == {word: param.named(word) for word in param.choices}


def test_the_widgets_of_the_session_lie_side_by_side_and_show_only_what_rvcd_tells() -> None:
    cells = [(w["left"], w["top"], w["left"] + w["width"], w["top"] + w["height"]) for w in widgets()]
    for at, (left, top, right, bottom) in enumerate(cells):
        assert all(r <= left or right <= ll or b <= top or bottom <= t for ll, t, r, b in cells[:at])
    assert len({widget["id"] for widget in widgets()}) == len(cells)
    for widget in widgets():
        if widget.get("bypass") and "address" in widget:
            assert widget["address"] in TOLD or find_verb(widget["address"].removeprefix(PREFIX))
