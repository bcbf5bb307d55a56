"""Make examples/open-stage-control.json, a session for Open Stage Control, from rvcd's tables of parameters and choices.

Run: .venv/bin/python tools/make_open_stage_control.py [FILE]. A test holds the file equal to what this makes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rvcd.params import PARAMS, Param
from rvcd.protocol import DEFAULT_HOST, DEFAULT_PORT, F0_METHODS, LATENCY_PRESET_NAMES, MONITOR_SOURCES, PITCH_MODES, PREFIX

FILE = Path(__file__).resolve().parents[1] / "examples" / "open-stage-control.json"
TARGET = f"{DEFAULT_HOST}:{DEFAULT_PORT}"
SLOTS = 8
GAP, COLUMN, ROW = 10, 110, 50
"""Pixels: between widgets, the width of one and its height."""
RED, GREEN = "#d33", "#3a3"

Widget = dict[str, object]


def placed(column: float, row: float, widget: Widget, *, columns: float = 1, rows: float = 1) -> Widget:
    """Put a widget on the grid, counted from 0."""
    left, top = GAP + column * (COLUMN + GAP), GAP + row * (ROW + GAP)
    width, height = columns * (COLUMN + GAP) - GAP, rows * (ROW + GAP) - GAP
    return {**widget, "left": round(left), "top": round(top), "width": round(width), "height": round(height)}


def sends(kind: str, name: str, address: str, tags: str, **properties: object) -> Widget:
    """A widget that sends to rvcd, and is moved by what rvcd says at the same address. tags: OSC type of what it sends."""
    return {"type": kind, "id": name, "address": PREFIX + address, "typeTags": tags, "target": TARGET, **properties}


def shows(kind: str, name: str, address: str, **properties: object) -> Widget:
    """A widget that only shows what rvcd says."""
    return {"type": kind, "id": name, "address": PREFIX + address, "bypass": True, "interaction": False, **properties}


def label(name: str, text: str) -> Widget:
    """A text that never changes."""
    return {"type": "text", "id": name, "default": text, "bypass": True, "interaction": False}


def button(name: str, address: str, mode: str, text: str, **properties: object) -> Widget:
    """mode: toggle (1 and 0), push (1 while held, then 0) or tap (1)."""
    return sends("button", name, address, "i", label=text, mode=mode, on=1, off=0, **properties)


def fader(param: Param) -> Widget:
    """One parameter in its own unit; a double tap goes back to the default."""
    span = {"min": param.low, "max": param.high}
    return sends("fader", param.name, param.address, "f", range=span, default=param.default, doubleTap=True, decimals=3)


def meter(name: str, address: str) -> Widget:
    """A level, -60..0 dBFS."""
    return shows("fader", name, address, range={"min": -60, "max": 0}, default=-60, design="compact", colorWidget=GREEN)


def widgets() -> list[Widget]:
    """Everything on the page, from top to bottom."""
    page = [
        placed(0, 0, shows("text", "voice", "/voice"), columns=2),
        placed(2, 0, shows("text", "note", "/f0/note")),
        placed(3, 0, shows("text", "cents", "/f0/cents", decimals=0)),
        placed(4, 0, shows("text", "preset", "/preset"), columns=2),
        placed(6, 0, shows("text", "latency", "/latency/total", decimals=0)),
        placed(7, 0, shows("text", "xruns", "/xruns")),
        placed(0, 1, button("bypass", "/bypass", "toggle", "bypass")),
        placed(1, 1, button("mute", "/mute", "toggle", "mute")),
        placed(2, 1, button("talk", "/talk", "push", "talk")),
        placed(3, 1, button("record", "/record", "toggle", "record", colorWidget=RED)),
        placed(4, 1, button("panic", "/panic", "tap", "PANIC", colorWidget=RED), columns=2),
        placed(6, 1, button("panic_clear", "/panic/clear", "tap", "clear panic"), columns=2),
        placed(0, 2, label("voice_label", "voice slot")),
        placed(1, 2, slots("voice_slot", "/voice/slot"), columns=5),
        placed(8, 3, button("monitor_mute", "/monitor/mute", "toggle", "mute monitor")),
        placed(9, 3, choice("monitor_source", "/monitor/source", MONITOR_SOURCES), columns=2),
        placed(6, 2, button("voice_prev", "/voice/prev", "tap", "previous")),
        placed(7, 2, button("voice_next", "/voice/next", "tap", "next")),
        placed(0, 3, label("recall_label", "preset")),
    ]
    for number in range(1, SLOTS):
        page.append(placed(number, 3, button(f"recall_{number}", f"/preset/recall/{number}", "tap", str(number))))
    faders = [param for param in PARAMS if not param.choices]
    meters = len(faders)
    for column, param in enumerate(faders):
        page.append(placed(column, 4, label(f"{param.name}_label", f"{param.name} {param.unit}".strip())))
        page.append(placed(column, 5, fader(param), rows=5))
    page += [
        placed(meters, 4, label("in_label", "in dBFS")),
        placed(meters + 1, 4, label("out_label", "out dBFS")),
        placed(meters, 5, meter("in_peak", "/meter/in/peak"), rows=5),
        placed(meters + 1, 5, meter("out_peak", "/meter/out/peak"), rows=5),
        placed(0, 10, label("f0_label", "pitch by")),
        placed(1, 10, choice("f0_method", "/f0/method", F0_METHODS), columns=5),
        placed(6, 10, label("latency_label", "latency")),
        placed(7, 10, choice("latency_preset", "/latency/preset", LATENCY_PRESET_NAMES), columns=3),
        placed(10, 10, choice("pitch_mode", "/pitch/mode", PITCH_MODES), columns=2),
    ]
    for row, param in enumerate((param for param in PARAMS if param.choices), 11):
        page.append(placed(0, row, label(f"{param.name}_label", param.name), columns=2))
        page.append(placed(2, row, words(param), columns=len(faders)))
    return page


def slots(name: str, address: str) -> Widget:
    """A row of numbers, of which the live one is lit."""
    numbers = list(range(1, SLOTS + 1))
    return sends("switch", name, address, "i", values=numbers, layout="horizontal", mode="click")


def words(param: Param) -> Widget:
    """A row of a parameter's words, of which the one that holds is lit; numbers travel."""
    values = {word: number for number, word in enumerate(param.choices)}
    return sends("switch", param.name, param.address, "f", values=values, layout="horizontal", mode="click")


def choice(name: str, address: str, words: tuple[str, ...]) -> Widget:
    """A row of words, of which the one that holds is lit."""
    return sends("switch", name, address, "s", values=list(words), layout="horizontal", mode="click")


def session() -> dict[str, object]:
    """The session file: whatever is left out has Open Stage Control's own default."""
    root = {"type": "root", "id": "root", "bypass": True, "widgets": widgets(), "tabs": []}
    return {"createdWith": "Open Stage Control", "version": "1.17.0", "type": "session", "content": root}


def text() -> str:
    """Return the file's content."""
    return json.dumps(session(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else FILE).write_text(text())
