"""The monitor on a device of its own: one output stream of PortAudio, whose callback follows the main device (see _monitor.c).

It belongs to a process of its own (rvcd.monitor), so nothing that PortAudio or a sound server does to it reaches the main
device. That process is ended as it is: a stream that was opened is never closed here.
"""

from __future__ import annotations

import os
import time
from typing import Any

from rvcd.audio import pulse_microphone
from rvcd.audio.pipewire_default import PipeWireDevices, pipewire_devices
from rvcd.audio.portaudio import LIBRARY
from rvcd.audio.portaudio_devices import JACK_HOST_API, DeviceRequest, output_end, why_refused
from rvcd.audio.scheduling import MONITOR_PRIORITY, promote
from rvcd.audio.two_devices import MARGIN_S, StreamEnd, chunk_s
from rvcd.errors import AudioDeviceError
from rvcd.ipc._native import ffi, lib
from rvcd.ipc.segment import AudioSegment

SETTING = "audio.monitor.device"
PULSE = "pulse"
JACK_CLIENT_NAME = "rvcd-monitor"
FIRST_CALLBACK_S = 3.0


class MonitorStream:
    """One stream. description: a line for people. latency_ms: from the main device's callback to the ear."""

    def __init__(self, segment: AudioSegment, device: str, host_api: str, period_samples: int, main_chunk_s: float) -> None:
        """Find the device and open it. Raises AudioDeviceError; nothing stays open then.

        device: default, its number, or a part of its name, also of a sink of PulseAudio. period_samples: at the segment's rate.
        main_chunk_s: the most that the main device hands over at once, seconds.
        """
        self._segment, self._main_chunk_s = segment, main_chunk_s
        sounddevice = LIBRARY.start()
        try:
            wanted = _steered(device)
            request = DeviceRequest(host_api, "", wanted, segment.rate_hz, period_samples)
            try:
                sink, end = output_end(sounddevice, request)
            except AudioDeviceError as error:
                raise AudioDeviceError(f"{SETTING}: {error}") from error
            if sink.host_api == JACK_HOST_API and (pipewire_devices("output") or PipeWireDevices()).has_microphone(sink.name):
                raise AudioDeviceError(f"{SETTING}: {sink.name!r} is rvcd's own microphone, which others hear: name headphones")
            self._stream, self._state, self.latency_ms = self._open(sounddevice, end, sink.name)
        except BaseException:
            LIBRARY.end()
            raise
        where = f" ({os.environ['PULSE_SINK']})" if os.environ.get("PULSE_SINK") else ""
        self.description = f"{sink.host_api}: {sink.name}{where}, {end.rate_hz} Hz"

    def _open(self, sounddevice: Any, end: StreamEnd, name: str) -> tuple[Any, Any, float]:
        rate_hz = self._segment.rate_hz
        state = lib.rvcd_monitor_stream_new(self._segment.hold(), end.channels)
        if state == ffi.NULL:
            raise MemoryError
        drift, stream = ffi.NULL, None
        try:
            stream = sounddevice._StreamBase(
                kind="output", samplerate=end.rate_hz, blocksize=end.period_samples, device=end.index, channels=end.channels,
                dtype="float32", latency=end.latency, callback=ffi.addressof(lib, "rvcd_pa_monitor"), userdata=state,
                wrap_callback=None,
            )  # fmt: skip
            granted_s = float(stream.latency)
            own_chunk_s = chunk_s(granted_s, end)
            reach_s = lib.rvcd_drift_reach(rate_hz, end.rate_hz) / rate_hz
            fill_s = reach_s + self._main_chunk_s + own_chunk_s + MARGIN_S
            drift = lib.rvcd_drift_new(rate_hz, end.rate_hz, fill_s * rate_hz)
            if drift == ffi.NULL:
                raise AudioDeviceError(
                    f"{SETTING}: {name!r} runs at {end.rate_hz} Hz, too far from {rate_hz} Hz: name another one"
                )
            lib.rvcd_monitor_stream_set_drift(state, drift)
            return stream, state, 1000.0 * (fill_s + min(max(granted_s, 0.0), 2.0))
        except BaseException as error:
            if stream is not None:
                stream.close()
            lib.rvcd_monitor_stream_free(state)
            lib.rvcd_drift_free(drift)
            self._segment.let_go()
            if isinstance(error, (sounddevice.PortAudioError, ValueError)):
                raise AudioDeviceError(
                    f"{SETTING}: {name!r} cannot be opened ({why_refused(error)}): is it in use, by another program or as "
                    "audio.output?"
                ) from error
            raise

    def start(self) -> None:
        """Let PortAudio call, and give the thread that calls its priority. Raises AudioDeviceError."""
        sounddevice = LIBRARY.load()
        try:
            self._stream.start()
        except sounddevice.PortAudioError as error:
            raise AudioDeviceError(f"{SETTING}: {self.description} does not start ({why_refused(error)})") from error
        deadline_s = time.monotonic() + FIRST_CALLBACK_S
        while not (thread_id := lib.rvcd_monitor_stream_thread_id(self._state)) and time.monotonic() < deadline_s:
            time.sleep(0.005)
        promote(thread_id, MONITOR_PRIORITY)


def _steered(device: str) -> str:
    """Steer ALSA's plugin away from rvcd's microphone, or to the sink of PulseAudio that is named. Returns what to look for."""
    if not pulse_microphone.is_running():
        return device
    try:
        sink = pulse_microphone.listening_sink(device)
    except AudioDeviceError as error:
        raise AudioDeviceError(f"{SETTING}: {error}") from error
    if not sink:
        return device
    os.environ["PULSE_SINK"] = sink  # the plugin reads it at each opening
    return device if device.lower() == "default" else PULSE
