"""Waiting for something to come true. The limit only ends a hang: it is no judgement on how fast this machine is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

HANG_S = 120.0
"""After so long a test gives up. pytest's own limit (pyproject.toml) is longer."""

_FIRST_PORT, _PORTS_A_WORKER = 20_000, 1_500
_next_port = count(os.getpid() % _PORTS_A_WORKER)


def eventually(condition: Callable[[], T], what: str = "", *, every_s: float = 0.02, limit_s: float = HANG_S) -> T:
    """Return condition()'s first true value."""
    deadline_s = time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > deadline_s:
            raise AssertionError(f"{what or 'it'} did not come true within {limit_s:g} s")
        time.sleep(every_s)
    return value


async def eventually_async(condition: Callable[[], T], what: str = "", *, every_s: float = 0.01) -> T:
    """Return condition()'s first true value; the event loop goes on meanwhile."""
    deadline_s = time.monotonic() + HANG_S
    while not (value := condition()):
        if time.monotonic() > deadline_s:
            raise AssertionError(f"{what or 'it'} did not come true within {HANG_S:g} s")
        await asyncio.sleep(every_s)
    return value


def has_ended(pid: int) -> bool:
    """Say whether a process has ended, whether or not somebody has taken notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def free_port() -> int:
    """Return a UDP port of 127.0.0.1 that nobody has.

    Below those that the system gives away by itself, and from a range of this worker of pytest-xdist alone: nobody takes it
    before the test does.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    first = _FIRST_PORT + int(worker) % 8 * _PORTS_A_WORKER
    for number in _next_port:
        port = first + number % _PORTS_A_WORKER
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is no free port")


@contextlib.contextmanager
def signals_as_at_a_terminal() -> Iterator[None]:
    """Let processes that are started meanwhile take SIGINT and SIGHUP, also where the tests run in the background or under nohup.

    A shell starts such commands with these signals ignored, and what is ignored is inherited.
    """
    ignored = [number for number in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
