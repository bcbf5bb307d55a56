"""Work on a disk, off the event loop's thread and with a time limit: for a disk that hangs nothing waits but its caller.

The threads are daemon threads of this module's own: those of asyncio's default executor are joined when the process ends, and
one that hangs in the kernel would keep it from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from rvcd.errors import RvcdError

MAX_HUNG = 4
"""Threads that may hang at one time. With so many the disk is given up: more of them would not make it answer."""

T = TypeVar("T")

log = logging.getLogger("rvcd.daemon.disk")


@dataclass(eq=False)
class _Job:
    """One piece of work in its thread. outcome: its result, or what it raised. given_up: nobody waits for it any more."""

    started_s: float
    outcome: asyncio.Future[tuple[Any, BaseException | None]]
    given_up: bool = False


class DiskWorker:
    """Works on several files at once, on each of them one thing at a time. All methods on the event loop's thread."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}
        """What has not ended yet, by file."""

    async def run(self, what: str, work: Callable[[], T], limit_s: float) -> T:
        """Do the work in a thread, and return its result or raise what it raises.

        what: the file or folder, as the sentences name it; work on the same one is done in the order of the calls.
        Raises RvcdError when there is no result within limit_s (the work may still be done later), and at once while earlier
        work on the same file, or on MAX_HUNG others, hangs.
        """
        end_s = time.monotonic() + limit_s
        while (earlier := self._jobs.get(what)) is not None and not earlier.given_up:
            await asyncio.wait({earlier.outcome}, timeout=max(0.0, end_s - time.monotonic()))
            if not earlier.outcome.done():
                raise _no_answer(what, limit_s)
        self._refuse_if_hung(what)
        job = self._begin(what, work)
        try:
            await asyncio.wait({job.outcome}, timeout=max(0.0, end_s - time.monotonic()))
        finally:  # cancelled, perhaps
            job.given_up = not job.outcome.done()
        if job.given_up:
            raise _no_answer(what, limit_s)
        result: T
        result, error = job.outcome.result()
        if error is not None:
            raise error
        return result

    def _refuse_if_hung(self, what: str) -> None:
        hung = {name: job for name, job in self._jobs.items() if job.given_up}
        if what in hung:
            raise _no_answer(what, time.monotonic() - hung[what].started_s)
        if len(hung) >= MAX_HUNG:
            name, job = next(iter(hung.items()))
            raise RvcdError(f"{what}: is not tried: {_no_answer(name, time.monotonic() - job.started_s)}")

    def _begin(self, what: str, work: Callable[[], Any]) -> _Job:
        loop = asyncio.get_running_loop()
        job = _Job(time.monotonic(), loop.create_future())

        def in_thread() -> None:
            result, error = None, None
            try:
                result = work()
            except BaseException as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody wants to know any more
                loop.call_soon_threadsafe(self._ended, what, job, result, error)

        try:
            threading.Thread(target=in_thread, name=f"disk: {what}", daemon=True).start()
        except RuntimeError:
            raise RvcdError(f"{what}: there is no thread left to reach the disk with; end some processes") from None
        self._jobs[what] = job
        return job

    def _ended(self, what: str, job: _Job, result: Any, error: BaseException | None) -> None:
        del self._jobs[what]
        job.outcome.set_result((result, error))
        if job.given_up:
            log.info("%s: the disk answers again, after %.0f s", what, time.monotonic() - job.started_s)


def _no_answer(what: str, seconds: float) -> RvcdError:
    return RvcdError(f"{what}: the disk has not answered for {seconds:.1f} s: is it busy, or a server gone?")
