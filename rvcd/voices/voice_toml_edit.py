"""Writes single keys into a voice.toml, and leaves everything else in it as its author wrote it. Standard library only."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rvcd.config.toml_text import parse_toml
from rvcd.errors import ModelFileError, RvcdError
from rvcd.voices.registry import VoiceEntry
from rvcd.voices.voice_toml import FILE_NAME, VoiceSettings, parse_voice_toml, printable, read_voice_toml, voice_toml_text

_COMMENT = re.compile(r"""\s*#?\s*\w+\s*=\s*(?:"[^"]*"|'[^']*'|[^#"']*)\s*(#.*)$""")
"""What follows a simple value."""


def set_in_voice_toml(entry: VoiceEntry, changes: Mapping[str, Any]) -> Path:
    """Set keys above [params] in the voice's settings, which are made where it has none. Returns the file's path.

    The file is replaced in one step. Raises RvcdError when it is wrong already, or is written in a way that cannot be changed by
    a line; then nothing is changed.
    """
    path, old = entry.toml_path, ""
    if path is None:
        path = entry.path.parent / (FILE_NAME if _is_alone(entry.path) else f"{entry.path.stem}.toml")
        wanted = replace(VoiceSettings(), **changes)
        text = voice_toml_text(wanted)
    else:
        if entry.problems:
            raise ModelFileError(f"{entry.problems[0]}; correct it first")
        settings, problems = read_voice_toml(path)
        if problems:
            raise ModelFileError(f"{problems[0]}; correct it first")
        wanted = replace(settings, **changes)
        old = text = path.read_text("utf-8-sig")
        for key, value in changes.items():
            text = _with_line(text, key, f"{key} = {json.dumps(value, ensure_ascii=False)}")
    if _parsed(text) != wanted:
        lines = ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in changes.items())
        raise ModelFileError(f"{printable(path)}: cannot be changed by a line, as it is written; write {lines} into it yourself")
    if text != old:
        _replace(path, text)
    return path


def _with_line(text: str, key: str, line: str) -> str:
    """Return the text with this line in the place of the one that sets the key, or of a comment that offers it."""
    lines = text.splitlines()
    table = next((n for n, one in enumerate(lines) if one.lstrip().startswith("[")), len(lines))
    for pattern in (rf"\s*{key}\s*=", rf"\s*#\s*{key}\s*=\s*(?:#|$)"):
        for number in range(table):
            if re.match(pattern, lines[number]):
                comment = _COMMENT.match(lines[number])
                lines[number] = f"{line:<24}{comment.group(1)}" if comment else line
                return "\n".join(lines) + "\n"
    while table and not lines[table - 1].strip():  # above the empty lines before [params]
        table -= 1
    lines.insert(table, line)
    return "\n".join(lines) + "\n"


def _parsed(text: str) -> VoiceSettings | None:
    try:
        settings, problems = parse_voice_toml(parse_toml(text))
    except (ValueError, RvcdError):
        return None
    return None if problems else settings


def _is_alone(voice: Path) -> bool:
    """Say whether a voice has its folder to itself, so that a voice.toml in it is its own."""
    from rvcd.voices.voice_folders import voices_in

    return len(voices_in(voice.parent, [])) <= 1


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise ModelFileError(f"{printable(path)}: cannot be written: {(error.strerror or str(error)).lower()}") from None
    finally:
        part.unlink(missing_ok=True)
