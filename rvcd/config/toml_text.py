"""TOML as people's editors write it: decoded with or without a byte order mark, and what usually causes a syntax error.

Stdlib only (and tomli before Python 3.11): the configuration and voice.toml are read through this.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NEWLINE = b"\n"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_CURLY = dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\uff02", '"')
_CURLY.update(dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4`\uff07", "'"))
"""Quotes that word processors and web pages put in the place of straight ones, and which is meant."""
_BACKSLASH = re.compile(r'"[^"\n]*\\[^"\n]*"?')
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_ESCAPES = {"\b": "b", "\t": "t", "\n": "n", "\f": "f", "\r": "r", "\x1b": "e"}


def decode_toml(data: bytes) -> str:
    """Return a file's text, without a byte order mark. Raises ValueError that continues '<file>: '."""
    if data.startswith(_UTF16_MARKS):
        raise ValueError("is UTF-16 text (Windows calls it Unicode); save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"line {data.count(NEWLINE, 0, error.start) + 1}, byte {error.start}"
        raise ValueError(f"is not UTF-8 text: {where} is 0x{data[error.start]:02x}; save it as UTF-8") from None


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text. Raises ValueError that continues '<file>: ', with the cause where it is a usual one."""
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and what int() and datetime() refuse inside the parser
        hint = _cause(text, str(error))
        raise ValueError(f"is not valid TOML: {error}{'; ' if hint else ''}{hint}") from None


def windows_path_problem(text: str) -> str:
    r"""Return what is wrong with a path that was written for Windows, whether TOML kept its backslashes or not; "" for others.

    "C:\temp" in double quotes is valid TOML, and holds a tab.
    """
    if any(character in text for character in _ESCAPES):
        meant = "".join(f"\\{_ESCAPES[c]}" if c in _ESCAPES else c for c in text)
        return f"in double quotes a backslash begins an escape; write '{meant}' in single quotes, or with / in the place of \\"
    if _DRIVE.match(text):
        return f"'{text}' is a path of Windows; write the path that the file has on this system, such as /home/anna/file"
    return ""


def _cause(text: str, message: str) -> str:
    """Return what to do about a syntax error, "" where the parser's own words must do."""
    found = re.search(r"at line (\d+), column (\d+)", message)
    lines = text.split("\n")
    number = int(found[1]) if found else len(lines)
    line = lines[number - 1] if 0 < number <= len(lines) else ""
    for at, character in enumerate(line):
        if character in _CURLY and not _inside_quotes(line[:at]):
            return f"line {number} has the curly quote {character}; write a straight one: {_CURLY[character]}"
    if _BACKSLASH.search(line):
        return f"line {number}: in double quotes a backslash begins an escape; use single quotes, and in a path / for \\"
    column = int(found[2]) - 1 if found else 0
    character = line[column : column + 1]
    if character and not character.isascii() and not character.isalpha():
        name = unicodedata.name(character, "a character without a name").lower()
        return f"line {number}, column {column + 1} is U+{ord(character):04X}, {name}; delete it and type it anew"
    if re.match(r"\s*[\w.-]+\s*=\s*(?:[A-Za-z]:\\|[~/.\\]|[A-Za-z_])", line):
        return f"line {number}: text must stand in quotes: name = 'text'"
    if re.match(r"\s*[\w.-]+\s*:", line):
        return f"line {number}: a key and its value are joined by =, not by a colon"
    return ""


def _inside_quotes(before: str) -> bool:
    """Say whether what follows this beginning of a line is inside a text in straight quotes."""
    quote = ""
    for character in before:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
    return bool(quote)
