"""Live numbers by OSC: a flood of values is throttled to one a tick, the newest wins, and everybody who sent one is told it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rvcd.osc.publisher import Publisher
from rvcd.osc.session import Session
from rvcd.osc.subscriptions import SocketAddress
from rvcd.params import BY_NAME

TICK_S = 0.01
"""A number is applied at most this often; of the values that come in between, the last one is kept."""
MAX_WAITING_REPLIES = 32


@dataclass
class Throttle:
    """Of one number. value: waiting for the tick. waiting: who is to be told, and whether as 0..1 too."""

    applied_at_s: float = float("-inf")
    value: float | None = None
    waiting: dict[SocketAddress, bool] = field(default_factory=dict)


class Numbers:
    """Sets the session's parameters. All methods but the deferred tick raise what the session raises.

    defer(seconds, function): runs a function later. failed(name, senders, error): told of what a tick could not apply.
    """

    def __init__(
        self,
        session: Session,
        publisher: Publisher,
        *,
        clock: Callable[[], float],
        defer: Callable[[float, Callable[[], None]], object],
        failed: Callable[[str, Sequence[SocketAddress], Exception], None],
    ) -> None:
        self._session, self._publisher = session, publisher
        self._clock, self._defer, self._failed = clock, defer, failed
        self._throttles = {name: Throttle() for name in BY_NAME}

    def set(self, name: str, value: float, sender: SocketAddress, *, as_norm: bool) -> None:
        """Set a number, in its unit or (as_norm) by 0..1: at once if it rested for a tick, else with the next tick."""
        param, throttle = BY_NAME[name], self._throttles[name]
        is_idle = throttle.value is None
        throttle.value = param.from_normalised(value) if as_norm else param.clamp(value)
        if len(throttle.waiting) < MAX_WAITING_REPLIES:
            throttle.waiting[sender] = throttle.waiting.get(sender, False) or as_norm
        rested_s = self._clock() - throttle.applied_at_s
        if rested_s >= TICK_S and is_idle:
            self.apply(name)
        elif is_idle:
            self._defer(TICK_S - max(rested_s, 0.0), lambda: self._tick(name))

    def apply(self, name: str) -> None:
        """Apply the newest waiting value of a number, if any, and tell everybody who sent one."""
        throttle = self._throttles[name]
        if throttle.value is None:
            return
        value, waiting = throttle.value, throttle.waiting
        throttle.value, throttle.waiting, throttle.applied_at_s = None, {}, self._clock()
        self._session.set_param(name, value)
        for sender, as_norm in waiting.items():
            self.reply(name, sender, as_norm=as_norm)

    def apply_all(self) -> None:
        """Apply whatever waits."""
        for name in self._throttles:
            self.apply(name)

    def put(self, name: str, change: Callable[[float], float], sender: SocketAddress) -> None:
        """Set a number to change(its present value), at once."""
        self.apply(name)
        self._session.set_param(name, change(self._session.get_param(name)))
        self.reply(name, sender)

    def tell(self, name: str, sender: SocketAddress, *, as_norm: bool) -> None:
        """Tell a sender the present value."""
        self.apply(name)
        self.reply(name, sender, as_norm=as_norm)

    def reply(self, name: str, sender: SocketAddress, *, as_norm: bool = False) -> None:
        param, value = BY_NAME[name], self._session.get_param(name)
        self._publisher.reply(sender, param.address, float(value))
        if as_norm:
            self._publisher.reply(sender, param.address + "/norm", param.normalised(value))

    def _tick(self, name: str) -> None:
        """Apply what has waited; nobody called, so changes are published and failures reported from here."""
        waiting = tuple(self._throttles[name].waiting)
        try:
            self.apply(name)
            self._publisher.publish_changes()
        except Exception as error:
            self._failed(name, waiting, error)
