"""The worker processes of a batch: started, fed and watched, and replaced when they die."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rvcd.audio.files import remove_leftovers
from rvcd.ipc.child import Child
from rvcd.ipc.python_module import module_command
from rvcd.rendering.job_pool import JobPool, Observer
from rvcd.rendering.machine import worker_count
from rvcd.rendering.messages import (
    FromRenderWorker,
    Job,
    Leave,
    Load,
    Progress,
    Ready,
    Refused,
    RenderSetup,
)

COMMAND = module_command("rvcd.rendering.worker")


class ProcessPool(JobPool):
    """Converts jobs with a number of processes. Each loads the models once."""

    def __init__(self, setup: RenderSetup, workers: int, observer: Observer, command: Sequence[str] = COMMAND) -> None:
        """workers 0: as many as cores and memory allow, which a first worker's use of it says. command: of a worker."""
        super().__init__(setup, workers, observer)
        self._command = tuple(command)
        self._seats: list[_Seat] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = logging.Logger("rvcd.render")
        self._log.addHandler(_Said(observer))

    async def run(self, jobs: Sequence[Job]) -> None:
        self._queue.extend(jobs)
        if not jobs:
            return
        try:
            self._open_seats(self._wanted or 1)
            while self._tasks:
                done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                self._tasks -= done
                for task in done:
                    task.result()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self.leave()

    def _open_seats(self, count: int) -> None:
        """Let there be so many workers, or one for each job if those are fewer."""
        waiting = len(self._queue)
        while len(self._seats) < count and waiting > 0:
            waiting -= 1
            seat = _Seat(self)
            self._seats.append(seat)
            self._tasks.add(asyncio.ensure_future(seat.occupy()))
        self.workers = len(self._seats)

    def ready(self, message: Ready) -> None:
        """A worker has loaded everything: there may be room for more."""
        self.is_ready()
        if self._wanted == 0:
            self._wanted = worker_count(len(self._queue), message.device, message.private_bytes, self.setup.threads)
            for note in message.notes:
                self._observer.says(note)
            self._open_seats(self._wanted)

    def advances(self, message: Progress) -> None:
        self._observer.advances(message.number, message.done)

    async def start_child(self) -> Child[Any]:
        return await Child.start(self._command, self._log)

    def load_message(self) -> Load:
        return Load(self.setup)


class _Seat:
    """The place of one worker: when one dies, the next takes its place."""

    def __init__(self, pool: ProcessPool) -> None:
        self._pool = pool
        self._child: Child[Any] | None = None
        self._job: Job | None = None
        self._ready = False

    async def occupy(self) -> None:
        """Keep a worker here until there is nothing to do."""
        while self._pool.goes_on():
            self._become_vacant()
            self._child = child = await self._pool.start_child()
            try:
                child.send(self._pool.load_message())
                how = await child.watch(FromRenderWorker, self._handle)
            finally:
                await child.discard()
                if self._job is not None:
                    remove_leftovers(Path(self._job.target))
            left_early = self._job is not None or not self._ready
            if left_early and not self._pool.died(self._job, how):
                return

    def _become_vacant(self) -> None:
        self._ready, self._job = False, None

    def _handle(self, message: FromRenderWorker) -> None:
        if isinstance(message, Ready):
            self._ready = True
            self._pool.ready(message)
            self._go_on()
        elif isinstance(message, Refused):
            self._pool.refused = self._pool.refused or message.error
        elif isinstance(message, Progress):
            self._pool.advances(message)
        else:
            self._job = None
            self._pool.ends(message)
            self._go_on()

    def _go_on(self) -> None:
        assert self._child is not None
        self._job = self._pool.next_job()
        self._child.send(self._job or Leave())


class _Said(logging.Handler):
    """Passes on what a worker writes to its standard error."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self._observer = observer

    def emit(self, record: logging.LogRecord) -> None:
        self._observer.says(f"worker: {record.getMessage()}")
