"""What every pool of workers keeps: which jobs wait, over which files workers have died, why nothing can be converted at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rvcd.audio.files import remove_leftovers
from rvcd.errors import RvcdError
from rvcd.rendering.messages import Failed, Finished, Job, RenderSetup


class Observer(Protocol):
    """Is told what happens, on the event loop's thread."""

    def begins(self, job: Job) -> None: ...

    def advances(self, number: int, done: float) -> None: ...

    def ends(self, outcome: Finished | Failed) -> None: ...

    def says(self, text: str) -> None: ...


class JobPool(ABC):
    """Jobs on their way to workers. Every job ends exactly once, unless the pool is cancelled."""

    most_deaths = 2
    """Workers that may die over one file before it is taken for the reason, and that may die before they are ready."""

    def __init__(self, setup: RenderSetup, workers: int, observer: Observer) -> None:
        """workers 0: as many as there is room for."""
        self.setup, self._wanted, self._observer = setup, workers, observer
        self._queue: deque[Job] = deque()
        self._deaths: Counter[int] = Counter()
        self._unready_deaths = 0
        self._was_ready = False
        self.refused = ""
        """Why nothing can be converted at all."""
        self.workers = 0
        """How many there were at most."""

    @abstractmethod
    async def run(self, jobs: Sequence[Job]) -> None:
        """Do all jobs; the observer is told of each end. Raises RvcdError when no worker can load the models.

        Cancelled, it ends its workers; what they had begun is not there.
        """

    def goes_on(self) -> bool:
        """Return whether a job waits, and can be done."""
        return bool(self._queue) and not self.refused

    def next_job(self) -> Job | None:
        """Return a job that is to be done now."""
        if not self._queue:
            return None
        job = self._queue.popleft()
        self._observer.begins(job)
        return job

    def ends(self, outcome: Finished | Failed) -> None:
        """Pass on how a job ended; on a full disk nothing more is begun."""
        self._observer.ends(outcome)
        if isinstance(outcome, Failed) and outcome.disk_full:
            while self._queue:
                reason = "not begun: the disk is full; free some space, then use --resume"
                self._observer.ends(Failed(self._queue.popleft().number, reason))

    def is_ready(self) -> None:
        """Account for a worker that has loaded everything."""
        self._was_ready, self._unready_deaths = True, 0

    def leave(self) -> None:
        """Call when no worker is left. Raises RvcdError for jobs that wait because none could load the models.

        Where some have been done all the same, those that wait fail with that reason.
        """
        if self._queue and self.refused and not self._was_ready:
            raise RvcdError(self.refused)
        while self._queue:
            self._observer.ends(Failed(self._queue.popleft().number, self.refused or "not begun: no worker could be started"))

    def died(self, job: Job | None, how: str) -> bool:
        """Account for a worker's death over a job, or before it was ready. Returns whether its place is taken anew."""
        if self.refused:
            return False
        if job is None:
            self._unready_deaths += 1
            if self._unready_deaths < self.most_deaths:
                return True
            reason = f"the worker process ends before it is ready ({how}); is there enough memory? Use fewer --jobs"
            if self._was_ready:  # others work: there is room for fewer
                self._observer.says(reason)
            else:
                self.refused = reason
            return False
        remove_leftovers(Path(job.target))
        self._deaths[job.number] += 1
        if self._deaths[job.number] < self.most_deaths:
            self._observer.says(f"{job.source}: the worker process died over it ({how}); it is tried once more")
            self._queue.appendleft(job)
        else:
            times = {2: "twice"}.get(self.most_deaths, f"{self.most_deaths} times")
            error = f"{job.source}: the worker process died over it {times} ({how}); is there enough memory?"
            self._observer.ends(Failed(job.number, error))
        return True
