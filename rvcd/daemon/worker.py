"""The worker's life, seen from the control process: start it, tell it what is wanted, notice its death, start another."""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from rvcd.daemon.wanted import Owner
from rvcd.geometry import StreamGeometry
from rvcd.ipc.child import LAST_WORDS_S, Child
from rvcd.ipc.messages import Cut, Flush, FromWorker, LogLine, ModelSetup, Start, Stop, Want, WorkerSetup
from rvcd.ipc.python_module import module_command
from rvcd.ipc.segment import AudioSegment
from rvcd.ipc.worker_stats import COUNTS, WorkerStats

WORKER_COMMAND = module_command("rvcd.worker.main")
START_LIMIT_S = 180.0
"""Loading full-size models from a slow disk takes long; a worker that is not ready by then is started again."""
SILENCE_LIMIT_S = 10.0
"""A worker whose loop, or whose reports, give no sign of life for so long hangs: it is killed and started again."""
SILENT_LOOKS = 4
LOOK_S = 0.5
RESPONSIVE_S = 1.5
STOP_S, STOP_WHILE_LOADING_S = 2.0, 0.05
"""One that is still loading does not listen yet, and has nothing to put away."""
BACK_OFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Before the next start, by how many workers in a row ended before they were ready; after one that was, none is lost."""

WorkerChild: TypeAlias = Child[FromWorker]
log = logging.getLogger("rvcd.worker")


class WorkerState(enum.Enum):
    """Where the worker's life is. Only RUNNING makes sound."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"


async def start_worker(command: Sequence[str] = WORKER_COMMAND) -> WorkerChild:
    """Start a process that imports what it needs and waits to be told the rest. Raises OSError.

    The daemon does that first of all, because what a worker imports takes longer than all the rest.
    """
    return await Child[FromWorker].start(command, log)


class WorkerSupervisor:
    """Runs one worker at a time, and keeps it told of what is wanted. All methods on the event loop's thread.

    state, reason: what it is doing and, after a failure, why. restarts: how often it had to be started again.
    on_change: called when the state has changed, and after each report.
    """

    def __init__(
        self, segment: AudioSegment, models: ModelSetup, geometries: Mapping[str, StreamGeometry], owner: Owner,
        on_change: Callable[[], None] = lambda: None, command: Sequence[str] = WORKER_COMMAND, first: WorkerChild | None = None,
    ) -> None:  # fmt: skip
        """geometries: the stream's sizes for each latency preset. command: what is started. first: one that has been already."""
        self._segment, self._models, self._geometries, self._owner = segment, models, dict(geometries), owner
        self._on_change, self._command, self._first = on_change, command, first
        self.state, self.reason = WorkerState.STOPPED, ""
        self.restarts = 0
        self._child: WorkerChild | None = None
        self._generation = 0
        self._ready = False
        self._reported_s = 0.0
        self._ended_s: float | None = None
        self._told, self._told_revision = False, -1
        self._runner: asyncio.Task[None] | None = None
        self._earlier = dict.fromkeys(COUNTS, 0.0)

    @property
    def pid(self) -> int | None:
        """Process number of the worker, if one is alive."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Begin to run the worker, again and again until stop()."""
        self._runner = asyncio.get_running_loop().create_task(self._keep_running(), name="worker-supervisor")

    async def stop(self) -> None:
        """End the worker: asked first, killed after two seconds."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
        elif self._first is not None:
            await self._first.discard()
        self._set(WorkerState.STOPPED, "")

    # ---- telling it

    def tell_wanted(self) -> None:
        """Let the worker know what is wanted now, if it does not yet."""
        if self._ready and self._child is not None and self._owner.wanted.revision != self._told_revision:
            self._told_revision = self._owner.wanted.revision
            self._child.send(Want(self._owner.to_send))

    def cut(self, latency: str) -> None:
        """Nothing is heard now: let the worker go over to the latency preset that it has prepared."""
        if self._child is not None:
            self._child.send(Cut(latency))

    def flush(self) -> None:
        """Make the worker forget the audio it has heard."""
        if self._child is not None:
            self._child.send(Flush())

    # ---- its figures

    @property
    def stats(self) -> WorkerStats:
        """Return the telemetry of the present worker."""
        return WorkerStats.from_values(self._segment.read_worker_stats(), self._generation)

    def total(self, name: str) -> int:
        """Return a count of COUNTS over all workers so far: what the user sees must not go back when one ends."""
        return int(getattr(self.stats, name) + self._earlier[name])

    @property
    def responsive(self) -> bool:
        """Whether the running worker has given a sign of life lately: without one, the output is silent."""
        return self.state is WorkerState.RUNNING and time.monotonic() - self._alive_s() < RESPONSIVE_S

    def _alive_s(self) -> float:
        return self.stats.heartbeat_ns / 1e9

    # ---- inside

    async def _keep_running(self) -> None:
        failures = 0
        try:
            while True:
                try:
                    reason = await self._run_once()
                except Exception as error:  # no process to be had, or a defect: without another try all would stay silent
                    reason = f"{type(error).__name__}: {error}"
                if self._ended_s is None:  # of workers that end in a row, the first: since then there is silence
                    self._ended_s = time.monotonic()
                told, self._told = self._told, False
                failures = 0 if self._ready else failures + 1
                pause_s = BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)]
                self._count_in()
                self._ready = False
                self.restarts += 1
                log.error("the worker ended: %s; the output is silent; starting it again in %.1f s", reason, pause_s)
                if told:  # one that never came to hear what is wanted did not die of it
                    for sentence in self._owner.worker_died(reason):
                        log.error("%s", sentence)
                self._set(WorkerState.RESTARTING, reason)
                await asyncio.sleep(pause_s)
        finally:
            if self._first is not None:
                await self._first.discard()

    async def _run_once(self) -> str:
        """Start a worker, serve it until it ends, and return why it ended."""
        self._segment.set_worker_ready(False)
        if self.state is not WorkerState.RESTARTING:
            self._set(WorkerState.STARTING, "")
        child, self._first = self._first or await start_worker(self._command), None
        self._child, self._generation = child, self._generation + 1
        wanted = self._owner.worker_started()
        self._told_revision = wanted.revision
        child.hand_over(self._segment.fd)
        child.send(Start(WorkerSetup(self._models, self._geometries, self._generation, self._owner.to_choose), wanted))
        self._told = True
        hung = asyncio.ensure_future(self._watch_for_silence())
        ended = asyncio.ensure_future(child.watch(FromWorker, self._handle))
        try:
            await asyncio.wait((hung, ended), return_when=asyncio.FIRST_COMPLETED)
            return _words(ended.result()) if ended.done() else hung.result()
        finally:
            hung_up = hung.done() and not ended.done()
            await child.end(None if hung_up else Stop(), 0.0 if hung_up else STOP_S if self._ready else STOP_WHILE_LOADING_S)
            hung.cancel()
            await asyncio.wait((ended,), timeout=LAST_WORDS_S)
            ended.cancel()
            await asyncio.gather(hung, ended, return_exceptions=True)
            await child.discard()
            self._child = None
            self._segment.set_worker_ready(False)

    async def _watch_for_silence(self) -> str:
        """Return, as a reason, when the worker does not get ready or stops giving signs of life."""
        started_s, silent_looks = time.monotonic(), 0
        while True:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            if not self._ready:
                if now - started_s > START_LIMIT_S:
                    return f"not ready after {START_LIMIT_S:.0f} s"
                continue
            silent_s = now - min(self._reported_s, max(self._alive_s(), started_s))
            silent_looks = silent_looks + 1 if silent_s > SILENCE_LIMIT_S else 0
            # After the whole machine slept, the first look finds everybody late; a worker that lives has moved by the next ones.
            if silent_looks >= SILENT_LOOKS:
                return f"no sign of life for {SILENCE_LIMIT_S:.0f} s"

    def _handle(self, message: FromWorker) -> None:
        if isinstance(message, LogLine):
            log.log(getattr(logging, message.level.upper(), logging.INFO), "%s", message.text)
            return
        self._reported_s = time.monotonic()
        for sentence in self._owner.worker_reported(message):
            log.error("%s", sentence)
        if not self._ready:
            self._ready = True
            if self._ended_s is not None:
                log.info("the worker converts again after %.1f s", self._reported_s - self._ended_s)
                self._ended_s = None
            self._set(WorkerState.RUNNING, "")
        self.tell_wanted()
        self._on_change()

    def _count_in(self) -> None:
        for name in COUNTS:
            self._earlier[name] += getattr(self.stats, name)
        self._generation += 1  # its figures are counted; the next one has its own

    def _set(self, state: WorkerState, reason: str) -> None:
        changed = (state, reason) != (self.state, self.reason)
        self.state, self.reason = state, reason
        if changed:
            self._on_change()


def _words(how: str) -> str:
    return "ten blocks in a row failed" if how == "exit status 3" else how
