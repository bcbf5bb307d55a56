"""Where the time of one block went."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Timings:
    """What one block cost, in milliseconds, stage by stage.

    pitch_ms: what the others waited for it; pitch_own_ms: what it took, beside the encoder where there is a spare core.
    denoise_ms: a loaded denoiser, on or off. prior_ms: enc_p and flow. resample_ms: into the encoder's rate and out of the
    voice's. total_ms: the whole block, pitch_own_ms not counted twice.
    """

    denoise_ms: float = 0.0
    encode_ms: float = 0.0
    pitch_ms: float = 0.0
    pitch_own_ms: float = 0.0
    retrieval_ms: float = 0.0
    prior_ms: float = 0.0
    decode_ms: float = 0.0
    resample_ms: float = 0.0
    other_ms: float = 0.0
    total_ms: float = 0.0

    @property
    def synthesis_ms(self) -> float:
        """From units to samples."""
        return self.prior_ms + self.decode_ms


@dataclass
class Stopwatch:
    """Collects the time of named stages of one block: those of Timings, without their unit."""

    started: float = field(default_factory=time.perf_counter)
    spent_ms: dict[str, float] = field(default_factory=dict)

    def lap(self, stage: str) -> None:
        """Count the time since the last lap for a stage."""
        now = time.perf_counter()
        self.spent_ms[stage] = self.spent_ms.get(stage, 0.0) + 1000 * (now - self.started)
        self.started = now

    def timings(self, pitch_own_ms: float) -> Timings:
        """Return what was collected."""
        stages = {f"{stage}_ms": spent for stage, spent in self.spent_ms.items()}
        return Timings(**stages, pitch_own_ms=pitch_own_ms, total_ms=sum(self.spent_ms.values()))
