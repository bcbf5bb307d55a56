"""voice.toml: what a voice is called and how it is set, in a file beside its .pth. Checked here; a bad one is never half obeyed.

Standard library only: the control process reads these while it scans its folders.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rvcd.config.toml_text import decode_toml, parse_toml, windows_path_problem
from rvcd.errors import ParamError
from rvcd.params import VOICE_BY_NAME, Param
from rvcd.protocol import NAME_PATTERN, NAME_RULE

FILE_NAME = "voice.toml"
MAX_BYTES = 64 << 10
MAX_LINE_CHARACTERS = 1000
"""A dotted key takes the parser time with the square of its length: ten seconds for one that fills the file."""
MAX_SLOT = 999
MAX_SPEAKER = 9999
ENCODER_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}"
MIN_GAIN_DB, MAX_GAIN_DB = -24.0, 24.0
MIN_F0_HZ, MAX_F0_HZ = 50.0, 1000.0
"""Of a voice's median: what the pitch methods find."""
MAX_BRACKETS = 200
"""A compiled parser has no bound of its own for lists inside lists, and would overflow its stack."""
MAX_PROBLEMS = 5
"""Told of one file; somebody else's file may have thousands."""
_SHOWN_CHARACTERS = 60
KINDS: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"), (int, "a whole number"), (float, "a number"), (str, "text"), (list, "a list"), (dict, "a table"),
)  # fmt: skip
"""Python's types in the words of a TOML file; bool stands before int, whose subclass it is."""


@dataclass(frozen=True)
class VoiceSettings:
    """What one voice.toml says. Each default means that it says nothing.

    name "": the .pth file's own. slot 1..999, 0: any free one. index: a file's name beside the voice, "": use none, None: look
    for one. encoder "": the one that the .pth names. speaker: 0.. gain_db: -24..24, on top of gain_out. params: by name, in the
    units of rvcd.params. f0_median_hz: the voice's register, 50..1000, 0: not known.
    """

    name: str = ""
    slot: int = 0
    index: str | None = None
    speaker: int = 0
    gain_db: float = 0.0
    params: Mapping[str, float] = field(default_factory=dict)
    encoder: str = ""
    f0_median_hz: float = 0.0


NOTHING_SAID = VoiceSettings()


class _BadValue(Exception):
    """A value or a file will not do. The message continues '<key>: ' or '<file>: '."""


def read_voice_toml(path: Path) -> tuple[VoiceSettings, tuple[str, ...]]:
    """Return a file's settings, and one sentence for each thing wrong with it, starting with its path; raises nothing.

    With something wrong the settings are NOTHING_SAID: the voice is usable, and nothing is guessed.
    """
    try:
        tables = parse_toml(_text_of(path))
    except _BadValue as problem:
        problems = [str(problem)]
    except ValueError as error:
        problems = [printable(error)]
    else:
        settings, problems = parse_voice_toml(tables)
        if not problems:
            return settings, ()
    if len(problems) > MAX_PROBLEMS:
        problems[MAX_PROBLEMS:] = [f"has {len(problems) - MAX_PROBLEMS} more problems"]
    return NOTHING_SAID, tuple(f"{printable(path)}: {problem}" for problem in problems)


def parse_voice_toml(tables: Mapping[str, Any]) -> tuple[VoiceSettings, list[str]]:
    """Return the settings, and one sentence for each key that is wrong, starting with the key. Wrong keys keep their default."""
    found: dict[str, Any] = {}
    problems: list[str] = []
    for key, value in tables.items():
        if key == "params":
            found["params"] = _params(value, problems)
        elif check := _CHECKS.get(key):
            _take(found, key, key, value, check, problems)
        elif key in VOICE_BY_NAME:
            problems.append(f"{key}: is a parameter, and belongs in [params]")
        else:
            problems.append(f"{_cut(key)}: unknown key{_suggest(key, [*_CHECKS, 'params'])}")
    return VoiceSettings(**found), problems


def voice_toml_text(settings: VoiceSettings) -> str:
    """Return the file that says what the settings say, for people to go on with. Inverse of parse_voice_toml."""
    lines = ["# How rvcd shows and sets this voice. `rvcd voice check` says whether it is right."]
    for key, doc in (
        ("name", "shown and switched to by this name"),
        ("slot", f"fixed slot, 1..{MAX_SLOT}; without it: a free one"),
        ("index", "a file's name beside the voice, or '' for none; without it: the one found beside it"),
        ("encoder", "the content encoder it was trained with; without it: what the trainer wrote into the .pth"),
        ("speaker", "of a multi-speaker voice, from 0"),
        ("gain_db", f"{MIN_GAIN_DB:g}..{MAX_GAIN_DB:g} dB, on top of gain_out"),
        ("f0_median_hz", 'the voice\'s usual pitch, which pitch_mode = "auto" brings yours to'),
    ):
        value = getattr(settings, key)
        said = value != getattr(NOTHING_SAID, key)
        # JSON's text with its escapes is TOML's, but for one character that names and file names do not have.
        line = f"{key} = {json.dumps(value, ensure_ascii=False)}" if said else f"# {key} ="
        lines.append(f"{line:<24}# {doc}")
    lines += ["", "[params]                # set when the voice is switched to: pitch, formant, index_rate, ..."]
    lines += [f"{name} = {_param_text(VOICE_BY_NAME.get(name), value)}" for name, value in settings.params.items()]
    return "\n".join(lines) + "\n"


def _param_text(param: Param | None, value: float) -> str:
    return json.dumps(param.word(value)) if param is not None and param.choices else repr(float(value))


def printable(text: object) -> str:
    """Return text on one line that every terminal and log can show: file names and keys may hold anything."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


# ---- reading


def _text_of(path: Path) -> str:
    try:
        # is_file before open: opening a named pipe would wait for ever.
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is no file" if path.exists() else "is a link that leads nowhere"
            raise _BadValue(f"{what}; remove it, or write a text file of that name")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _BadValue(f"cannot be read: {printable(reason).lower()}; mend that, or remove it") from None
    if len(data) > MAX_BYTES:
        raise _BadValue(f"has more than {MAX_BYTES:,} bytes; a voice's settings are a few lines, so is this the right file?")
    text = decode_toml(data)
    if (brackets := text.count("[") + text.count("{")) > MAX_BRACKETS:
        raise _BadValue(f"has {brackets:,} brackets; it needs [params] and no other table or list")
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > MAX_LINE_CHARACTERS:
            raise _BadValue(f"line {number} has {len(line):,} characters, more than {MAX_LINE_CHARACTERS:,}; break it")
    return text


# ---- one key at a time


def _take(found: dict[str, Any], key: str, path: str, value: object, check: Callable[[object], Any], problems: list[str]) -> None:
    try:
        found[key] = check(value)
    except _BadValue as problem:
        problems.append(f"{path}: {problem}")


def _params(table: object, problems: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    if not isinstance(table, dict):
        problems.append(f"params: {_shown(table)} is {_kind(table)}; it takes a table: [params], then one parameter a line")
        return found
    for name, value in table.items():
        if param := VOICE_BY_NAME.get(name):
            _take(found, name, f"params.{name}", value, _param_check(param), problems)
        elif name in _CHECKS:
            problems.append(f"params.{name}: is no parameter; it belongs above [params]")
        else:
            problems.append(f"params.{_cut(name)}: unknown parameter{_suggest(name, VOICE_BY_NAME)}")
    return found


def _param_check(param: Param) -> Callable[[object], float]:
    if param.choices:
        return partial(_choice, param)
    return lambda value: _number(value, param.low, param.high, f"a number, {param.range_text()}")


def _choice(param: Param, value: object) -> float:
    if not isinstance(value, str):
        return param.clamp(_number(value, param.low, param.high, f"one of {param.range_text()}"))
    try:
        return param.named(value)
    except ParamError:
        raise _BadValue(f"{_shown(value)} is not one of {param.range_text()}") from None


def _name(value: object) -> str:
    text = _string(value)
    if not re.fullmatch(NAME_PATTERN, text) or text != text.strip():
        raise _BadValue(f"{_shown(text)} will not do; it takes {NAME_RULE}, no space at either end")
    return text


def _slot(value: object) -> int:
    return _whole(value, 1, MAX_SLOT)


def _index(value: object) -> str:
    text = _string(value)
    if "/" in text or "\\" in text or "\0" in text or text in (".", ".."):
        raise _BadValue(f"{_shown(text)} is a path; it takes the name of a file in the voice's own folder")
    if problem := windows_path_problem(text):
        raise _BadValue(printable(problem))
    return text


def _encoder(value: object) -> str:
    text = _string(value)
    if not re.fullmatch(ENCODER_NAME, text):
        raise _BadValue(f"{_shown(text)} is no encoder's name; it takes 1 to 40 letters, digits, dots, dashes and underscores")
    return text


def _speaker(value: object) -> int:
    return _whole(value, 0, MAX_SPEAKER)


def _gain_db(value: object) -> float:
    return _number(value, MIN_GAIN_DB, MAX_GAIN_DB, f"a number, {MIN_GAIN_DB:g}..{MAX_GAIN_DB:g} dB")


def _f0_median_hz(value: object) -> float:
    return _number(value, MIN_F0_HZ, MAX_F0_HZ, f"a number, {MIN_F0_HZ:g}..{MAX_F0_HZ:g} Hz")


_CHECKS: Mapping[str, Callable[[object], Any]] = {
    "name": _name, "slot": _slot, "index": _index, "speaker": _speaker, "gain_db": _gain_db, "encoder": _encoder,
    "f0_median_hz": _f0_median_hz,
}  # fmt: skip
"""What each key's value must be: returns it, or raises _BadValue."""


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise _BadValue(f"{_shown(value)} is {_kind(value)}; it takes text")
    return value


def _whole(value: object, low: int, high: int) -> int:
    takes = f"a whole number, {low}..{high}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise _BadValue(f"{_shown(value)} is {_kind(value)}; it takes {takes}")
    _within(value, low, high, takes)
    return value


def _number(value: object, low: float, high: float, takes: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _BadValue(f"{_shown(value)} is {_kind(value)}; it takes {takes}")
    if isinstance(value, float) and not math.isfinite(value):
        raise _BadValue(f"{value} is not finite; it takes {takes}")
    _within(value, low, high, takes)
    return float(value)


def _within(value: float, low: float, high: float, takes: str) -> None:
    if not low <= value <= high:
        raise _BadValue(f"{_shown(value)} is too {'small' if value < low else 'large'}; it takes {takes}")


# ---- words


def _suggest(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?", or what is known here."""
    names = list(known)
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f"; known here: {', '.join(names)}"


def _kind(value: object) -> str:
    return next((words for kind, words in KINDS if isinstance(value, kind)), "a date or time")


def _shown(value: object) -> str:
    """Return a value as a TOML file writes it, cut to a length that fits a line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) >= 10**_SHOWN_CHARACTERS:
        return "a number of more digits than fit a line"  # str() itself refuses numbers of thousands of digits
    if isinstance(value, (list, dict)):
        return "'[...]'" if isinstance(value, list) else "'{...}'"
    return _cut(f"'{value}'" if isinstance(value, str) else str(value))


def _cut(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
