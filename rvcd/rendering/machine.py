"""How many worker processes this machine has cores and memory for. Linux's /proc and /sys; no torch."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMORY_SHARE = 0.8
"""Of what is free, the part that workers may take."""


def usable_cores() -> int:
    """Return the cores this process may use, as the scheduler and a container's quota allow."""
    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        quota, period = (CGROUP / "cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores


def available_bytes() -> int:
    """Return the memory that programs may still take, as the kernel and a container's limit allow."""
    free = 2**40
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    with contextlib.suppress(OSError, ValueError):
        limit = (CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((CGROUP / "memory.current").read_text()))
    return max(0, free)


def private_bytes() -> int:
    """Return the memory of this process at its peak that another one like it would need again: without mapped files."""
    fields: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("VmHWM", "RssFile"):
                fields[name] = int(value.split()[0]) * 1024
    return max(0, fields.get("VmHWM", 0) - fields.get("RssFile", 0))


def worker_count(files: int, device: str, bytes_each: int, threads_each: int) -> int:
    """Return how many workers are quickest: one for each core (one for a GPU), as far as memory reaches and files there are.

    bytes_each: measured on a first worker, whose memory is taken already. threads_each: that one worker computes with.
    """
    cores = usable_cores() // max(1, threads_each) if device == "cpu" else 1
    fitting = 1 + int(MEMORY_SHARE * available_bytes() // max(1, bytes_each))
    return max(1, min(cores, fitting, files))
