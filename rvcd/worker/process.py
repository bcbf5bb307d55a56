"""What the worker's process asks of the system. Stdlib only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable

NICENESS = -11
PR_SET_PDEATHSIG = 1
EXIT_THREAD_ENDED = 4


def raise_priority() -> None:
    """Go before a game and a browser for the processor, where the system allows it (LimitNICE= in the unit).

    Never a real-time class: torch's threads would starve everything else.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)


def die_with_parent() -> None:
    """Ask the kernel to end this process when the control process ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class EssentialThread(threading.Thread):
    """A thread of start_essential_thread: it prepares, listens or reports, and converts nothing."""


def start_essential_thread(name: str, work: Callable[[], None]) -> None:
    """Run work on a thread without which the process is of no use: an exception in it ends the process, with a traceback."""

    def run() -> None:
        try:
            work()
        except BaseException:
            print(f"the thread '{name}' ended:", file=sys.stderr)
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(EXIT_THREAD_ENDED)

    EssentialThread(target=run, name=name, daemon=True).start()
