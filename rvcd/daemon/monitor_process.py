"""The monitor process, seen from the control process: started while it is wanted, watched, and replaced when it hangs or dies."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence

from rvcd.ipc.child import Child
from rvcd.ipc.messages import FromMonitor, LogLine, MonitorMissing, MonitorOpened, OpenMonitor, Stop
from rvcd.ipc.python_module import module_command
from rvcd.ipc.segment import AudioSegment

COMMAND: tuple[str, ...] = module_command("rvcd.monitor.main")
OPEN_LIMIT_S = 15.0
"""Without a word for so long, it hangs in a sound server."""
SILENT_LIMIT_S = 4.0
"""A device that has been opened and takes nothing for so long is dead. PulseAudio's start with a gap of two seconds."""
BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.5, 4.0
HEALTHY_AFTER_S = 5.0
STOP_LIMIT_S = 1.0

log = logging.getLogger("rvcd.monitor")


class MonitorProcess:
    """At most one process. All methods on the event loop's thread; none waits but stop.

    opened: what it plays on, "" while it does not. problem: why not, one sentence. latency_ms: while it plays.
    """

    def __init__(
        self, segment: AudioSegment, environment: Mapping[str, str] | None = None, *, command: Sequence[str] = COMMAND
    ) -> None:
        self._segment, self._command = segment, command
        # numpy would start a thread for each core, for nothing
        self._environment = {**(os.environ if environment is None else environment), "OPENBLAS_NUM_THREADS": "1"}
        self._request: OpenMonitor | None = None
        self._child: Child[FromMonitor] | None = None
        self._life: asyncio.Task[None] | None = None
        self._now_s = 0.0
        self._heard_s = 0.0  # when it last said something, or its device took something
        self._opened_s = 0.0
        self._samples = 0
        self._retry_at_s = float("-inf")
        self._backoff_s = BACKOFF_FIRST_S
        self.opened, self.problem, self.latency_ms = "", "", 0.0

    @property
    def pid(self) -> int | None:
        """Process number, None while there is none."""
        return self._child.pid if self._child is not None else None

    @property
    def running(self) -> bool:
        """Whether there is a process, or one that is just being started or buried."""
        return self._life is not None

    def want(self, request: OpenMonitor | None, now_s: float) -> None:
        """Play as requested, None: not at all. Call about ten times a second. now_s: monotonic."""
        self._now_s = now_s
        if request != self._request:
            self._request, self._retry_at_s, self._backoff_s = request, now_s, BACKOFF_FIRST_S
            self.opened = self.problem = ""
            if self._child is not None:
                self._child.kill()
        if self._life is not None:
            self._watch(now_s)
        elif request is not None and now_s >= self._retry_at_s:
            self._heard_s = now_s
            self._life = asyncio.get_running_loop().create_task(self._live(request), name="monitor")

    async def stop(self) -> None:
        """End it."""
        self._request = None
        child, life = self._child, self._life
        if child is not None:
            await child.end(Stop(), STOP_LIMIT_S)
        if life is not None:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
            if child is not None:
                await child.discard()

    def _watch(self, now_s: float) -> None:
        samples = self._segment.counters().monitor_samples
        if samples != self._samples:
            self._samples, self._heard_s = samples, now_s
        silent_s = now_s - self._heard_s
        if self.opened and now_s - self._opened_s > HEALTHY_AFTER_S:
            self._backoff_s = BACKOFF_FIRST_S
        if silent_s <= (SILENT_LIMIT_S if self.opened else OPEN_LIMIT_S) or self._child is None:
            return
        if self.opened:
            self.problem = f"the monitor's device stopped calling ({self.opened}): bringing it back"
        else:
            self.problem = f"the monitor's audio system has not answered for {silent_s:.0f} s: restart the sound server"
        self.opened, self._heard_s = "", now_s
        self._child.kill()

    async def _live(self, request: OpenMonitor) -> None:
        """One process, from its start to its end."""
        how = ""
        try:
            child = self._child = await Child[FromMonitor].start(self._command, log, environment=self._environment)
            if request != self._request:  # another one is wanted by now
                child.kill()
            child.hand_over(self._segment.fd)
            child.send(request)
            how = await child.watch(FromMonitor, self._handle)
        except OSError as error:
            how = f"cannot be started: {(error.strerror or str(error)).lower()}"
        finally:
            self._child = self._life = None
        if request != self._request:  # ended because something else is wanted
            self.opened = self.problem = ""
            return
        if self.opened or not self.problem:
            self.problem = f"the monitor's process ended ({how}): starting another one"
        self.opened = ""
        self._retry_at_s = self._now_s + self._backoff_s
        self._backoff_s = min(2.0 * self._backoff_s, BACKOFF_LAST_S)

    def _handle(self, message: FromMonitor) -> None:
        self._heard_s = self._now_s
        if isinstance(message, MonitorOpened):
            self.opened, self.latency_ms, self.problem = message.description, message.latency_ms, ""
            self._opened_s = self._now_s
        elif isinstance(message, MonitorMissing):
            self.opened, self.problem = "", message.reason
        elif isinstance(message, LogLine):
            log.log(getattr(logging, message.level.upper(), logging.INFO), "%s", message.text)
