"""The soak test: the real worker behind the real segment and the virtual device, as fast as it goes, for minutes.

The fast virtual device is in lockstep with the worker (rvcd/audio/_clock.c): it gives the next audio when the last is delivered,
so minutes of it stand for hours of a live stream. No torch here: the worker is a process of its own.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rvcd.audio.configured import DEMO_SPEECH
from rvcd.audio.virtual import VirtualDevice, VirtualRequest
from rvcd.bench.machine import resident_mb
from rvcd.bench.runner import Advance, ChildDied
from rvcd.bench.tasks import StreamSetup
from rvcd.daemon.wanted import Owner
from rvcd.daemon.worker import WorkerState, WorkerSupervisor
from rvcd.errors import RvcdError
from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import Wanted
from rvcd.ipc.segment import AudioSegment
from rvcd.params import Snapshot

FIFTHS = 5
LOOK_S = 0.05
SETTLE_S = 5.0
"""Not counted: the first seconds of a stream touch memory for the first time. Short soaks wait a tenth of their length."""
FLAT_MB = 5.0
FLAT_GROWTH = 0.05
PERIOD_SAMPLES = 480
SIZES = "measured"
"""Name of the one latency preset there is."""
SNAPSHOT = Snapshot(gate=-90.0, index_rate=0.5)


@dataclass(frozen=True)
class Soaked:
    """What minutes of streaming did. rss_mb: at 20, 40, 60, 80 and 100 % of the time.

    block_ms: length of a block; first_ms, last_ms: the median block's computing time in the first and the last fifth.
    stalls: how often the device gave up waiting for the worker.
    """

    seconds: float
    audio_s: float
    block_ms: float
    rss_mb: tuple[float, ...]
    first_ms: float
    last_ms: float
    blocks: int
    late_blocks: int
    failed_blocks: int
    stalls: int

    @property
    def growth_mb(self) -> float:
        """From the first mark, at 20 % of the time, to the end."""
        return self.rss_mb[-1] - self.rss_mb[0]

    @property
    def slowdown(self) -> float:
        """Growth of the median block's time: 0.1 is 10 %."""
        return self.last_ms / self.first_ms - 1

    @property
    def flat(self) -> bool:
        return not self._problems()

    @property
    def sentence(self) -> str:
        problems = self._problems()
        hours = f"{self.audio_s / 3600:.2f} hours of audio in {self.seconds / 60:.1f} minutes"
        return f"not flat over {hours}: {', '.join(problems)}" if problems else f"flat over {hours}"

    def _problems(self) -> list[str]:
        problems = []
        if self.growth_mb >= FLAT_MB:
            problems.append(f"memory grew by {self.growth_mb:.1f} MB")
        if self.slowdown > FLAT_GROWTH:
            problems.append(f"a block takes {100 * self.slowdown:.0f} % longer at the end (is the machine quiet?)")
        for count, what in ((self.failed_blocks, "failed"), (self.late_blocks, "late")):
            if count:
                problems.append(f"{count} block{'s' * (count > 1)} {what}")
        return problems


class _Errors(logging.Handler):
    """Keeps what the supervisor would have told a daemon's log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def soak(setup: StreamSetup, minutes: float, progress: Advance) -> Soaked:
    """Stream for so many minutes. Raises RvcdError for what is wrong with the files, ChildDied when the worker ends."""
    log, errors = logging.getLogger("rvcd.worker"), _Errors()
    log.addHandler(errors)
    log.propagate = False
    try:
        return asyncio.run(_soak(setup, 60 * minutes, progress, errors.lines))
    finally:
        log.removeHandler(errors)
        log.propagate = True


async def _soak(setup: StreamSetup, seconds: float, progress: Advance, errors: Sequence[str]) -> Soaked:
    geometry = setup.geometry
    segment = AudioSegment.create(geometry.rate_hz)
    segment.set_latency_samples(geometry.latency_samples)
    segment.publish_params(list(SNAPSHOT.values()))
    owner = Owner(Wanted(setup.voice, 0, setup.f0_method, SIZES))
    supervisor = WorkerSupervisor(segment, setup.models, {SIZES: geometry}, owner)
    device = VirtualDevice(
        VirtualRequest(str(DEMO_SPEECH), loop=True, realtime=False, rate_hz=geometry.rate_hz, period_samples=PERIOD_SAMPLES),
        segment,
    )
    try:
        progress(0.0, "loading")
        supervisor.start()
        await _until_running(supervisor, owner, errors)
        device.open()
        device.start()
        return await _stream(supervisor, device, geometry, seconds, progress, errors)
    finally:
        device.close()
        await supervisor.stop()
        segment.close()


async def _until_running(supervisor: WorkerSupervisor, owner: Owner, errors: Sequence[str]) -> None:
    while supervisor.state is not WorkerState.RUNNING:
        _check_alive(supervisor, errors)
        await asyncio.sleep(LOOK_S)
    if owner.errors:
        raise RvcdError("; ".join(owner.errors.values()))


def _check_alive(supervisor: WorkerSupervisor, errors: Sequence[str]) -> None:
    if supervisor.restarts or supervisor.state is WorkerState.RESTARTING:
        first = next((line for line in errors if not line.startswith("the worker ended")), "")
        raise ChildDied(f"the worker ended: {supervisor.reason}{f' ({first})' if first else ''}")


async def _stream(
    supervisor: WorkerSupervisor, device: VirtualDevice, geometry: StreamGeometry, seconds: float,
    progress: Advance, errors: Sequence[str],
) -> Soaked:  # fmt: skip
    """Watch for so many seconds."""
    await asyncio.sleep(min(SETTLE_S, seconds / 10))
    before, started_s = supervisor.stats, time.monotonic()
    spent_ms: list[list[float]] = [[] for _ in range(FIFTHS)]
    rss_mb: list[float] = []
    blocks_seen = before.blocks
    while len(rss_mb) < FIFTHS:
        await asyncio.sleep(LOOK_S)
        _check_alive(supervisor, errors)
        stats, done = supervisor.stats, (time.monotonic() - started_s) / seconds
        if stats.blocks > blocks_seen:
            blocks_seen = stats.blocks
            spent_ms[len(rss_mb)].append(stats.total_ms)
        if done >= (len(rss_mb) + 1) / FIFTHS and spent_ms[len(rss_mb)] and supervisor.pid is not None:
            rss_mb.append(resident_mb(supervisor.pid)[0])
        progress(min(done, 1.0), "streaming")
    after = supervisor.stats
    counted = {name: int(getattr(after, name) - getattr(before, name)) for name in ("blocks", "late_blocks", "failed_blocks")}
    block_ms = geometry.ms(geometry.block_samples)
    return Soaked(
        seconds=time.monotonic() - started_s,
        audio_s=counted["blocks"] * block_ms / 1000,
        block_ms=block_ms,
        rss_mb=tuple(rss_mb),
        first_ms=statistics.median(spent_ms[0]),
        last_ms=statistics.median(spent_ms[-1]),
        stalls=device.stalls,
        **counted,
    )
