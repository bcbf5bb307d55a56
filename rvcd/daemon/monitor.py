"""The monitor: on which the user hears themselves. What they want of it, and what becomes of it.

Under JACK and PipeWire it is two ports of rvcd's own client, in the same cycle; elsewhere a process with a device of its own.
Either way it only reads what the main device has processed already, so the main output never depends on it.
"""

from __future__ import annotations

import logging
import os

from rvcd.audio.device_supervisor import AudioDevice
from rvcd.audio.jack import JackDevice
from rvcd.config.settings import Audio
from rvcd.daemon.monitor_process import MonitorProcess
from rvcd.ipc.messages import OpenMonitor
from rvcd.ipc.segment import AudioSegment
from rvcd.params import BY_NAME
from rvcd.protocol import MonitorState

BELIEVABLE_CHUNK_S = 0.25
TOO_FAST = "the virtual device runs faster than time (audio.virtual.realtime = false): nobody can listen to that, so no monitor"

log = logging.getLogger("rvcd.monitor")


class Monitor:
    """All methods on the event loop's thread. state, problem: what is told of it.

    gain_db: of params' monitor. mute: this monitor alone. source: one of protocol.MONITOR_SOURCES. silent: whatever holds
    else, nothing is heard: panic, or the end of rvcd.
    """

    def __init__(
        self,
        segment: AudioSegment,
        audio: Audio,
        *,
        gain_db: float,
        mute: bool,
        source: str,
        process: MonitorProcess | None = None,
    ) -> None:
        self._segment, self._audio = segment, audio
        # The environment of now: later it steers the main device to the microphone for other programs.
        self._process = process or MonitorProcess(segment, dict(os.environ))
        self._device: AudioDevice | None = None
        self._period_samples = 0
        self._request: OpenMonitor | None = None
        self._told = ""
        self.gain_db, self.mute, self.source, self.silent = gain_db, mute, source, False
        self.state = MonitorState.WAITING if audio.monitor.device else MonitorState.OFF
        self.problem = ""

    def set(
        self, *, gain_db: float | None = None, mute: bool | None = None, source: str | None = None, silent: bool | None = None
    ) -> None:
        """Change what is given, and hand it to whoever plays it: within 10 ms it is heard."""
        self.gain_db = self.gain_db if gain_db is None else gain_db
        self.mute = self.mute if mute is None else mute
        self.source = self.source if source is None else source
        self.silent = self.silent if silent is None else silent
        is_off = self.mute or self.silent or self.state is MonitorState.OFF or self.gain_db <= BY_NAME["monitor"].low
        self._segment.set_monitor(0.0 if is_off else 10.0 ** (self.gain_db / 20.0), microphone=self.source == "microphone")

    def look(self, device: AudioDevice | None, now_s: float) -> None:
        """Follow the main device, None while there is none. Call about ten times a second."""
        if self.state is MonitorState.OFF:
            return
        if isinstance(device, JackDevice):
            self._request = self._device = None
            self._process.want(None, now_s)
            where, problem = "the ports of rvcd's JACK client" if device.monitor_open else "", device.monitor_problem
        else:
            self._process.want(self._request_for(device), now_s)
            where, problem = self._process.opened, self._process.problem
            where += f", {self._process.latency_ms:.0f} ms behind the main device" if where else ""
            if device is not None and not device.realtime:
                problem = TOO_FAST
        self.state = MonitorState.OPEN if where else MonitorState.WAITING
        self._tell(where, problem)

    async def stop(self) -> None:
        """End what plays."""
        await self._process.stop()

    def _request_for(self, device: AudioDevice | None) -> OpenMonitor | None:
        """Return what the process is to open beside a device; while that is away, it goes on as it is."""
        if device is None:
            return self._request
        if not device.realtime:
            self._request, self._device = None, device
        elif device is not self._device or device.period_samples != self._period_samples:
            self._device, self._period_samples = device, device.period_samples
            buffered_s = device.output_latency_ms / 1000.0
            period_s = device.period_samples / device.rate_hz
            self._request = OpenMonitor(
                device=self._audio.monitor.device, host_api=self._audio.host_api, period_samples=self._audio.period_samples,
                chunk_s=max(period_s, buffered_s if buffered_s < BELIEVABLE_CHUNK_S else 0.0),
            )  # fmt: skip
        return self._request

    def _tell(self, where: str, problem: str) -> None:
        """Say each thing once, when it begins."""
        self.problem = problem
        said = problem or (f"the monitor plays on {where}" if where else "")
        if said and said != self._told:
            self._told = said
            log.log(logging.WARNING if problem else logging.INFO, "%s", said)
