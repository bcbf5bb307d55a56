"""Who goes first on the processor: the device thread in a real-time class, the worker before other programs.

PortAudio gives its ALSA thread no real-time class, JACK and PipeWire give theirs one. So the control process asks for it
from outside, for whatever thread makes the callbacks, by the kernel's number of the thread; and what is reported is what the
kernel says of that thread afterwards, never what was asked for.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from dataclasses import dataclass

from rvcd.ipc._native import lib

DEVICE_PRIORITY = 60
"""Of SCHED_FIFO: above the kernel's interrupt threads (50), below a JACK server (70 and more)."""
MONITOR_PRIORITY = 55
"""Below the main device's thread, which never waits for the monitor's."""
WORKER_NICE = -11
"""Never a real-time class for torch: its threads would starve everything else."""
OVERRUN_LIMIT_S = 0.5
"""A real-time thread that computes so long without waiting once loses its class: it would keep the processor for ever."""
REALTIME = ("FIFO", "RR", "DEADLINE")
_POLICIES = {
    os.SCHED_OTHER: "OTHER",
    os.SCHED_FIFO: "FIFO",
    os.SCHED_RR: "RR",
    os.SCHED_BATCH: "BATCH",
    os.SCHED_IDLE: "IDLE",
    6: "DEADLINE",
}
LIMITS_ADVICE = (
    "write `@audio - rtprio 80`, `@audio - memlock unlimited` and `@audio - nice -15` into /etc/security/limits.conf, join the "
    "group audio and log in again"
)


@dataclass(frozen=True)
class Scheduling:
    """How the kernel schedules one thread."""

    policy: str
    """OTHER, FIFO, RR, BATCH, IDLE or DEADLINE, as in SCHED_FIFO; the number if it is none of these."""
    priority: int
    """1..99 in FIFO and RR, otherwise 0."""
    nice: int
    """-20..19; means something outside the real-time classes only."""

    @property
    def realtime(self) -> bool:
        """Whether the thread goes before every ordinary one."""
        return self.policy in REALTIME

    def __str__(self) -> str:
        if self.policy == "DEADLINE":
            return self.policy
        return f"{self.policy} {self.priority}" if self.realtime else f"{self.policy}, nice {self.nice}"


@dataclass(frozen=True)
class Promotion:
    """What came of asking for a real-time class."""

    scheduling: Scheduling | None
    """Read from the kernel afterwards; None when the thread has ended."""
    problem: str
    """Why it is not a real-time class, and what to do: one sentence. "" when it is one, or the thread has ended."""


def scheduling_of(thread_id: int) -> Scheduling | None:
    """Return how the kernel schedules a thread of this process, by the kernel's number; None when there is no such thread."""
    if thread_id <= 0 or not os.path.exists(f"/proc/self/task/{thread_id}"):
        return None
    try:
        policy = os.sched_getscheduler(thread_id) & ~os.SCHED_RESET_ON_FORK
        priority = os.sched_getparam(thread_id).sched_priority
        nice = os.getpriority(os.PRIO_PROCESS, thread_id)
    except ProcessLookupError:
        return None  # it ended just now
    return Scheduling(_POLICIES.get(policy, str(policy)), priority, nice)


def promote(thread_id: int, wanted: int = DEVICE_PRIORITY) -> Promotion:
    """Give a thread of this process FIFO of the wanted priority, or as much as the limits allow.

    A thread that has a real-time class already keeps what it has: a sound server knows the order among its own. From the
    first call on, a real-time thread of this process that never waits is demoted (see OVERRUN_LIMIT_S).
    """
    found = scheduling_of(thread_id)
    if found is None or found.realtime:
        return Promotion(found, "")
    _demote_on_overrun()
    limit = _raise_soft_limit(resource.RLIMIT_RTPRIO, wanted)
    refusal = ""
    for priority in (wanted, min(wanted, limit)):  # who has CAP_SYS_NICE needs no limit
        if priority < 1:
            continue
        try:
            os.sched_setscheduler(thread_id, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
            refusal = ""
            break
        except ProcessLookupError:
            return Promotion(None, "")
        except OSError as error:
            refusal = (error.strerror or str(error)).lower()
    granted = scheduling_of(thread_id)
    if granted is None or granted.realtime:
        return Promotion(granted, "")
    if not refusal:
        return Promotion(granted, demotion_text(granted))
    return Promotion(granted, f"the device thread has no real-time priority, but {granted}: {_why(limit, refusal)}")


def demotion_text(found: Scheduling) -> str:
    """Return what to say of a thread that had a real-time class and has not any more: it needs the processor to itself."""
    return f"the device thread computed for {OVERRUN_LIMIT_S:g} s without a pause and lost its real-time priority ({found})"


def _why(limit: int, refusal: str) -> str:
    if limit == resource.RLIM_INFINITY or limit >= 1:
        return (
            f"the system refuses it ({refusal}) although the limit RTPRIO allows it; a container or RestrictRealtime= may be why"
        )
    return (
        f"the limit RTPRIO is 0, so that a busy machine is heard as drop-outs; {LIMITS_ADVICE}, "
        "or run the system service, which asks for LimitRTPRIO=80"
    )


def _raise_soft_limit(which: int, wanted: int) -> int:
    """Raise a soft limit as far as wanted and the hard limit allow; return what it is then."""
    soft, hard = resource.getrlimit(which)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(which, (allowed, hard))
    return resource.getrlimit(which)[0]


def _demote_on_overrun() -> None:
    """Set RLIMIT_RTTIME once what the kernel then sends is handled: it would end the process otherwise."""
    if lib.rvcd_demote_on_overrun() != 0:
        return
    hard = resource.getrlimit(resource.RLIMIT_RTTIME)[1]
    limit_us = int(OVERRUN_LIMIT_S * 1e6)
    resource.setrlimit(resource.RLIMIT_RTTIME, (limit_us if hard == resource.RLIM_INFINITY else min(limit_us, hard), hard))


@dataclass(frozen=True)
class Grants:
    """What threads of this user are really given: tried out, and read back from the kernel."""

    device: Promotion
    worker_nice: int
    """The niceness that a thread got which asked for WORKER_NICE."""


def try_out() -> Grants:
    """Start a thread that only waits, ask for it what the worker and the device thread ask for, and end it."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="rvcd-trial", daemon=True)
    thread.start()
    thread_id = thread.native_id or 0
    try:
        promotion = promote(thread_id)
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread_id, WORKER_NICE)
        niced = scheduling_of(thread_id)
        return Grants(promotion, niced.nice if niced else 0)
    finally:
        done.set()
        thread.join()
