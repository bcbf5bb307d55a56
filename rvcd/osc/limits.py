"""Rate limits: token buckets per source address, in a table that cannot grow."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from rvcd.osc.verbs import Limit

MAX_SOURCES = 256
RATES: dict[Limit, tuple[float, float]] = {
    Limit.NORMAL: (500.0, 1000.0), Limit.HEAVY: (4.0, 12.0), Limit.RARE: (0.5, 4.0),
}  # fmt: skip
"""Tokens a second and the most that can be saved up, for each source."""
WILDCARD_COST = 4.0
"""A pattern is compared with every address of the table, so it costs more than a plain message."""


@dataclass
class TokenBucket:
    """rate_hz tokens a second up to `burst`, starting full."""

    rate_hz: float
    burst: float
    tokens: float
    filled_at_s: float

    def take(self, now_s: float, cost: float = 1.0) -> bool:
        """Take cost tokens if there are as many; return whether there were."""
        self.tokens = min(self.burst, self.tokens + max(0.0, now_s - self.filled_at_s) * self.rate_hz)
        self.filled_at_s = now_s
        if self.tokens < cost:
            return False
        self.tokens -= cost
        return True


class Sources:
    """The buckets of the sources heard of most recently; the one heard of longest ago is forgotten first."""

    def __init__(self, clock: Callable[[], float], max_sources: int = MAX_SOURCES) -> None:
        self._clock = clock
        self._max_sources = max_sources
        self._buckets: OrderedDict[tuple[str, int], dict[Limit, TokenBucket]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, source: tuple[str, int], limit: Limit, cost: float = 1.0) -> bool:
        """Return whether a message of this source may be acted on now. FREE always may and leaves no trace."""
        if limit is Limit.FREE:
            return True
        now = self._clock()
        buckets = self._buckets.get(source)
        if buckets is None:
            buckets = {key: TokenBucket(rate, burst, burst, now) for key, (rate, burst) in RATES.items()}
            self._buckets[source] = buckets
            if len(self._buckets) > self._max_sources:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(source)
        return buckets[limit].take(now, cost)
