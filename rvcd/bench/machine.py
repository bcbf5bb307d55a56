"""What is measured on, and whether others use it at the same time. Linux's /proc; no torch."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

from rvcd.bench.plan import usable_cores
from rvcd.config.processor import processor_name

LOOK_S = 0.4
BUSY_SHARE = 0.1
"""Above this share of all cores in others' hands, measured times grow visibly."""


@dataclass(frozen=True)
class Machine:
    """The machine before the measurement. load_average: of one minute. busy_share: 0..1 of all cores, over LOOK_S."""

    cpu_model: str
    cores: int
    memory_mb: int
    load_average: float
    busy_share: float
    python_version: str
    system: str

    def warning(self) -> str:
        """Return one sentence when the figures suffer from other programs, else ""."""
        if self.busy_share < BUSY_SHARE:
            return ""
        return (
            f"other programs used {100 * self.busy_share:.0f} % of the processor (load average {self.load_average:.2f}): "
            "on a quiet machine the figures are better"
        )


def look_at_machine() -> Machine:
    """Return what the machine is and does now. Takes LOOK_S."""
    return Machine(
        cpu_model=processor_name(),
        cores=usable_cores(),
        memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000,
        load_average=os.getloadavg()[0],
        busy_share=_busy_share(),
        python_version=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
    )


def _busy_share() -> float:
    """Return the share of processor time that was not idle over LOOK_S; what the hypervisor took counts as busy."""
    idle_before, all_before = _ticks()
    time.sleep(LOOK_S)
    idle, everything = _ticks()
    return 1 - (idle - idle_before) / (everything - all_before) if everything > all_before else 0.0


def _ticks() -> tuple[int, int]:
    """Return (idle, all) processor time since boot, as proc(5) orders it; (0, 0) where /proc says nothing."""
    try:
        ticks = [int(word) for word in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    except (OSError, ValueError):
        return 0, 0
    return (ticks[3] + ticks[4], sum(ticks)) if len(ticks) > 4 else (0, 0)


def resident_mb(pid: int | str = "self") -> tuple[float, float]:
    """Return (now, most ever) of a process's resident memory in 10^6 bytes. Raises OSError when it is gone."""
    sizes = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            sizes[name] = int(value.split()[0]) * 1024 / 1e6
    return sizes.get("VmRSS", 0.0), sizes.get("VmHWM", 0.0)
