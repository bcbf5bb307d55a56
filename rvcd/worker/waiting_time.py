"""How long the threads that convert were ready to run and had no processor, as Linux counts it. Stdlib only."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from rvcd.worker.process import EssentialThread

TASKS = Path("/proc/self/task")
LOOKS_BETWEEN_LISTINGS = 50
LONGEST_TEXT = 128


class WaitingTime:
    """Call look() after each block. One open file for each thread, so that a look takes microseconds.

    The second number of /proc/PID/task/TID/schedstat is the nanoseconds that a thread spent on a run queue
    (Linux, Documentation/scheduler/sched-stats.rst). Where the kernel does not count them, no time is reported.
    """

    def __init__(self, tasks: Path = TASKS) -> None:
        self._tasks = tasks
        self._files: dict[int, int] = {}
        self._waited_ns: dict[int, int] = {}
        self._looks = 0

    def look(self) -> float:
        """Return what the thread that waited longest has waited since the previous look, in milliseconds; never raises."""
        if self._looks % LOOKS_BETWEEN_LISTINGS == 0:
            self._list_threads()
        self._looks += 1
        longest_ns = 0
        for thread, file in list(self._files.items()):
            try:
                waited_ns = int(os.pread(file, LONGEST_TEXT, 0).split()[1])
            except (OSError, ValueError, IndexError):
                self._drop(thread)  # it has ended
                continue
            longest_ns = max(longest_ns, waited_ns - self._waited_ns.get(thread, waited_ns))
            self._waited_ns[thread] = waited_ns
        return longest_ns / 1e6

    def close(self) -> None:
        """Close the files."""
        for thread in list(self._files):
            self._drop(thread)

    def _list_threads(self) -> None:
        elsewhere = {thread.native_id for thread in threading.enumerate() if isinstance(thread, EssentialThread)}
        with contextlib.suppress(OSError):
            here = {int(name) for name in os.listdir(self._tasks)} - elsewhere
            for thread in set(self._files) - here:
                self._drop(thread)
            for thread in here - set(self._files):
                with contextlib.suppress(OSError):
                    self._files[thread] = os.open(self._tasks / str(thread) / "schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def _drop(self, thread: int) -> None:
        os.close(self._files.pop(thread))
        self._waited_ns.pop(thread, None)
