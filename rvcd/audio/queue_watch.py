"""Says what the audio system's queues did: which latency has settled, and what had queued up and was dropped."""

from __future__ import annotations

from rvcd.ipc.segment import CallbackCounters

SAY_AGAIN_S = 30.0
TELLING_MS = 20.0
"""Less than this is said by the counters alone."""


class QueueWatch:
    """Turns counters into sentences for the log, seldom enough for a machine that stalls again and again."""

    def __init__(self) -> None:
        self._stale_samples: int | None = None
        self._said_at_s = float("-inf")
        self._latency_ms = 0.0

    def look(self, now_s: float, counters: CallbackCounters, rate_hz: int, settled_ms: float) -> list[tuple[str, str]]:
        """Return what is new: (level, sentence). settled_ms: the device's latency that is being held, 0 while it is not known."""
        said = []
        if settled_ms and abs(settled_ms - self._latency_ms) >= 0.1:
            said.append(("info", f"the audio system's queues have settled: {settled_ms:.1f} ms from microphone to speakers"))
            self._latency_ms = settled_ms
        if self._stale_samples is None:
            self._stale_samples = counters.stale_samples
        stale_ms = 1000.0 * (counters.stale_samples - self._stale_samples) / rate_hz
        if stale_ms >= TELLING_MS and now_s - self._said_at_s >= SAY_AGAIN_S:
            said.append(("warning", f"{stale_ms:.0f} ms of the microphone had queued up in the audio system and were dropped: "
                                    "the latency stays as it is; the machine stood still, or is too busy"))  # fmt: skip
            self._stale_samples, self._said_at_s = counters.stale_samples, now_s
        return said
