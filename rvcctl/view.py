"""What rvcctl knows about the daemon: plain data, changed only by messages that arrived and by what was just asked for."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from rvcctl.reading import clean_text, number_of
from rvcd import protocol
from rvcd.errors import ProtocolError
from rvcd.osc.codec import OscMessage
from rvcd.params import BY_ADDRESS
from rvcd.protocol import ON_FROM, State

FRESH_S = 2.0
"""Older data than this means that nobody is there: stats arrive several times a second."""
MAX_ENTRIES = 999
"""More voices or presets than this are not listed."""
KEPT_LOG_LINES = 200


@dataclass(frozen=True)
class Failure:
    """One /rvc/fail: the command's address without prefix, and the daemon's reason."""

    command: str
    reason: str


@dataclass(frozen=True)
class Done:
    """One /rvc/done: the command's address without prefix, and what it was done to, "" when it does not say."""

    command: str
    subject: str


Outcome: TypeAlias = "Failure | Done | None"
"""What a message says of a command that was given before."""


@dataclass(frozen=True)
class Entry:
    """A voice in its slot, or a preset under its number (from 1)."""

    number: int
    name: str


@dataclass(frozen=True)
class LogEntry:
    """One line of the daemon's log. level: 'info', 'warning', ..."""

    number: int
    level: str
    text: str


@dataclass
class DaemonView:
    """The newest state of one daemon. Times are seconds of the clock that the owner uses.

    target: host:port as shown to people. stats: None until the first /rvc/stats. numbers: address below /rvc to value.
    echoes: how often each number has come. voices, presets: None until the daemon has listed them. log: oldest line first.
    trouble: why there is no connection, "" when the reason is only silence. bad_datagrams: what could not be read.
    """

    target: str
    name: str = ""
    stats: protocol.Stats | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    echoes: dict[str, int] = field(default_factory=dict)
    voices: tuple[Entry, ...] | None = None
    presets: tuple[Entry, ...] | None = None
    log: deque[LogEntry] = field(default_factory=lambda: deque(maxlen=KEPT_LOG_LINES))
    heard_at_s: float | None = None
    trouble: str = ""
    bad_datagrams: int = 0
    revision: int = 0
    _coming: dict[str, dict[int, str]] = field(default_factory=dict)

    def apply(self, message: OscMessage, now_s: float) -> Outcome:
        """Take in one message; return what it says was done or failed. Raises ProtocolError for arguments that make no sense."""
        if not message.address.startswith(protocol.PREFIX + "/"):
            raise ProtocolError(f"{message.address:.40} is not an address of rvcd")
        self.heard_at_s = now_s
        self.revision += 1
        address = message.address[len(protocol.PREFIX) :]
        if address == "/fail":
            return self._failure(message)
        self.trouble = ""
        if address == "/done":
            return _done(message)
        if address == "/stats":
            self.stats = _printable(protocol.stats_from_args(message.args))
        elif address in BY_ADDRESS:
            self.numbers[address] = _number(message)
            self.echoes[address] = self.echoes.get(address, 0) + 1
        elif address in _FIELDS and self.stats is not None:
            name, read = _FIELDS[address]
            stats = replace(self.stats, **{name: read(message)})  # type: ignore[arg-type]
            self.stats = _restated(stats) if address in _DECIDES_STATE else stats
        elif address in ("/voice/list", "/preset/list"):
            self._take_entry(address, message)
        elif address in ("/voice/list/end", "/preset/list/end"):
            self._end_list(address.removesuffix("/end"), _whole(message))
        elif address == "/log":
            self._take_log_line(message)
        return None

    def _take_entry(self, address: str, message: OscMessage) -> None:
        coming = self._coming.setdefault(address, {})
        if len(coming) < MAX_ENTRIES and len(message.args) > 1:
            coming[_whole(message)] = clean_text(message.args[1])

    def _end_list(self, address: str, count: int) -> None:
        """Take over a list that came whole. One with a datagram missing is forgotten: it will be asked for again."""
        coming = self._coming.pop(address, {})
        if len(coming) != count:
            return
        entries = tuple(Entry(number, name) for number, name in sorted(coming.items()))
        if address == "/voice/list":
            self.voices = entries
        else:
            self.presets = entries

    def _take_log_line(self, message: OscMessage) -> None:
        """Append a line. A new subscription brings the last lines once more: those that are kept already are ignored."""
        if len(message.args) > 2:
            line = LogEntry(_whole(message), clean_text(message.args[1], 16), clean_text(message.args[2], 400))
            if line not in self.log:
                self.log.append(line)

    def _failure(self, message: OscMessage) -> Failure:
        command = clean_text(message.args[0]) if message.args else "?"
        reason = clean_text(message.args[1], 300) if len(message.args) > 1 else "no reason given"
        failure = Failure(command.removeprefix(protocol.PREFIX), reason)
        if failure.command == "/subscribe":
            self.trouble = reason
        return failure

    def age_s(self, now_s: float) -> float | None:
        """Return the age of the newest data in seconds, None when the daemon was never heard."""
        return None if self.heard_at_s is None else max(0.0, now_s - self.heard_at_s)

    def connected(self, now_s: float) -> bool:
        """Tell whether the daemon is there: it was heard less than FRESH_S ago and nothing has refused us since."""
        age_s = self.age_s(now_s)
        return age_s is not None and age_s < FRESH_S and not self.trouble


def _done(message: OscMessage) -> Done:
    command, *rest = (clean_text(arg) for arg in message.args[:2]) if message.args else ("?",)
    return Done(command.removeprefix(protocol.PREFIX), rest[0] if rest else "")


def _number(message: OscMessage) -> float:
    number = number_of(message.args[0]) if message.args else None
    if number is None:
        raise ProtocolError(f"{message.address} came without a finite number")
    return number


def _flag(message: OscMessage) -> int:
    return int(_number(message) >= ON_FROM)


def _whole(message: OscMessage) -> int:
    return int(_number(message))


def _text(message: OscMessage) -> str:
    return clean_text(message.args[0]) if message.args else ""


_FIELDS: dict[str, tuple[str, Callable[[OscMessage], str | int | float]]] = {
    "/bypass": ("bypass", _flag),
    "/mute": ("mute", _flag),
    "/panic": ("panic", _flag),
    "/record": ("record", _flag),
    "/talk": ("talk", _flag),
    "/monitor/mute": ("monitor_mute", _flag),
    "/monitor/source": ("monitor_source", _text),
    "/pitch/mode": ("pitch_mode", _text),
    "/voice": ("voice", _text),
    "/voice/slot": ("voice_slot", _whole),
    "/speaker": ("speaker", _whole),
    "/preset": ("preset", _text),
    "/latency/preset": ("latency_preset", _text),
    "/f0/method": ("f0_method", _text),
}
"""Echoes that are also fields of Stats: applied at once, so that a key press shows before the next push."""
_DECIDES_STATE = frozenset({"/bypass", "/mute", "/panic"})
"""Not /talk: what is heard follows it by the latency, and the daemon says when."""


def _restated(stats: protocol.Stats) -> protocol.Stats:
    """Return stats whose state follows a newer echo of panic, mute or bypass; the next stats message has the last word."""
    if stats.panic:
        return replace(stats, state=State.PANIC.value)
    if stats.state not in _SWITCHED:
        return stats
    held_back = not stats.talk
    state = (
        State.MUTED
        if stats.mute
        else State.STANDBY
        if stats.talk_mode == "push-to-talk" and held_back
        else State.BYPASS
        if stats.bypass or (stats.talk_mode == "push-to-convert" and held_back)
        else State(stats.state)
        if stats.state in _UNSWITCHED
        else State.LIVE
    )
    return replace(stats, state=state.value)


_UNSWITCHED = frozenset({State.NO_INPUT, State.OVERLOADED})
"""States that no switch brings about, and that any switch hides."""
_SWITCHED = frozenset({State.LIVE, *_UNSWITCHED, State.BYPASS, State.STANDBY, State.MUTED, State.PANIC})
"""States in which only the switches decide; in any other, something else is amiss."""


def _printable(stats: protocol.Stats) -> protocol.Stats:
    """Return stats that can be drawn: clean text, finite numbers. Raises ProtocolError for NaN and infinity."""
    texts: dict[str, str] = {}
    for name, value in vars(stats).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ProtocolError(f"/rvc/stats {name} is {value}")
        if isinstance(value, str):
            texts[name] = clean_text(value, _TEXT_LIMITS.get(name, NAME_CHARACTERS))
    return replace(stats, **texts)  # type: ignore[arg-type]


NAME_CHARACTERS = 64
_WORDS = ("state", "f0_method", "talk_mode", "latency_preset", "scheduling", "monitor_state", "monitor_source", "pitch_mode")
_SENTENCES = ("fault", "advice", "hint", "monitor_problem")
_TEXT_LIMITS = {**dict.fromkeys(_WORDS, 24), **dict.fromkeys(_SENTENCES, 300), "device": 200}
"""Characters shown of a text; of any other, NAME_CHARACTERS."""
