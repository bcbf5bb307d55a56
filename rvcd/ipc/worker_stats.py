"""The worker's telemetry: numbers that it publishes in the shared segment with every block. Stdlib only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from typing_extensions import Self


@dataclass
class WorkerStats:
    """Counts since the worker started, milliseconds of the newest block. Written by the worker only.

    generation: the worker's number (messages.WorkerSetup): figures of another one are a dead worker's. voiced: 0.0 or 1.0.
    level_dbfs: RMS of the newest block as it came from the microphone.
    load: computing time of the newest block / its length. waited_ms: of total_ms, what the threads that convert waited for a
    processor (worker.waiting_time). heartbeat_ns: CLOCK_MONOTONIC when they were published.
    """

    generation: float = 0.0
    blocks: float = 0.0
    late_blocks: float = 0.0
    expired_samples: float = 0.0
    failed_blocks: float = 0.0
    skipped_blocks: float = 0.0
    load: float = 0.0
    load_p95: float = 0.0
    f0_hz: float = 0.0
    voiced: float = 0.0
    encode_ms: float = 0.0
    pitch_ms: float = 0.0
    retrieval_ms: float = 0.0
    synthesis_ms: float = 0.0
    total_ms: float = 0.0
    waited_ms: float = 0.0
    heartbeat_ns: float = 0.0
    level_dbfs: float = 0.0

    def values(self) -> list[float]:
        """Return the numbers in the order of the fields, as they lie in the segment."""
        return [float(getattr(self, name)) for name in NAMES]

    @classmethod
    def from_values(cls, values: Sequence[float], generation: int) -> Self:
        """Inverse of values. All 0.0 where they are not this worker's, or nothing was published yet."""
        found = cls(*values[: len(NAMES)])
        return found if found.generation == generation else cls(generation=float(generation))


NAMES: tuple[str, ...] = tuple(field.name for field in fields(WorkerStats))
COUNTS: tuple[str, ...] = ("blocks", "late_blocks", "expired_samples", "failed_blocks", "skipped_blocks")
"""The fields that only grow while a worker lives."""
