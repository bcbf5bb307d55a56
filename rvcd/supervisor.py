"""The worker's life, seen from the control process: start it, talk to it, notice when it dies or hangs, start it again."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rvcd.audio.ring import AudioSegment
from rvcd.errors import RvcdError
from rvcd.geometry import StreamGeometry
from rvcd.protocol import WORKER_STATS
from rvcd.worker_process import WORKER_COMMAND, WorkerProcess, start_worker
from rvcd.worker_protocol import MAX_MESSAGE_BYTES, VoiceRequest, WorkerSetup, send

START_LIMIT_S = 180.0
"""Loading full-size models from a slow disk takes long; a worker that is not ready by then is started again."""
SILENCE_LIMIT_S = 10.0
"""A worker whose loop gives no sign of life for so long hangs: it is killed and started again."""
SILENT_LOOKS = 4
RESPONSIVE_S = 1.5
REQUEST_LIMIT_S = 120.0
BACK_OFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
GOOD_RUN_S = 30.0
"""After so long a run, the next failure counts as the first."""
HEARTBEAT = WORKER_STATS.index("heartbeat_ns")

log = logging.getLogger("rvcd.worker")


class WorkerState(enum.Enum):
    """Where the worker's life is. Only RUNNING makes sound."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"


class WorkerSupervisor:
    """Runs one worker at a time. All methods on the event loop's thread.

    state, reason: what it is doing and, after a failure, why. restarts: how often it had to be started again.
    voice: the voice that is live (None: none could be loaded), speakers: the names of its speakers ("" for a nameless one).
    voice_error: why the last voice could not be loaded. command: what is started (rvcd.worker_process). first: a worker that has
    been started already.
    """

    def __init__(
        self, segment: AudioSegment, setup: WorkerSetup, on_change: Callable[[], None] = lambda: None,
        command: Sequence[str] = WORKER_COMMAND, first: WorkerProcess | None = None,
    ) -> None:  # fmt: skip
        self.segment, self.setup, self.on_change, self.command = segment, setup, on_change, command
        self.state, self.reason = WorkerState.STOPPED, ""
        self.restarts = 0
        self.voice: VoiceRequest | None = None
        self.speakers: tuple[str, ...] = ()
        self.voice_error = ""
        self._first = first
        self._channel: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._answers: dict[int, asyncio.Future[str]] = {}
        self._next_id = 1
        self._runner: asyncio.Task[None] | None = None
        self._ready_at_s = 0.0

    @property
    def pid(self) -> int | None:
        """Process number of the worker, if one is alive."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def start(self) -> None:
        """Begin to run the worker, again and again until stop()."""
        self._runner = asyncio.get_running_loop().create_task(self._keep_running(), name="worker-supervisor")

    async def stop(self) -> None:
        """End the worker: asked first, killed after two seconds."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
        self._set(WorkerState.STOPPED, "")

    @property
    def responsive(self) -> bool:
        """Whether the running worker has given a sign of life lately: without one, the output is silent."""
        last_s = max(self.segment.read_worker_stats()[HEARTBEAT] / 1e9, self._ready_at_s)
        return self.state is WorkerState.RUNNING and time.monotonic() - last_s < RESPONSIVE_S

    async def load_voice(self, request: VoiceRequest) -> bool:
        """Load a voice and return once the worker uses it; False: it did already.

        Raises RvcdError with the worker's reason; the old voice goes on.
        """
        is_new = request != self.voice
        if is_new or self.state is not WorkerState.RUNNING:
            await self._ask({"command": "voice", "voice": request.__dict__})
        self.voice, self.voice_error = request, ""
        self.setup = replace(self.setup, voice=request)
        self.on_change()
        return is_new

    async def set_f0_method(self, name: str) -> None:
        """Switch the F0 method. Raises RvcdError with the worker's reason; the old method goes on."""
        if name != self.setup.f0_method:
            await self._ask({"command": "f0_method", "name": name})
            self.setup = replace(self.setup, f0_method=name)
            self.on_change()

    async def prepare_sizes(self, geometry: StreamGeometry) -> None:
        """Make the worker ready for a stream of other sizes. Raises RvcdError with the worker's reason; the old one goes on."""
        await self._ask({"command": "prepare", "setup": self.setup.with_geometry(geometry).to_json()})

    async def take_sizes(self, geometry: StreamGeometry) -> None:
        """Let the worker change to what it has prepared: the sound is cut. Raises RvcdError with the worker's reason."""
        await self._ask({"command": "resize"})
        self.setup = self.setup.with_geometry(geometry)

    def flush(self) -> None:
        """Make the worker forget the audio it has heard."""
        self._send({"command": "flush"})

    # ---- inside

    async def _keep_running(self) -> None:
        attempt = 0
        try:
            while True:
                self._ready_at_s = 0.0
                try:
                    reason = await self._run_once()
                except Exception as error:  # no process to be had, or a defect: without another try all would stay silent
                    reason = f"{type(error).__name__}: {error}"
                ran_s = time.monotonic() - self._ready_at_s if self._ready_at_s else 0.0
                attempt = 1 if ran_s > GOOD_RUN_S else attempt + 1
                self.restarts += 1
                pause_s = BACK_OFF_S[min(attempt - 1, len(BACK_OFF_S) - 1)]
                log.error("the worker ended: %s; the output is silent; starting it again in %.1f s", reason, pause_s)
                self._set(WorkerState.RESTARTING, reason)
                await asyncio.sleep(pause_s)
        finally:
            await self._end_process()

    async def _run_once(self) -> str:
        """Start a worker, serve it until it ends, and return why it ended."""
        self.segment.set_worker_ready(False)
        self.segment.publish_worker_stats([0.0] * len(WORKER_STATS))  # until it tells its own, with its first block
        if self.state is not WorkerState.RESTARTING:
            self._set(WorkerState.STARTING, "")
        worker, self._first = self._first or await start_worker(self.command), None
        process, channel = self._process, self._channel = worker.process, worker.channel
        self._send({"command": "setup", "setup": self.setup.to_json()}, fd=self.segment.fd)
        watch = asyncio.create_task(self._watch())
        ended = asyncio.create_task(process.wait())
        tasks = (watch, ended, asyncio.create_task(self._read_events(channel)), asyncio.create_task(self._log_stderr(process)))
        try:
            await asyncio.wait((watch, ended), return_when=asyncio.FIRST_COMPLETED)
            hung = watch.result() if watch.done() else ""
            if hung:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await self._end_process()
            return hung or _describe_exit(process.returncode or 0)
        finally:
            await self._end_process()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> str:
        """Return, as a reason, when the worker does not get ready or stops giving signs of life."""
        started_s, silent_looks = time.monotonic(), 0
        while True:
            await asyncio.sleep(0.5)
            if not self._ready_at_s:
                if time.monotonic() - started_s > START_LIMIT_S:
                    return f"not ready after {START_LIMIT_S:.0f} s"
                continue
            last_s = max(self.segment.read_worker_stats()[HEARTBEAT] / 1e9, self._ready_at_s)
            silent_looks = silent_looks + 1 if time.monotonic() - last_s > SILENCE_LIMIT_S else 0
            # After the whole machine slept, the first look finds everybody late; a worker that lives has moved by the next ones.
            if silent_looks >= SILENT_LOOKS:
                return f"no sign of life for {SILENCE_LIMIT_S:.0f} s"

    async def _read_events(self, channel: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await loop.sock_recv(channel, MAX_MESSAGE_BYTES)
            except ConnectionResetError:
                continue  # said once when it ended without reading all of ours; its own last words come after that
            except OSError:
                return
            if not data:
                return
            self._handle(json.loads(data))

    def _handle(self, message: dict[str, Any]) -> None:
        event = message["event"]
        if event == "log":
            log.log(getattr(logging, message["level"].upper(), logging.INFO), "%s", message["text"])
        elif event == "ready":
            self._ready_at_s = time.monotonic()
            self._set(WorkerState.RUNNING, "")
        elif event == "result" and message["id"] is None:
            # The voice of the setup.
            self.voice_error = message["error"]
            self.voice = None if message["error"] else self.setup.voice
            self.speakers = tuple(message["speakers"])
            if message["error"]:
                log.error("the voice cannot be used: %s; the output stays silent until another one is loaded", message["error"])
        elif event == "result":
            future = self._answers.pop(message["id"], None)
            if not message["error"] and message["speakers"]:
                self.speakers = tuple(message["speakers"])
            if future is not None and not future.done():
                future.set_result(message["error"])

    async def _log_stderr(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            log.warning("%s", line.decode(errors="replace").rstrip())

    async def _ask(self, message: dict[str, Any]) -> None:
        if self.state is not WorkerState.RUNNING:
            raise RvcdError(f"the worker is {self.state.value}; try again when it runs")
        number, self._next_id = self._next_id, self._next_id + 1
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        self._send({**message, "id": number})
        try:
            error = await asyncio.wait_for(future, REQUEST_LIMIT_S)
        except asyncio.TimeoutError:
            raise RvcdError(f"the worker did not answer within {REQUEST_LIMIT_S:.0f} s") from None
        finally:
            self._answers.pop(number, None)
        if error:
            raise RvcdError(error)

    def _send(self, message: dict[str, Any], *, fd: int | None = None) -> None:
        if self._channel is not None:
            with contextlib.suppress(OSError):  # it has just died; _run_once notices
                send(self._channel, message, fd=fd)

    async def _end_process(self) -> None:
        self.segment.set_worker_ready(False)
        process = self._process
        if process is not None and process.returncode is None:
            self._send({"command": "stop"})
            try:
                # One that is still loading does not listen yet, and has nothing to put away.
                await asyncio.wait_for(process.wait(), 2.0 if self._ready_at_s else 0.05)
            except (asyncio.TimeoutError, asyncio.CancelledError):
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        for future in self._answers.values():
            if not future.done():
                future.set_result("the worker ended before it was done; try again")

    def _set(self, state: WorkerState, reason: str) -> None:
        changed = (state, reason) != (self.state, self.reason)
        self.state, self.reason = state, reason
        if changed:
            self.on_change()


def _describe_exit(status: int) -> str:
    if status < 0:
        return f"killed by signal {-status}"
    if status == 3:
        return "ten blocks in a row failed"
    return f"exit status {status}"
