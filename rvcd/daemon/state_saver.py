"""Keeps the newest value of something in a file: soon after it changed, and never in the way of who changed it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from rvcd.daemon.disk import DiskWorker
from rvcd.errors import RvcdError

SAVE_AFTER_S = 1.0
"""From a change to the attempt to save it: a fader that moves is not written a hundred times."""
ATTEMPT_LIMIT_S = 10.0
RETRY_S = 30.0
"""After an attempt that failed, the same value is not tried again so soon."""

T = TypeVar("T")

log = logging.getLogger("rvcd.daemon.disk")


class StateSaver(Generic[T]):
    """Saves the newest value, one attempt at a time. All methods on the event loop's thread.

    A disk that is full or hangs is one warning in the log, until something has been saved again.
    """

    def __init__(self, disk: DiskWorker, what: str, save: Callable[[T], None], saved: T | None) -> None:
        """what: the file. save: writes a value, in a thread; raises RvcdError. saved: what the file holds; None: not known."""
        self._disk, self._what, self._save = disk, what, save
        self._on_disk = saved
        self._changed_s: float | None = None
        self._attempt: asyncio.Task[None] | None = None
        self._attempted: T | None = None
        self._refused: T | None = None
        self._retry_s = 0.0
        self._failing = False

    def poll(self, value: T, now_s: float) -> None:
        """Take the value as it is now, and begin to save it when that is due. Called again and again; waits for nothing."""
        if self._attempt is not None:
            if not self._attempt.done():
                return
            self._look_at(self._attempt, now_s)
        if value == self._on_disk:
            self._changed_s = None
            return
        if self._changed_s is None:
            self._changed_s = now_s
        if now_s - self._changed_s >= SAVE_AFTER_S and (value != self._refused or now_s >= self._retry_s):
            self._attempted = value
            self._attempt = asyncio.get_running_loop().create_task(
                self._disk.run(self._what, partial(self._save, value), ATTEMPT_LIMIT_S), name=f"save {self._what}"
            )

    async def close(self, value: T, limit_s: float) -> None:
        """Save the last value if it is not saved yet. Takes at most limit_s, and says in the log if that was not enough."""
        end_s = time.monotonic() + limit_s
        if self._attempt is not None:
            await asyncio.wait({self._attempt}, timeout=limit_s)
            self._attempt.cancel()
            await asyncio.wait({self._attempt})
            self._look_at(self._attempt, time.monotonic())
        if value == self._on_disk:
            return
        try:
            await self._disk.run(self._what, partial(self._save, value), max(0.0, end_s - time.monotonic()))
            self._on_disk = value
        except Exception as error:
            log.warning("what changed last is not saved: %s", self._sentence(error))

    def _look_at(self, attempt: asyncio.Task[None], now_s: float) -> None:
        """Learn how an attempt ended."""
        self._attempt = self._changed_s = None
        error = asyncio.CancelledError() if attempt.cancelled() else attempt.exception()
        if error is None:
            self._on_disk, self._refused = self._attempted, None
            if self._failing:
                log.info("%s: is saved again", self._what)
            self._failing = False
            return
        # None: it may have been written all the same, or be written later.
        self._on_disk, self._refused, self._retry_s = None, self._attempted, now_s + RETRY_S
        if not self._failing and not attempt.cancelled():
            log.warning("%s", self._sentence(error))
        self._failing = True

    def _sentence(self, error: BaseException) -> str:
        is_told = isinstance(error, RvcdError)
        return str(error) if is_told else f"{self._what}: cannot be saved ({type(error).__name__}: {error})"
