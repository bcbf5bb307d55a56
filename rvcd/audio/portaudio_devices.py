"""The devices that PortAudio lists, which of them a request means, and how they are opened; why one cannot be.

For the methods that take sounddevice, PortAudio has been started (see portaudio.LIBRARY). All calls may hang on a dead server.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from rvcd.audio.portaudio import LIBRARY
from rvcd.audio.two_devices import StreamEnd
from rvcd.errors import AudioDeviceError

ALSA_HOST_API = "ALSA"
JACK_HOST_API = "JACK Audio Connection Kit"
COMMON_RATES_HZ = (8000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000)
PA_INVALID_SAMPLE_RATE = -9997
MOST_CHANNELS = 2
"""Outputs that are opened, and inputs that are averaged."""
BELIEVABLE_LATENCY_S = 2.0
ALSA_PLUGIN_LATENCY_S = 0.05
"""ALSA's plugins name a low latency that they cannot hold: with PulseAudio behind, 20 ms stutters and 50 ms runs cleanly."""


@dataclass(frozen=True)
class DeviceRequest:
    """Which device to open, and how."""

    host_api: str = ""
    """Part of a host API's name, such as JACK, ALSA, Pulse; "" = any (a running JACK server first, for defaults)."""
    input: str = "default"
    """Part of a device's name, its number as text, or default; "" for no input."""
    output: str = "default"
    rate_hz: int = 48000
    period_samples: int = 480
    """Samples per callback; 0 lets the device choose. A JACK server's own period always wins: see _period."""
    input_channel: int = 1
    """The microphone's channel, from 1; 0 averages all that are opened."""


@dataclass(frozen=True)
class DeviceInfo:
    """One device as PortAudio lists it."""

    index: int
    name: str
    host_api: str
    max_input_channels: int
    max_output_channels: int
    default_rate_hz: int
    default_input_latency_ms: float
    default_output_latency_ms: float

    def channels(self, kind: str) -> int:
        """Return how many channels it has; kind is input or output."""
        return self.max_input_channels if kind == "input" else self.max_output_channels


def list_devices() -> list[DeviceInfo]:
    """Return every device of every host API. While a device is open, as found when it was opened.

    Raises AudioDeviceError without PortAudio. Can hang with a sound server.
    """
    with LIBRARY.lock:
        sounddevice = LIBRARY.start()
        try:
            return query(sounddevice)
        finally:
            LIBRARY.end()


def query(sounddevice: Any) -> list[DeviceInfo]:
    apis = sounddevice.query_hostapis()
    return [
        DeviceInfo(
            index=int(device["index"]),
            name=str(device["name"]),
            host_api=str(apis[device["hostapi"]]["name"]),
            max_input_channels=int(device["max_input_channels"]),
            max_output_channels=int(device["max_output_channels"]),
            default_rate_hz=int(device["default_samplerate"]),
            default_input_latency_ms=1000.0 * float(device["default_low_input_latency"]),
            default_output_latency_ms=1000.0 * float(device["default_low_output_latency"]),
        )
        for device in sounddevice.query_devices()
    ]


def choose_devices(
    devices: list[DeviceInfo], defaults: tuple[int, int], request: DeviceRequest
) -> tuple[DeviceInfo | None, DeviceInfo | None]:
    """Return (input, output) for a request; None for a side that was not asked for.

    defaults: the indices that "default" stands for, -1 for none. A default beside a named device is looked for in the
    named device's host API, because that is where its clock is most often the same. Raises AudioDeviceError.
    """
    if not request.input and not request.output:
        raise AudioDeviceError("audio device: neither an input nor an output is named: name one, or use default")
    known = [device for device in devices if request.host_api.lower() in device.host_api.lower()]
    if not known:
        raise AudioDeviceError(_no_devices(devices, request.host_api))
    wanted = {"input": request.input, "output": request.output}
    chosen: dict[str, DeviceInfo | None] = {"input": None, "output": None}
    for kind, name in wanted.items():
        if name and name.lower() != "default":
            chosen[kind] = _named(known, kind, name)
    beside = chosen["input"] or chosen["output"]
    for (kind, name), default in zip(wanted.items(), defaults, strict=True):
        if name.lower() == "default":
            chosen[kind] = _default(known, kind, default, beside.host_api if beside else "")
    source, sink = chosen["input"], chosen["output"]
    return source, sink


def output_end(sounddevice: Any, request: DeviceRequest) -> tuple[DeviceInfo, StreamEnd]:
    """Return the output of a request, which names no input, and how a stream of its own is opened on it.

    A device that cannot run at the request's rate has its own default rate. Raises AudioDeviceError.
    """
    _, sink = choose_devices(query(sounddevice), default_indices(sounddevice, request.host_api), request)
    if sink is None:
        raise ValueError("the request names no output")
    rate_hz = request.rate_hz if _takes(sounddevice, None, sink, request.rate_hz) else sink.default_rate_hz
    period = round(period_of(sink.host_api, request) * rate_hz / request.rate_hz)
    channels = min(MOST_CHANNELS, sink.max_output_channels)
    return sink, StreamEnd(sink.index, channels, rate_hz, period, suggested_latency(sink))


def why_refused(error: Exception) -> str:
    """Return what PortAudio said, in one line."""
    return words(error)


def has_two_clocks(source: DeviceInfo | None, sink: DeviceInfo | None) -> bool:
    """Say whether a pair of devices may have two clocks. All devices of a JACK server share the server's."""
    if source is None or sink is None or source.index == sink.index:
        return False
    return not source.host_api == sink.host_api == JACK_HOST_API


def capture_pace(sounddevice: Any, source: DeviceInfo, request: DeviceRequest) -> tuple[int, int]:
    """Return (rate, period) of a capture stream of its own: the request's, or the device's own rate where it has no other."""
    rate_hz = request.rate_hz if _takes(sounddevice, source, None, request.rate_hz) else source.default_rate_hz
    return rate_hz, round(period_of(source.host_api, request) * rate_hz / request.rate_hz)


def _named(devices: list[DeviceInfo], kind: str, name: str) -> DeviceInfo:
    able = [device for device in devices if device.channels(kind) > 0]
    if name.isdecimal():
        found = [device for device in able if device.index == int(name)]
    else:
        found = [device for device in able if device.name.lower() == name.lower()]
        found = found or [device for device in able if name.lower() in device.name.lower()]
    if len(found) == 1:
        return found[0]
    if found:
        raise AudioDeviceError(f"{kind} device {name!r} fits {_listing(found)}: give its number or set host_api")
    near = difflib.get_close_matches(name.lower(), [device.name.lower() for device in able], n=3, cutoff=0.4)
    meant = [device for device in able if device.name.lower() in near]
    hint = f"did you mean {_listing(meant)}?" if meant else f"there is {_listing(able) or f'no {kind} at all'}"
    raise AudioDeviceError(f"{kind} device {name!r} was not found: {hint}")


def _default(devices: list[DeviceInfo], kind: str, default: int, host_api: str) -> DeviceInfo:
    able = [device for device in devices if device.channels(kind) > 0 and host_api in device.host_api]
    if not able:
        where = f" of {host_api}" if host_api else ""
        raise AudioDeviceError(f"there is no {kind} device{where}: connect one, start a sound server, or use the virtual device")
    return next((device for device in able if device.index == default), able[0])


def believable_ms(latency_s: float, period_s: float) -> float:
    """Return a latency in ms. PortAudio on PipeWire's JACK reports an overflowed number; one period is then nearer the truth."""
    latency_s = float(latency_s)
    return 1000.0 * (latency_s if 0.0 <= latency_s <= BELIEVABLE_LATENCY_S else period_s)


def _listing(devices: list[DeviceInfo]) -> str:
    return ", ".join(f"[{device.index}] {device.name!r} ({device.host_api})" for device in devices)


def _no_devices(devices: list[DeviceInfo], host_api: str) -> str:
    if not devices:
        return "there is no audio device: connect one, start a sound server (JACK, PipeWire), or use the virtual device"
    apis = ", ".join(sorted({device.host_api for device in devices}))
    return f"there is no device of host API {host_api!r}: start its server, or choose from {apis}"


def default_indices(sounddevice: Any, host_api: str) -> tuple[int, int]:
    """Return PortAudio's default (input, output) of a host API; without one, a running JACK server's before the rest."""
    apis = [api for api in sounddevice.query_hostapis() if host_api.lower() in api["name"].lower() and api["devices"]]
    apis.sort(key=lambda api: api["name"] != JACK_HOST_API)
    if not apis:
        return -1, -1
    return int(apis[0]["default_input_device"]), int(apis[0]["default_output_device"])


def period_of(host_api: str, request: DeviceRequest) -> int:
    """Return the period to ask PortAudio for; 0 = the device's own.

    PortAudio's JACK side cannot know that a wanted period equals the server's, so it re-blocks even then, which costs a
    whole period of latency (seen in its own figures, 19.6). Its own period costs nothing.
    """
    return 0 if host_api == JACK_HOST_API else request.period_samples


def suggested_latency(end: DeviceInfo) -> float | str:
    """Return the latency to ask PortAudio for, in seconds or as sounddevice's word for the device's own."""
    return ALSA_PLUGIN_LATENCY_S if is_plugin(end) else "low"


def is_plugin(end: DeviceInfo) -> bool:
    """True for a device of ALSA's that is no card: a sound server, most likely."""
    return end.host_api == ALSA_HOST_API and "(hw:" not in end.name


def input_channels(source: DeviceInfo, request: DeviceRequest) -> int:
    if request.input_channel > source.max_input_channels:
        raise AudioDeviceError(
            f"input channel {request.input_channel} does not exist: {source.name!r} has {source.max_input_channels}"
        )
    return min(request.input_channel or MOST_CHANNELS, source.max_input_channels)


def refusal(
    sounddevice: Any, error: Exception, request: DeviceRequest, source: DeviceInfo | None, sink: DeviceInfo | None
) -> str:
    names = " and ".join(repr(end.name) for end in (source, sink) if end)
    code = error.args[1] if len(error.args) > 1 else 0
    if code != PA_INVALID_SAMPLE_RATE:
        return f"{names} cannot be opened at {request.rate_hz} Hz ({words(error)}): is it in use?"
    working = [str(rate) for rate in COMMON_RATES_HZ if _takes(sounddevice, source, sink, rate)]
    hint = f"use {' or '.join(working)} Hz" if working else "set the sound server to this rate"
    return f"{names} cannot run at {request.rate_hz} Hz: {hint}"


def _takes(sounddevice: Any, source: DeviceInfo | None, sink: DeviceInfo | None, rate_hz: int) -> bool:
    try:
        if source:
            sounddevice.check_input_settings(source.index, channels=1, dtype="float32", samplerate=rate_hz)
        if sink:
            sounddevice.check_output_settings(sink.index, channels=1, dtype="float32", samplerate=rate_hz)
    except (sounddevice.PortAudioError, ValueError):
        return False
    return True


def words(error: Exception) -> str:
    """Return PortAudio's message in one line, with the host's own words where it has some."""
    text = str(error.args[0] if error.args else error)
    host = error.args[2][2] if len(error.args) > 2 else ""
    return " ".join(f"{text} {host}".split())
