"""Commands that take their time, off the path of every other message: one after the other only where the order matters."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rvcd.errors import RvcdError
from rvcd.osc.session import SupersededError

SLOW_TIMEOUT_S = 120.0
MAX_JOBS = 16
"""Of one kind, running and waiting."""


class Order(enum.Enum):
    """How the jobs of one kind follow each other. Jobs of different kinds never wait for each other.

    IN_TURN: one begins when the one before has ended; beyond MAX_JOBS the new job is refused.
    AT_ONCE: each begins at once, in the order in which they came, and runs beside the others: for requests to the owner of
    what is wanted, with whom the newest counts. Beyond MAX_JOBS the oldest is given up as superseded.
    """

    IN_TURN = enum.auto()
    AT_ONCE = enum.auto()


@dataclass(frozen=True)
class Job:
    """kind: which queue. work: what to await. fail: told why it came to nothing: a RvcdError, or a defect's exception."""

    kind: str
    order: Order
    work: Callable[[], Awaitable[None]]
    fail: Callable[[Exception], None]


class JobQueues:
    """A queue for each kind of job, as many as there are kinds. Used on one event loop."""

    def __init__(self, timeout_s: float = SLOW_TIMEOUT_S, max_jobs: int = MAX_JOBS) -> None:
        self._timeout_s = timeout_s
        self._max_jobs = max_jobs
        self._jobs: dict[str, dict[asyncio.Task[None], Job]] = {}
        self._is_closed = False

    def submit(self, job: Job) -> None:
        """Begin a job, or let it wait for its turn. A job that is refused fails before this returns."""
        if self._is_closed:
            job.fail(RvcdError("rvcd is stopping"))
            return
        jobs = self._jobs.setdefault(job.kind, {})
        if len(jobs) >= self._max_jobs:
            if job.order is Order.IN_TURN:
                job.fail(RvcdError(f"{len(jobs)} such commands wait already; send this one again when they are done"))
                return
            oldest = next(iter(jobs))
            del jobs[oldest]
            oldest.cancel()
        before = next(reversed(jobs), None) if job.order is Order.IN_TURN else None
        task = asyncio.get_running_loop().create_task(self._run(job, before), name=f"job-{job.kind}")
        jobs[task] = job
        task.add_done_callback(lambda ended: self._ended(ended, job))

    def _ended(self, task: asyncio.Task[None], job: Job) -> None:
        self._jobs[job.kind].pop(task, None)
        # Only here is it known whether the job was cancelled in time: it may have been done all the same.
        if task.cancelled() and not self._is_closed:
            job.fail(SupersededError())

    async def close(self) -> None:
        """Cancel the running jobs and forget the waiting ones; nobody is told."""
        self._is_closed = True
        tasks = [task for jobs in self._jobs.values() for task in jobs]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job: Job, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        try:
            await asyncio.wait_for(job.work(), self._timeout_s)
        except asyncio.TimeoutError:  # in Python 3.10 this is not the builtin TimeoutError
            job.fail(RvcdError(f"no result after {self._timeout_s:g} s"))
        except Exception as error:
            job.fail(error)
