"""What the shell's Tab key offers: names that are always there, and the voices and presets that the running daemon knows.

The public functions are typer's `autocompletion`: they return words, or (word, help), and nothing when there is no daemon.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TypeVar

import typer

from rvcctl.client import DaemonClient, converse
from rvcctl.names import READABLE, SETTABLE, Kind, names_of
from rvcctl.scripts.asking import ask_list
from rvcctl.scripts.options import target_of
from rvcd import protocol
from rvcd.errors import RvcdError
from rvcd.params import PARAMS

PATIENCE_S = 0.3
"""How long the daemon has to answer: somebody holds the Tab key."""
MAX_SPEAKERS = 1000
_NAME = re.compile(protocol.NAME_PATTERN)
"""Only such names are offered: shells evaluate what completion says, and whoever answers on the port could say anything."""

T = TypeVar("T")


def settable_names() -> list[tuple[str, str]]:
    """Offer everything that can be set."""
    return _described(SETTABLE)


def readable_names(ctx: typer.Context) -> list[tuple[str, str]]:
    """Offer everything that can be read and is not yet on the line."""
    given = ctx.params.get("names") or ()
    return _described(name for name in READABLE if name not in given)


def switch_names() -> list[tuple[str, str]]:
    """Offer the switches."""
    return _described(names_of(Kind.SWITCH))


def number_names() -> list[tuple[str, str]]:
    """Offer the live parameters."""
    return _described(names_of(Kind.NUMBER))


def values(ctx: typer.Context) -> list[str]:
    """Offer the values of the name before."""
    choices: dict[str, Callable[[], Iterable[str]]] = {
        **dict.fromkeys(names_of(Kind.SWITCH), lambda: ("on", "off")),
        **{param.name: partial(tuple[str, ...], param.choices) for param in PARAMS if param.choices},
        "f0_method": lambda: protocol.F0_METHODS,
        "latency_preset": lambda: protocol.LATENCY_PRESET_NAMES,
        "voice": lambda: _listed(ctx, "/voice/list").values(),
        "voice_slot": lambda: map(str, _listed(ctx, "/voice/list")),
        "preset": lambda: _listed(ctx, "/preset/list").values(),
        "speaker": lambda: map(str, range(_speakers(ctx))),
    }
    name = str(ctx.params.get("name"))
    return _as_typed(choices[name]()) if name in choices else []


def voice_words(ctx: typer.Context) -> list[str]:
    """Offer the voices, and what else `rvcctl voice` takes."""
    return _as_typed(("list", "next", "prev", "rescan", *_listed(ctx, "/voice/list").values()))


def preset_names(ctx: typer.Context) -> list[str]:
    """Offer the presets."""
    return _as_typed(_listed(ctx, "/preset/list").values())


def _described(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return names with what they are and take."""
    return [(name, f"{known.doc} ({known.takes})" if (known := SETTABLE.get(name)) else "measured") for name in names]


def _listed(ctx: typer.Context, address: str) -> dict[int, str]:
    """Return what the daemon lists at an address, without names that no voice and no preset can have."""
    found = _asked(ctx, lambda client: ask_list(client, address, timeout_s=PATIENCE_S, tries=1))
    return {number: name for number, name in (found or {}).items() if _NAME.fullmatch(name)}


def _speakers(ctx: typer.Context) -> int:
    async def ask(client: DaemonClient) -> int:
        await client.ask("/stats", timeout_s=PATIENCE_S, tries=1)
        return client.view.stats.speakers if client.view.stats else 0

    return min(_asked(ctx, ask) or 0, MAX_SPEAKERS)


def _asked(ctx: typer.Context, script: Callable[[DaemonClient], Awaitable[T]]) -> T | None:
    """Return what a conversation with the daemon returns, None when there is none."""
    try:
        return converse(DaemonClient(target_of(ctx)), script)
    except (RvcdError, typer.BadParameter):
        return None


def _as_typed(words: Iterable[str]) -> list[str]:
    """Return words, each once, as the shell that asks wants them."""
    return [_Escaped(word) if _is_bash_without_quotes() else word for word in dict.fromkeys(words)]


def _is_bash_without_quotes() -> bool:
    """Return whether bash asks for a word that does not begin with a quote: then it takes our answer as it is."""
    if not os.environ.get("_RVCCTL_COMPLETE", "").endswith("bash"):
        return False
    words, at = os.environ.get("COMP_WORDS", "").split("\n"), os.environ.get("COMP_CWORD", "")
    word = words[int(at)] if at.isdigit() and int(at) < len(words) else ""
    return not word.startswith(("'", '"'))


class _Escaped(str):
    """A word with its spaces escaped. typer compares it with what was typed, which comes without escapes."""

    def __new__(cls, word: str) -> _Escaped:
        return super().__new__(cls, word.replace(" ", "\\ "))

    def startswith(self, typed: str) -> bool:  # type: ignore[override]
        """Tell whether this word, without its escapes, begins with what was typed."""
        return self.replace("\\ ", " ").startswith(typed)
