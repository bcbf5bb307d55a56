"""Who gets pushed to: leased subscriptions and the configured feedback targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from rvcd.errors import RvcdError
from rvcd.osc.telemetry import PeakHold
from rvcd.protocol import DEFAULT_GROUPS, GROUPS, MAX_SUBSCRIPTIONS, SUBSCRIPTION_LEASE_S

MIN_HZ, MAX_HZ, DEFAULT_HZ = 1, 30, 10
MIN_PORT, MAX_PORT = 1024, 65535
"""Ports a packet may name: the services below are never to be written to on a client's word."""

SocketAddress = tuple[Any, ...]
"""As asyncio gives it: (host, port), and for IPv6 also flow and scope."""


@dataclass(frozen=True)
class FeedbackTarget:
    """One `[[osc.feedback]]` of the configuration, for clients that cannot renew a lease. hz: 1..30. groups: of GROUPS."""

    host: str
    port: int
    hz: int = DEFAULT_HZ
    groups: tuple[str, ...] = DEFAULT_GROUPS


@dataclass
class Target:
    """One receiver of pushed messages. Times are of the server's clock, in seconds; lease_until_s inf: static."""

    address: SocketAddress
    owner: SocketAddress
    hz: int
    groups: tuple[str, ...]
    lease_until_s: float
    next_push_s: float
    held: dict[str, tuple[str | int | float, ...]] = field(default_factory=dict)
    """Changes that came too soon after the last one of their address: the newest of each, sent with the next push."""
    sent_at_s: dict[str, float] = field(default_factory=dict)
    peaks: PeakHold = field(default_factory=PeakHold)
    log_number: int = 0
    """Number of the newest line of the log that was sent."""
    knows_state: bool = False
    """Whether the whole state has been sent; changes are only sent after it."""

    @property
    def period_s(self) -> float:
        """Seconds between pushes."""
        return 1.0 / self.hz


class Subscriptions:
    """The table of targets. It holds at most `limit` leases, besides the static targets."""

    def __init__(
        self, clock: Callable[[], float], *, limit: int = MAX_SUBSCRIPTIONS, lease_s: float = SUBSCRIPTION_LEASE_S
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._lease_s = lease_s
        self._leased: dict[tuple[str, int], Target] = {}
        self._static: list[Target] = []

    @property
    def lease_s(self) -> float:
        """How long a subscription lives without being renewed."""
        return self._lease_s

    def add_static(self, address: SocketAddress, hz: int, groups: tuple[str, ...]) -> None:
        """Add a configured target, which never expires. Raises RvcdError for an unknown group."""
        rate = min(max(hz, MIN_HZ), MAX_HZ)
        self._static.append(Target(address, address, rate, _known_groups(groups), float("inf"), self._clock()))

    def subscribe(
        self, sender: SocketAddress, *, port: int = 0, hz: int = DEFAULT_HZ, groups: Iterable[str] = ()
    ) -> tuple[Target, bool]:
        """Open or renew the lease of the sender's host at `port` (0: the sender's own). hz is clamped to 1..30.

        Returns (target, whether it is new or has new groups). The host is always the sender's: a packet cannot point
        the daemon at somebody else. Raises RvcdError for an unknown group, a port outside 1024..65535 or a full table.
        """
        if port and not MIN_PORT <= port <= MAX_PORT:
            raise RvcdError(f"port {port} is outside {MIN_PORT}..{MAX_PORT}; use 0 for the port you send from")
        wanted = _known_groups(groups)
        now = self._clock()
        self.expire()
        address = (sender[0], port or sender[1], *sender[2:])
        rate = min(max(hz, MIN_HZ), MAX_HZ)
        target = self._leased.get(address[:2])
        if target is not None:
            is_new = target.groups != wanted
            target.owner, target.hz, target.groups, target.lease_until_s = sender, rate, wanted, now + self._lease_s
            return target, is_new
        if len(self._leased) >= self._limit:
            raise RvcdError(
                f"all {self._limit} subscriptions are in use; try again in {self._lease_s:g} s, when unrenewed ones have ended"
            )
        target = Target(address, sender, rate, wanted, now + self._lease_s, now)
        self._leased[address[:2]] = target
        return target, True

    def unsubscribe(self, sender: SocketAddress) -> int:
        """End every lease that the sender opened or that goes to it; return how many."""
        gone = [key for key, target in self._leased.items() if sender[:2] in (key, target.owner[:2])]
        for key in gone:
            del self._leased[key]
        return len(gone)

    def expire(self) -> None:
        """Drop the leases that have run out."""
        now = self._clock()
        for key in [key for key, target in self._leased.items() if target.lease_until_s <= now]:
            del self._leased[key]

    def targets(self) -> list[Target]:
        """Return the static targets and the leases (call expire first to be sure they are alive)."""
        return [*self._static, *self._leased.values()]


def _known_groups(groups: Iterable[str]) -> tuple[str, ...]:
    """Return the groups in GROUPS' order, DEFAULT_GROUPS for none. Raises RvcdError naming an unknown one."""
    asked = list(groups)
    for group in asked:
        if group not in GROUPS:
            raise RvcdError(f"unknown group '{group[:32]}'; known: {', '.join(GROUPS)}")
    return tuple(group for group in GROUPS if group in asked) if asked else DEFAULT_GROUPS
