"""One thread beside its owner's, for work that needs nothing of what the owner does meanwhile."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue

Work = Callable[[], None]


class SideThread:
    """Does one piece of work at a time. The thread starts with the first piece and ends when this object is dropped.

    Its queues take no lock that anything else in the process takes: whoever stands still elsewhere cannot hold it up. (An
    executor of concurrent.futures takes one lock for all executors with every submit().)

    The work must not refer to this object's owner: until it has been waited for, the thread keeps what it raised, and with
    that what it refers to.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._started = self._busy = False

    def begin(self, work: Work) -> None:
        """Let the thread do some work, and return at once. What was begun before must have been waited for."""
        if self._busy:
            raise RuntimeError(f"the thread {self._name} has not been waited for")
        if not self._started:
            thread = threading.Thread(target=_run, args=(self._work, self._done), name=self._name, daemon=True)
            thread.start()
            weakref.finalize(self, self._work.put, None)
            self._started = True
        self._busy = True
        self._work.put(work)

    def wait(self) -> None:
        """Wait until the work is done, if there is any. Raises what it raised."""
        if not self._busy:
            return
        error = self._done.get()
        self._busy = False
        if error is not None:
            raise error


def _run(pending: SimpleQueue[Work | None], done: SimpleQueue[BaseException | None]) -> None:
    while (work := pending.get()) is not None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:
            error = raised
        del work  # nothing of it may stay alive while the thread waits
        done.put(error)
        del error
