"""What the bench and its measuring child say to each other: a task on the child's stdin, JSON lines back.

Events of the child: {"event": "progress", "done": 0..1, "doing": words}, {"event": "error", "text": sentence}, and last
{"event": "result", "result": {...}} with the fields of the task's result class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import ModelSetup, VoiceFiles

WARM_UP_S = 1.0
"""This much audio is converted after the warm-up before blocks count: caches, clock rates and threads settle."""
MIN_BLOCKS = 20
"""However few seconds are asked for: a p99 of fewer blocks says nothing."""


class StreamSetup(msgspec.Struct, frozen=True):
    """A stream to measure, as the live worker would run it."""

    models: ModelSetup
    geometry: StreamGeometry
    voice: VoiceFiles
    f0_method: str


@dataclass(frozen=True)
class MeasureTask:
    """Convert `audio` (a file, looped) for `seconds` of it.

    spawned_ns: CLOCK_MONOTONIC just before the child was started. paced: hand out each block when a microphone would have it,
    otherwise as soon as the last one is done.
    """

    setup: StreamSetup
    audio: str
    seconds: float
    paced: bool
    spawned_ns: int = 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "setup": msgspec.to_builtins(self.setup)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> MeasureTask:
        return cls(**{**fields, "setup": msgspec.convert(fields["setup"], StreamSetup)})

    def blocks(self) -> int:
        """How many blocks are to be counted."""
        return max(MIN_BLOCKS, round(100 * self.seconds / self.setup.geometry.block_frames))


@dataclass(frozen=True)
class StartUp:
    """From the start of the process to the first converted block, in seconds: the four add up to it."""

    imports_s: float
    loading_s: float
    warm_up_s: float
    first_block_s: float

    @property
    def total_s(self) -> float:
        return self.imports_s + self.loading_s + self.warm_up_s + self.first_block_s


@dataclass(frozen=True)
class Environment:
    """What the child really computed with. precision: "fp32" or "bf16". device_name: the GPU's, "" on the CPU.

    instructions: of rvcd's own kernels, "baseline" for none. convolutions: how those of the decoder are computed, by shape.
    """

    threads: int
    precision: str
    device: str
    device_name: str
    torch_version: str
    instructions: str = "baseline"
    convolutions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """What one child found. stages_ms: for each stage of engine.stopwatch.Timings its milliseconds, block after block.

    rss: resident memory, of which the GPU's is no part (gpu_peak_mb, None on the CPU). 1 MB = 10^6 bytes.
    """

    environment: Environment
    start_up: StartUp
    stages_ms: dict[str, list[float]]
    peak_rss_mb: float
    final_rss_mb: float
    gpu_peak_mb: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Measured:
        parts = {"environment": Environment(**fields["environment"]), "start_up": StartUp(**fields["start_up"])}
        return cls(**{**fields, **parts})


@dataclass(frozen=True)
class Way:
    """One of two ways to convert the same audio. stages_ms: as Measured's."""

    block_ms: float
    threads: int
    precision: str
    stages_ms: dict[str, list[float]]

    @property
    def blocks(self) -> int:
        return len(self.stages_ms["total_ms"])


@dataclass(frozen=True)
class Compared:
    """rvcd's way and upstream's over the same audio with the same weights, interleaved."""

    environment: Environment
    ours: Way
    recompute: Way

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Compared:
        return cls(Environment(**fields["environment"]), Way(**fields["ours"]), Way(**fields["recompute"]))


@dataclass(frozen=True)
class SyntheticTask:
    """Write random weights of the published sizes: below `folder`, a voice for each rate. rmvpe: an RMVPE too."""

    folder: str
    rates_hz: tuple[int, ...]
    rmvpe: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> SyntheticTask:
        return cls(**{**fields, "rates_hz": tuple(fields["rates_hz"])})


@dataclass(frozen=True)
class SyntheticFiles:
    """Paths of one set of random weights. rmvpe "": none was asked for."""

    encoder: str
    voice: str
    index: str
    rmvpe: str = ""
