"""The slow lane: voice loads and the like run one at a time, off the path of every other message."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rvcd.control.logs import get_logger
from rvcd.errors import RvcdError

SLOW_TIMEOUT_S = 120.0
_log = get_logger("control")


@dataclass(frozen=True)
class Job:
    """kind: a newer job of the same kind replaces a waiting one. work: what to await. fail: told the reason if it fails."""

    kind: str
    work: Callable[[], Awaitable[None]]
    fail: Callable[[str], None]


class SlowLane:
    """Runs jobs one after the other. At most one job of a kind waits: the newest."""

    def __init__(self, timeout_s: float = SLOW_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._waiting: dict[str, Job] = {}
        self._task: asyncio.Task[None] | None = None

    def submit(self, job: Job) -> None:
        """Queue a job. The waiting job of the same kind, if any, fails as superseded."""
        superseded = self._waiting.pop(job.kind, None)
        self._waiting[job.kind] = job
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="slow-lane")
        if superseded is not None:
            superseded.fail("superseded by a newer request")

    async def close(self) -> None:
        """Cancel the running job and forget the waiting ones."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._waiting:
            await self._run_one(self._waiting.pop(next(iter(self._waiting))))

    async def _run_one(self, job: Job) -> None:
        try:
            await asyncio.wait_for(job.work(), self._timeout_s)
        except RvcdError as error:
            job.fail(str(error))
        except asyncio.TimeoutError:  # in Python 3.10 this is not the builtin TimeoutError
            job.fail(f"no result after {self._timeout_s:g} s")
        except Exception as error:
            _log.exception("a %s command failed unexpectedly", job.kind)
            job.fail(f"internal error ({type(error).__name__}); the daemon's log has more")
