"""A batch on other machines: workers that may be lost with their node, whose files are done again elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from rvcd.rendering.job_pool import JobPool, Observer
from rvcd.rendering.messages import Failed, Finished, Job, Ready, Refused, RenderSetup


class WorkerLost(Exception):
    """A worker is gone, and with it what it did; why, in a few words."""


class RemoteWorker(Protocol):
    """One worker somewhere. Each call raises WorkerLost."""

    async def load(self) -> Ready | Refused: ...

    async def convert(self, job: Job) -> Finished | Failed:
        """Convert a file; the target is in its place when this returns Finished."""

    def end(self) -> None:
        """Let it end, whatever it does; its place is free then."""


class Cluster(Protocol):
    """Where workers are started."""

    def slots(self) -> int:
        """Return how many workers there is room for now."""

    async def start(self) -> RemoteWorker:
        """Start a worker, or wait for room for it."""


class ClusterPool(JobPool):
    """Converts jobs with the workers of a cluster."""

    most_deaths = 4
    """Nodes are lost for reasons that have nothing to do with a file."""

    def __init__(self, setup: RenderSetup, workers: int, observer: Observer, cluster: Cluster) -> None:
        """workers 0: as many as the cluster has room for."""
        super().__init__(setup, workers, observer)
        self._cluster = cluster
        self._left = 0
        self._all_ended = asyncio.Event()

    async def run(self, jobs: Sequence[Job]) -> None:
        self._queue.extend(jobs)
        self._left = len(jobs)
        if not jobs:
            return
        self._all_ended = asyncio.Event()
        self.workers = min(len(jobs), self._wanted or max(1, self._cluster.slots()))
        seats = [asyncio.ensure_future(self._occupy()) for _ in range(self.workers)]
        everything = asyncio.ensure_future(asyncio.wait(seats))
        ended = asyncio.ensure_future(self._all_ended.wait())
        try:
            # A place that waits for room, after its node was lost, is not waited for when the others have done the work.
            await asyncio.wait((everything, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (everything, ended, *seats):
                task.cancel()
            results = await asyncio.gather(everything, ended, *seats, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        self.leave()

    def ends(self, outcome: Finished | Failed) -> None:
        super().ends(outcome)
        self._count()

    def _count(self) -> None:
        self._left -= 1
        if self._left <= 0 or (self.refused and not self._queue):
            self._all_ended.set()

    async def _occupy(self) -> None:
        """Keep a worker until there is nothing to do."""
        while self.goes_on():
            worker, job = None, None
            try:
                worker = await self._cluster.start()
                message = await worker.load()
                if isinstance(message, Refused):
                    self.refused = self.refused or message.error
                    return
                self.is_ready()
                while (job := self.next_job()) is not None:
                    self.ends(await worker.convert(job))
                    job = None
            except WorkerLost as lost:
                if not self.died(job, str(lost)):
                    return
            finally:
                if worker is not None:
                    worker.end()
