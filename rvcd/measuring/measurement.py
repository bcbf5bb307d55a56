"""Several chirps, and what they say together; refused where they say nothing, or not the same."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from rvcd.measuring.chirp import Echo, find, make_chirp
from rvcd.measuring.loop import Loop, LoopError
from rvcd.protocol import to_dbfs

STEADY_MS = 10.0
"""Chirps that are later than others by more have no latency in common."""


@dataclass(frozen=True)
class Measurement:
    """The delays of all chirps, milliseconds, in their order, and the least correlation of them."""

    delays_ms: tuple[float, ...]
    correlation: float

    @property
    def delay_ms(self) -> float:
        """The one in the middle."""
        return statistics.median(self.delays_ms)

    @property
    def spread_ms(self) -> float:
        """From the shortest to the longest."""
        return max(self.delays_ms) - min(self.delays_ms)


def measure(loop: Loop, *, times: int, level_dbfs: float, record_s: float) -> Measurement:
    """Send so many chirps one after the other. take_over has been called for them. Raises LoopError, with what was heard."""
    chirp = make_chirp(loop.rate_hz, level_dbfs)
    echoes = []
    loop.send(chirp, record_s)  # not looked at: connections that were just made settle meanwhile
    for _ in range(times):
        echo = find(loop.send(chirp, record_s), chirp, loop.rate_hz)
        if not echo.found:
            raise LoopError(what_was_heard(echo, level_dbfs, loop.description))
        echoes.append(echo)
    found = Measurement(tuple(1000.0 * e.delay_samples / loop.rate_hz for e in echoes), min(e.correlation for e in echoes))
    if found.spread_ms > STEADY_MS:
        delays = ", ".join(f"{ms:.1f}" for ms in found.delays_ms)
        raise LoopError(
            f"the delay is not constant: {delays} ms; look for dropouts (rvcctl) and measure again on a quieter machine"
        )
    return found


def what_was_heard(echo: Echo, level_dbfs: float, way: str) -> str:
    """Say in one sentence why an echo is none."""
    if echo.silent:
        return f"nothing came back through {way}: check the connection and the names of the devices"
    heard = f"up to {to_dbfs(echo.level):.0f} dBFS came back"
    if echo.correlation >= 0.5:
        return f"the chirp came back more than once through {way}: take away a second way (monitoring, a mixer) and try again"
    if echo.correlation > 0.15:
        likeness = f"only {echo.correlation:.2f} like the chirp"
        return f"too noisy: {heard} through {way}, {likeness}; raise --level above {level_dbfs:g} dBFS"
    return f"something else came back through {way}: {heard}, and no chirp in it; is it another device or a microphone?"
