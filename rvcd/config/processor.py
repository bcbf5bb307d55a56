"""The processor's name. Linux's /proc; stdlib only."""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path


def processor_name(path: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name, or the architecture's where it has none."""
    with contextlib.suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "Hardware"):
                return value.strip()
    return platform.processor() or platform.machine()
