"""What the kernel grants a thread that must not be late."""

from __future__ import annotations

import resource

from rvcd.audio.scheduling import LIMITS_ADVICE, WORKER_NICE, try_out
from rvcd.cli.checks.finding import Finding, Level
from rvcd.config.settings import Settings
from rvcd.ipc.segment import AudioSegment


def realtime_findings(settings: Settings) -> list[Finding]:
    """Try out what the daemon asks of the kernel: a thread's real-time class, locked memory, the worker's niceness."""
    audio = settings.audio
    if audio.backend == "virtual" and not audio.virtual.realtime:
        return []
    grants = try_out()
    with AudioSegment.create(audio.rate_hz) as segment:
        memory_problem = segment.lock_memory()
    findings = [Finding(Level.NOTE, "realtime", problem) for problem in (grants.device.problem, memory_problem) if problem]
    if grants.worker_nice > WORKER_NICE:
        nice = f"the worker would run at nice {grants.worker_nice}, not {WORKER_NICE}: the limit NICE is {_lowest_nice()}"
        findings.append(Finding(Level.NOTE, "realtime", f"{nice}; {LIMITS_ADVICE}"))
    got = f"a device thread of this user gets {grants.device.scheduling}, unless a sound server gives it a class of its own"
    level = Level.NOTE if grants.device.problem else Level.OK
    return [Finding(level, "realtime", f"{got}; limits: {_limits()}"), *findings]


def _limits() -> str:
    """Return the limits that matter, as `ulimit` counts them."""
    priority, memory_bytes = (resource.getrlimit(which)[0] for which in (resource.RLIMIT_RTPRIO, resource.RLIMIT_MEMLOCK))
    unlimited = "unlimited"
    memory = unlimited if memory_bytes == resource.RLIM_INFINITY else f"{memory_bytes // 1024} kB"
    return f"RTPRIO {unlimited if priority == resource.RLIM_INFINITY else priority}, MEMLOCK {memory}, NICE {_lowest_nice()}"


def _lowest_nice() -> int:
    """Return the lowest niceness that the limit allows; the kernel counts it as 20 minus that."""
    limit = resource.getrlimit(resource.RLIMIT_NICE)[0]
    return -20 if limit == resource.RLIM_INFINITY else max(-20, 20 - limit)
