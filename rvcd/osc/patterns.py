"""OSC 1.0 address patterns: one message that names many addresses.

Source of the format: the Open Sound Control 1.0 specification (opensoundcontrol.stanford.edu).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

MAX_PATTERN_CHARS = 128
WILDCARDS = frozenset("?*[]{}")


def is_pattern(address: str) -> bool:
    """Return whether address contains an OSC wildcard character."""
    return not WILDCARDS.isdisjoint(address)


def match(pattern: str, address: str) -> bool:
    """Return whether an OSC 1.0 address pattern (? * [a-z] [!a-z] {foo,bar}) matches a whole address.

    No wildcard crosses a '/'. A malformed pattern, or one of more than MAX_PATTERN_CHARS, matches nothing.
    The set of positions reached so far is kept as the bits of one integer, so the time is linear in the pattern
    and nothing backtracks.
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        return False
    compiled = _compile(pattern)
    if compiled is None:
        return False
    parts = _positions(address)
    return len(compiled) == len(parts) and all(_match_part(tokens, part) for tokens, part in zip(compiled, parts, strict=True))


@dataclass(frozen=True)
class _Star:
    """Any run of characters."""


@dataclass(frozen=True)
class _Chars:
    """One character in chars, or not in chars when negated."""

    chars: frozenset[str]
    negated: bool = False


@dataclass(frozen=True)
class _Words:
    """One of several literal words."""

    words: tuple[str, ...]


_Token = _Star | _Chars | _Words
_ANY = _Chars(frozenset(), negated=True)


@dataclass(frozen=True)
class _Part:
    """One address part: its length, and for each character the positions where it stands, as bits."""

    length: int
    bits: dict[str, int]


@lru_cache(maxsize=512)
def _positions(address: str) -> tuple[_Part, ...]:
    parts = []
    for text in address.split("/"):
        bits: dict[str, int] = {}
        for position, char in enumerate(text):
            bits[char] = bits.get(char, 0) | 1 << position
        parts.append(_Part(len(text), bits))
    return tuple(parts)


def _match_part(tokens: tuple[_Token, ...], part: _Part) -> bool:
    """Bit p of `reached` is set when the tokens so far can match the first p characters."""
    reached = 1
    everywhere = (1 << part.length + 1) - 1
    for token in tokens:
        if isinstance(token, _Star):
            reached = everywhere & -(reached & -reached)  # every position from the lowest one on
        elif isinstance(token, _Chars):
            standing = 0
            for char, bits in part.bits.items():
                if (char in token.chars) != token.negated:
                    standing |= bits
            reached = (reached & standing) << 1
        else:
            reached = _after_words(token.words, reached, part)
        if not reached:
            return False
    return bool(reached >> part.length & 1)


def _after_words(words: tuple[str, ...], reached: int, part: _Part) -> int:
    after = 0
    for word in words:
        run = reached
        for char in word:
            run = (run & part.bits.get(char, 0)) << 1
            if not run:
                break
        after |= run
    return after


@lru_cache(maxsize=64)
def _compile(pattern: str) -> tuple[tuple[_Token, ...], ...] | None:
    """Return the tokens of each part between slashes, or None for an unclosed bracket."""
    parts = [_compile_part(text) for text in pattern.split("/")]
    complete = [part for part in parts if part is not None]
    return tuple(complete) if len(complete) == len(parts) else None


def _compile_part(text: str) -> tuple[_Token, ...] | None:
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        char = text[position]
        close = {"[": "]", "{": "}"}.get(char)
        if close:
            end = text.find(close, position + 1)
            if end < 0:
                return None
            inside = text[position + 1 : end]
            tokens.append(_char_class(inside) if char == "[" else _Words(tuple(inside.split(","))))
            position = end
        elif char in "]}":
            return None
        elif char == "*":
            if not tokens or not isinstance(tokens[-1], _Star):  # a hundred of them in a row mean what one does
                tokens.append(_Star())
        elif char == "?":
            tokens.append(_ANY)
        else:
            tokens.append(_Words((char,)))
        position += 1
    return tuple(tokens)


def _char_class(inside: str) -> _Chars:
    """Read the inside of [...]: single characters, a-z ranges, '!' first for 'not'."""
    negated = inside.startswith("!")
    body = inside[1:] if negated else inside
    chars: set[str] = set()
    position = 0
    while position < len(body):
        if body[position + 1 : position + 2] == "-" and position + 2 < len(body):
            low, high = sorted((ord(body[position]), ord(body[position + 2])))
            chars.update(map(chr, range(low, high + 1)))
            position += 3
        else:
            chars.add(body[position])
            position += 1
    return _Chars(frozenset(chars), negated)
