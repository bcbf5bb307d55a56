"""Keeps an audio device alive: opens it, notices when it has died, and brings it back, without ever blocking the caller.

A device dies in silence: its callback simply stops. The calls that would clean up may hang for as long as the dead
server pleases. So every such call runs in a thread of its own, one at a time, and the daemon only polls.
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable
from typing import Protocol

from rvcd.audio.queue_watch import QueueWatch
from rvcd.audio.scheduling import Scheduling, demotion_text, promote, scheduling_of
from rvcd.errors import AudioDeviceError
from rvcd.ipc.segment import AudioSegment

OPEN_LIMIT_S = 15.0
BACKOFF_FIRST_S = 0.5
BACKOFF_LAST_S = 4.0
HEALTHY_AFTER_S = 5.0
"""A device that ran this long starts its next retries at BACKOFF_FIRST_S again."""
SILENT_LIMIT_S = 1.0
SILENT_LIMIT_PERIODS = 20
SETTLING_LIMIT_S = 3.0
"""Allowed silence in the first HEALTHY_AFTER_S: PulseAudio's devices start with a gap of two seconds."""


class AudioDevice(Protocol):
    """What DeviceSupervisor drives: a PortAudio or a virtual device."""

    @property
    def rate_hz(self) -> int: ...
    @property
    def period_samples(self) -> int: ...
    @property
    def input_latency_ms(self) -> float: ...
    @property
    def output_latency_ms(self) -> float: ...
    @property
    def description(self) -> str: ...
    @property
    def realtime(self) -> bool:
        """Whether it keeps the pace of time: a device that runs as fast as it can must not go before everything else."""

    @property
    def thread_id(self) -> int:
        """The kernel's number of the thread that makes the callbacks; 0 before the first one and once closed."""

    @property
    def settled_latency_ms(self) -> float:
        """Microphone to speakers, where the device itself sees to it that it holds; 0: it does not, or not yet."""

    def open(self) -> None:
        """Look for the device among those of this moment, and open it. Raises RvcdError."""

    def start(self) -> None:
        """Let the callback run. Raises RvcdError."""

    def stop(self) -> None:
        """End the callback in good order."""

    def close(self) -> None:
        """Give everything back, in whatever state the device is; may be called twice."""

    def abandon(self) -> None:
        """Another thread hangs in one of the calls above: leave behind what it holds. Returns at once."""


class DeviceState(str, enum.Enum):
    """Where the device is in its life."""

    OPENING = "opening"
    RUNNING = "running"
    LOST = "lost"
    """It ran, its callback stopped, and it is being brought back."""
    FAILED = "failed"
    """It has never run: it could not be opened, and is tried again."""


class _Job:
    """One call in a thread of its own. Its outcome is valid once `done` is set."""

    def __init__(self, work: Callable[[], AudioDevice | None]) -> None:
        self.started_s = time.monotonic()
        self.done = threading.Event()
        self.device: AudioDevice | None = None
        self.error: Exception | None = None
        self._work = work
        # A daemon thread: one that hangs in a dead server must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="rvcd-device", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.device = self._work()
        except Exception as error:
            self.error = error
        finally:
            self.done.set()


class DeviceSupervisor:
    """Opens a device, watches it and reopens it. All methods belong to one thread and return at once (stop excepted).

    state, reason: what the user is told. device: the running device, or None. reopened: how often it was brought back.
    """

    def __init__(
        self, make_device: Callable[[], AudioDevice], segment: AudioSegment, *, open_limit_s: float = OPEN_LIMIT_S
    ) -> None:
        """make_device builds a fresh, unopened device for every attempt; segment is the one its callback counts in."""
        self._make_device = make_device
        self._segment = segment
        self._open_limit_s = open_limit_s
        self._job: _Job | None = None
        self._attempt = 0
        self._handled: AudioDevice | None = None  # what the job is busy with
        self._opened_ns = 0
        self._backoff_s = BACKOFF_FIRST_S
        self._retry_at_s = 0.0
        self._stopped = False
        self._events: list[tuple[str, str]] = []
        self._said: set[str] = set()  # what is true of every attempt, and said once
        self._promoted = 0  # the number of the thread that _look_at_thread has dealt with
        self._queues = QueueWatch()
        self._was_realtime = False
        self._ever_ran = False
        self._told_notice = ""
        self.state = DeviceState.OPENING
        self.reason = "opening the audio device"
        self.device: AudioDevice | None = None
        self.reopened = 0

    def start(self) -> None:
        """Begin to open the device."""
        if self._job is None and self.device is None and not self._stopped:
            self._say_once("warning", self._segment.lock_memory())
            self._begin(None)

    @property
    def scheduling(self) -> Scheduling | None:
        """How the kernel schedules the thread that makes the callbacks now; None while there is none."""
        return scheduling_of(self.device.thread_id) if self.device is not None else None

    def poll(self) -> DeviceState:
        """Notice what has happened and begin what follows from it. Call about ten times a second."""
        if self._stopped:
            return self.state
        if self._job is not None:
            self._look_at_job(self._job)
        elif self.device is not None:
            self._look_at_device(self.device)
        elif time.monotonic() >= self._retry_at_s:
            self._begin(None)
        return self.state

    def drain_events(self) -> list[tuple[str, str]]:
        """Return what happened since the last call: (level, sentence), level one of info, warning, error."""
        events, self._events = self._events, []
        return events

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Stop and close the device, waiting at most timeout_s. False: the audio system hangs and was left behind."""
        self._stopped = True
        deadline_s = time.monotonic() + timeout_s
        opening, self._job = self._job, None
        if opening is not None:
            if not opening.done.wait(timeout_s):
                return self._leave_behind()
            self.device = opening.device
        device, self.device = self.device, None
        if device is None:
            return True
        self._handled = device
        closing = _Job(lambda: _shut(device))
        if not closing.done.wait(max(0.0, deadline_s - time.monotonic())):
            return self._leave_behind()
        if closing.error is not None:
            self._say("warning", f"the audio device did not stop cleanly: {closing.error}")
        return True

    def _leave_behind(self) -> bool:
        """Give up on the call that hangs. Returns False, for stop."""
        self._attempt += 1
        if self._handled is not None:
            self._handled.abandon()
            self._handled = None
        return False

    def _begin(self, dead: AudioDevice | None) -> None:
        self._attempt += 1
        attempt = self._attempt
        self._job = _Job(lambda: self._open(dead, attempt))

    def _open(self, dead: AudioDevice | None, attempt: int) -> AudioDevice:
        """Runs in the job's thread. After a hang that was left behind, it must not start a second device."""
        if dead is not None:
            self._handled = dead
            dead.close()
            self._check_current(attempt)
        self._handled = device = self._make_device()
        try:
            device.open()
            self._check_current(attempt)
            device.start()
        except BaseException:
            device.close()
            raise
        return device

    def _check_current(self, attempt: int) -> None:
        if attempt != self._attempt:
            raise AudioDeviceError("this attempt took too long and another one has taken its place")

    def _look_at_job(self, job: _Job) -> None:
        if not job.done.is_set():
            waited_s = time.monotonic() - job.started_s
            if waited_s > self._open_limit_s:
                self._job = None
                self._leave_behind()
                self._fail(f"the audio system has not answered for {waited_s:.0f} s: restart the sound server")
            return
        self._job = None
        if job.device is not None:
            self.device = job.device
            self._opened_ns = time.monotonic_ns()
            self._promoted = 0  # the kernel gives out its numbers again
            self.state = DeviceState.RUNNING
            self.reason = f"running on {job.device.description}"
            self.reopened += int(self._ever_ran)
            self._ever_ran = True
            self._say("info", f"audio is {self.reason}")
            return
        self._fail(str(job.error) or type(job.error).__name__)

    def _fail(self, reason: str) -> None:
        """An attempt failed: say so once, and plan the next."""
        if reason != self.reason:
            self._say("error", f"{reason} (trying again every {BACKOFF_FIRST_S:g} to {BACKOFF_LAST_S:g} s)")
        self.state = DeviceState.LOST if self._ever_ran else DeviceState.FAILED
        self.reason = reason
        self._retry_at_s = time.monotonic() + self._backoff_s
        self._backoff_s = min(2.0 * self._backoff_s, BACKOFF_LAST_S)

    def _look_at_device(self, device: AudioDevice) -> None:
        now_ns = time.monotonic_ns()
        period_s = device.period_samples / device.rate_hz
        silent_s = (now_ns - max(self._opened_ns, self._segment.counters().last_callback_ns)) / 1e9
        healthy = now_ns - self._opened_ns > HEALTHY_AFTER_S * 1e9
        least_s = SILENT_LIMIT_S if healthy else SETTLING_LIMIT_S
        if silent_s > max(least_s, SILENT_LIMIT_PERIODS * period_s):
            self.state = DeviceState.LOST
            self.reason = f"the audio device stopped calling {silent_s:.1f} s ago ({device.description})"
            self._say("warning", f"{self.reason}: bringing it back")
            self.device = None
            self._begin(device)
            return
        gone = str(getattr(device, "gone", ""))
        if gone:
            self.state, self.reason, self.device = DeviceState.LOST, gone, None
            self._say("warning", f"{gone}: bringing the audio back")
            self._begin(device)
            return
        self._look_at_notice(str(getattr(device, "notice", "")))
        if healthy:
            self._backoff_s = BACKOFF_FIRST_S
        if device.realtime:
            self._look_at_thread(device.thread_id)
            settled_ms = device.settled_latency_ms
            self._events += self._queues.look(now_ns / 1e9, self._segment.counters(), device.rate_hz, settled_ms)

    @property
    def notice(self) -> str:
        """What is missing although the device runs, "" where nothing is: only a device with ports can tell."""
        return str(getattr(self.device, "notice", ""))

    def _look_at_notice(self, notice: str) -> None:
        if notice != self._told_notice:
            self._told_notice = notice
            self._say("warning" if notice else "info", notice or "the audio connections are complete again")

    def _look_at_thread(self, thread_id: int) -> None:
        """Promote the thread of the callbacks after the first one, and notice when it is demoted: see scheduling."""
        if thread_id == 0:
            return
        if thread_id != self._promoted:
            self._promoted = thread_id
            promotion = promote(thread_id)
            self._was_realtime = promotion.scheduling is not None and promotion.scheduling.realtime
            if self._was_realtime:
                self._say_once("info", f"the device thread runs in real time: {promotion.scheduling}")
            self._say_once("warning", promotion.problem)
        elif self._was_realtime:
            found = scheduling_of(thread_id)
            if found is not None and not found.realtime:
                self._was_realtime = False
                self._say("warning", demotion_text(found))

    def _say(self, level: str, text: str) -> None:
        self._events.append((level, text))

    def _say_once(self, level: str, text: str) -> None:
        if text and text not in self._said:
            self._said.add(text)
            self._say(level, text)


def _shut(device: AudioDevice) -> None:
    try:
        device.stop()
    finally:
        device.close()
