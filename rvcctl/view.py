"""What rvcctl knows about the daemon: plain data, changed only by messages that arrived and by what was just asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from rvcctl.wire import ON_FROM, Message, clean_text, number_of
from rvcd import protocol
from rvcd.errors import ProtocolError
from rvcd.protocol import State

FRESH_S = 2.0
"""Older data than this means that nobody is there: stats arrive several times a second."""


@dataclass(frozen=True)
class Failure:
    """One /rvc/fail: the command's address without prefix, and the daemon's reason."""

    command: str
    reason: str


@dataclass
class DaemonView:
    """The newest state of one daemon. Times are seconds of the clock that the owner uses.

    target: host:port as shown to people. stats: None until the first /rvc/stats. numbers: address below /rvc to value.
    echoes: how often each number has come.
    trouble: why there is no connection, "" when the reason is only silence. bad_datagrams: what could not be read.
    """

    target: str
    stats: protocol.Stats | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    echoes: dict[str, int] = field(default_factory=dict)
    heard_at_s: float | None = None
    trouble: str = ""
    bad_datagrams: int = 0
    revision: int = 0

    def apply(self, message: Message, now_s: float) -> Failure | None:
        """Take in one message; return what it reports as failed. Raises ProtocolError for arguments that make no sense."""
        if not message.address.startswith(protocol.PREFIX + "/"):
            raise ProtocolError(f"{message.address:.40} is not an address of rvcd")
        self.heard_at_s = now_s
        self.revision += 1
        address = message.address[len(protocol.PREFIX) :]
        if address == "/fail":
            return self._failure(message)
        self.trouble = ""
        if address == "/stats":
            self.stats = _printable(protocol.stats_from_args(message.args))
        elif address in protocol.NUMBER_ADDRESSES:
            self.numbers[address] = _number(message)
            self.echoes[address] = self.echoes.get(address, 0) + 1
        elif address in _FIELDS and self.stats is not None:
            name, read = _FIELDS[address]
            self.stats = _restated(replace(self.stats, **{name: read(message)}))  # type: ignore[arg-type]
        return None

    def _failure(self, message: Message) -> Failure:
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


def _number(message: Message) -> float:
    number = number_of(message.args[0]) if message.args else None
    if number is None:
        raise ProtocolError(f"{message.address} came without a finite number")
    return number


def _flag(message: Message) -> int:
    return int(_number(message) >= ON_FROM)


def _whole(message: Message) -> int:
    return int(_number(message))


def _text(message: Message) -> str:
    return clean_text(message.args[0]) if message.args else ""


_FIELDS: dict[str, tuple[str, Callable[[Message], str | int | float]]] = {
    "/bypass": ("bypass", _flag),
    "/mute": ("mute", _flag),
    "/panic": ("panic", _flag),
    "/voice": ("voice", _text),
    "/voice/slot": ("voice_slot", _whole),
    "/f0/method": ("f0_method", _text),
}
"""Echoes that are also fields of Stats: applied at once, so that a key press shows before the next push."""


def _restated(stats: protocol.Stats) -> protocol.Stats:
    """Return stats whose state follows a newer echo of panic, mute or bypass; the next stats message has the last word."""
    if stats.panic:
        return replace(stats, state=State.PANIC.value)
    if stats.state not in (State.LIVE.value, State.BYPASS.value, State.MUTED.value, State.PANIC.value):
        return stats
    return replace(stats, state=(State.MUTED if stats.mute else State.BYPASS if stats.bypass else State.LIVE).value)


def _printable(stats: protocol.Stats) -> protocol.Stats:
    """Return stats that can be drawn: clean text, finite numbers. Raises ProtocolError for NaN and infinity."""
    for name, value in vars(stats).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ProtocolError(f"/rvc/stats {name} is {value}")
    return replace(
        stats,
        state=clean_text(stats.state, 24),
        voice=clean_text(stats.voice),
        f0_method=clean_text(stats.f0_method, 24),
        device=clean_text(stats.device),
    )
