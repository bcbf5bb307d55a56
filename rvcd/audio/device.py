"""Sound cards and servers through PortAudio (ALSA, JACK, PulseAudio or PipeWire behind them), with a native callback.

sounddevice finds the devices and opens the stream; its own Python callback is not used: PortAudio's thread calls
`rvcd_pa_callback` directly, so no Python thread can hold up the sound. Importing sounddevice starts PortAudio, hence every
import of it is inside a function. All calls may hang on a dead server: DeviceSupervisor makes them from a thread of its own.
"""

from __future__ import annotations

import contextlib
import difflib
import time
from dataclasses import dataclass
from typing import Any

from rvcd.audio.portaudio import LIBRARY
from rvcd.audio.scheduling import promote
from rvcd.audio.two_devices import DriftFigures, PairedStreams, StreamEnd
from rvcd.errors import AudioDeviceError
from rvcd.ipc._native import ffi, lib
from rvcd.ipc.segment import AudioSegment

ALSA_HOST_API = "ALSA"
JACK_HOST_API = "JACK Audio Connection Kit"
COMMON_RATES_HZ = (8000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000)
PA_INVALID_SAMPLE_RATE = -9997
MOST_CHANNELS = 2
"""Outputs that are opened, and inputs that are averaged."""
BELIEVABLE_LATENCY_S = 2.0
FIRST_CALLBACK_S = 3.0
"""PulseAudio's monitors take two seconds before they deliver."""
ALSA_PLUGIN_LATENCY_S = 0.05
"""ALSA's plugins name a low latency that they cannot hold: with PulseAudio behind, 20 ms stutters and 50 ms runs cleanly."""
JACK_ALIVE_S = 0.5
SPIN_LOOK_S = 0.2
SPIN_SHARE = 0.2
"""A thread that takes this share of SPIN_LOOK_S without a callback goes round in circles; one that waits takes nothing."""


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
            return _query(sounddevice)
        finally:
            LIBRARY.end()


def _query(sounddevice: Any) -> list[DeviceInfo]:
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


class PortAudioDevice:
    """One stream of PortAudio driving the segment's callback; see device_supervisor.AudioDevice for the methods' contract."""

    def __init__(self, request: DeviceRequest, segment: AudioSegment) -> None:
        if request.rate_hz != segment.rate_hz:
            raise ValueError(f"the device's {request.rate_hz} Hz is not the segment's {segment.rate_hz} Hz")
        self._request = request
        self._segment = segment
        self._stream: Any = None
        self._pair: PairedStreams | None = None  # the stream, where it is two
        self._capture: Any = None
        """The microphone's own stream, where there are two: see _split.c."""
        self._context: Any = ffi.NULL
        self._split: Any = ffi.NULL
        self._description = "no device"
        self._period_samples = request.period_samples
        self._latency_ms = (0.0, 0.0)
        self._generation = -1
        self._started = False
        self._is_jack = False
        self._ends_safely = True

    @property
    def rate_hz(self) -> int:
        """Samples per second."""
        return self._request.rate_hz

    @property
    def period_samples(self) -> int:
        """Samples per callback: as asked for, or as last seen where the device chooses (0 before the first)."""
        return self._period_samples or self._segment.counters().period_samples

    @property
    def input_latency_ms(self) -> float:
        """The way from the microphone to the callback; 0 without an input. PortAudio's account, or what is held: see _split.c."""
        state = self._split_state()
        return (state.latency_ns - state.out_ns) / 1e6 if state is not None and state.latency_ns else self._latency_ms[0]

    @property
    def output_latency_ms(self) -> float:
        """The way from the callback to the speaker; 0 without an output."""
        state = self._split_state()
        return state.out_ns / 1e6 if state is not None and state.latency_ns else self._latency_ms[1]

    @property
    def settled_latency_ms(self) -> float:
        """Microphone to speakers, once it is held (see _split.c); 0 before, and for one stream for both ways."""
        state = self._split_state()
        return state.latency_ns / 1e6 if state is not None else 0.0

    def _split_state(self) -> Any:
        split = self._split
        if split == ffi.NULL:
            return None
        state = ffi.new("rvcd_split_state *")
        lib.rvcd_split_read(split, state)
        return state

    @property
    def description(self) -> str:
        """One line for people."""
        return self._description

    @property
    def realtime(self) -> bool:
        """True: a card keeps the pace of time."""
        return True

    @property
    def drift(self) -> DriftFigures | None:
        """What the resampler between the two clocks does; None with one clock."""
        return self._pair.figures() if self._pair is not None else None

    @property
    def thread_id(self) -> int:
        """The kernel's number of the thread that makes the callbacks; 0 before the first one and once closed."""
        context = self._context
        return int(lib.rvcd_context_thread_id(context)) if context != ffi.NULL else 0

    def open(self) -> None:
        """Find the devices and open one stream over both. Raises AudioDeviceError, which says what would work."""
        with LIBRARY.lock:
            sounddevice = LIBRARY.start()
            self._generation = LIBRARY.generation
            try:
                self._open_stream(sounddevice)
            except BaseException:
                if not self._was_left_behind():
                    self._free_context()
                    LIBRARY.end()
                raise

    def _open_stream(self, sounddevice: Any) -> None:
        request = self._request
        devices = _query(sounddevice)
        source, sink = choose_devices(devices, _default_indices(sounddevice, request.host_api), request)
        in_channels = _input_channels(source, request) if source else 0
        out_channels = min(MOST_CHANNELS, sink.max_output_channels) if sink else 0
        ends = [(source, in_channels), (sink, out_channels)]
        api = next(end.host_api for end, _ in ends if end)
        one_server = source is not None and sink is not None and _is_plugin(source) and _is_plugin(sink)
        two_clocks = not one_server and has_two_clocks(source, sink)
        self._period_samples = _period(sink.host_api if sink and two_clocks else api, request)
        self._segment.set_input_channel(request.input_channel)
        self._context = lib.rvcd_context_new(self._segment.hold(), 1 if two_clocks else in_channels, out_channels)
        try:
            granted_s = self._open_streams(sounddevice, ends, two_clocks)
        except (sounddevice.PortAudioError, ValueError) as error:
            raise AudioDeviceError(_why_refused(sounddevice, error, request, source, sink)) from error
        period_s = max(self._request.period_samples, 256) / self._request.rate_hz
        self._latency_ms = (_believable_ms(granted_s[0], period_s), _believable_ms(granted_s[1], period_s))
        names = [end.name if end else "none" for end, _ in ends]
        self._is_jack = any(end.host_api == JACK_HOST_API for end, _ in ends if end)
        self._ends_safely = self._is_jack or all(device.host_api != JACK_HOST_API for device in devices)
        self._description = f"{api}: {names[0]} -> {names[1]}, {request.rate_hz} Hz"
        if self._pair is not None:
            self._description += f", two clocks (input {self._pair.capture_rate_hz} Hz)"

    def _open_streams(self, sounddevice: Any, ends: list[tuple[DeviceInfo | None, int]], two_clocks: bool) -> tuple[float, float]:
        """Open one stream for both ends, or one for each. Returns the latency granted at the input and at the output, seconds."""
        (source, in_channels), (sink, out_channels) = ends
        if source and sink and two_clocks:
            pace = _capture_pace(sounddevice, source, self._request)
            capture = StreamEnd(source.index, in_channels, *pace, _suggested_latency(source))
            output = StreamEnd(sink.index, out_channels, self.rate_hz, self._period_samples, _suggested_latency(sink))
            self._stream = self._pair = PairedStreams(sounddevice, self._context, capture, output)
            granted_s: tuple[float, float] = self._stream.latency
            return granted_s
        if source and sink and (_is_plugin(source) or _is_plugin(sink)):
            rate_hz, period = self._request.rate_hz, self._period_samples
            self._split = lib.rvcd_split_new(self._context, rate_hz, in_channels, period)
            if self._split == ffi.NULL:
                raise MemoryError
            self._stream = self._open_one(sounddevice, "output", [(sink, out_channels)], "rvcd_split_playback", self._split)
            self._capture = self._open_one(sounddevice, "input", [(source, in_channels)], "rvcd_split_capture", self._split)
            return self._capture.latency, self._stream.latency
        kind = "duplex" if source and sink else "input" if source else "output"
        self._stream = self._open_one(sounddevice, kind, [(s, c) for s, c in ends if s], "rvcd_pa_callback", self._context)
        granted = self._stream.latency
        return granted if kind == "duplex" else (granted, 0.0) if kind == "input" else (0.0, granted)

    def _open_one(self, sounddevice: Any, kind: str, ends: list[tuple[DeviceInfo, int]], callback: str, userdata: Any) -> Any:
        device: Any = tuple(end.index for end, _ in ends)
        channels: Any = tuple(count for _, count in ends)
        latency: Any = tuple(_suggested_latency(end) for end, _ in ends)
        return sounddevice._StreamBase(
            kind=kind,
            samplerate=self._request.rate_hz,
            blocksize=self._period_samples,
            device=device if kind == "duplex" else device[0],
            channels=channels if kind == "duplex" else channels[0],
            dtype="float32",
            latency=latency if kind == "duplex" else latency[0],
            callback=ffi.addressof(lib, callback),
            userdata=userdata,
            wrap_callback=None,
        )

    def start(self) -> None:
        """Let PortAudio call the callback, and wait a moment for its first call. Raises AudioDeviceError."""
        before = self._segment.counters().callbacks
        with LIBRARY.lock:
            sounddevice = LIBRARY.load()
            if self._was_left_behind():
                raise AudioDeviceError(f"{self._description} belongs to a sound server that hung: open it again")
            if lib.rvcd_context_claim(self._context) != 0:
                raise AudioDeviceError(f"{self._description} does not start: the last callback of its predecessor has not ended")
            try:
                for stream in self._streams:
                    stream.start()
            except sounddevice.PortAudioError as error:
                raise AudioDeviceError(f"{self._description} does not start ({_words(error)}): is it in use?") from error
            self._started = True
        deadline_s = time.monotonic() + FIRST_CALLBACK_S
        while self._segment.counters().callbacks == before and time.monotonic() < deadline_s:
            time.sleep(0.005)
        if self._capture is not None:
            # The thread of the playback is the supervisor's to look at; this one has a queue between it and being late.
            promote(lib.rvcd_split_thread_id(self._split))

    @property
    def _streams(self) -> list[Any]:
        """In the order in which they start."""
        return [stream for stream in (self._capture, self._stream) if stream is not None]

    def stop(self) -> None:
        """Stop after the buffers in flight have been played."""
        with LIBRARY.lock:
            if self._stream is not None and not self._was_left_behind() and not self._jack_is_gone():
                for stream in reversed(self._streams):
                    stream.stop()
                self._started = False

    def close(self) -> None:
        """Abort and close the stream, whatever its state, and end PortAudio; may be called twice. Can hang."""
        with LIBRARY.lock:
            if self._stream is None or self._was_left_behind():
                return
            if self._jack_is_gone():
                self.abandon()
                return
            self._uncover_if_spinning()
            streams, self._stream, self._capture = self._streams, None, None
            sounddevice = LIBRARY.load()
            for stream in streams:
                for finish in (stream.abort, stream.close):
                    with contextlib.suppress(sounddevice.PortAudioError):
                        finish()
                    if self._was_left_behind():
                        return
            self._free_context()
            if self._ends_safely:
                LIBRARY.end()
            else:
                # A JACK server joined in passing, of which nobody knows whether it still lives.
                LIBRARY.abandon()

    def _was_left_behind(self) -> bool:
        """True when the library that holds the stream hung and was abandoned: nothing of it may be touched any more."""
        return self._generation != LIBRARY.generation

    def _free_context(self) -> None:
        if self._context != ffi.NULL:
            if self._pair is not None:
                self._pair.free()
                self._pair = None
            lib.rvcd_split_free(self._split)
            self._split = ffi.NULL
            lib.rvcd_context_free(self._context)
            self._context = ffi.NULL
            self._segment.let_go()

    def abandon(self) -> None:
        """Leave the stream and its PortAudio as they are, and never touch them again.

        The context stays allocated and the segment mapped, should the callback wake up; it finds that it is not the owner
        any more once another device is open, and ends its stream.
        """
        self._stream = self._capture = self._pair = None
        self._context = self._split = ffi.NULL
        LIBRARY.abandon()

    def _uncover_if_spinning(self) -> None:
        """Let abort end a thread that does not call back but burns the processor: see rvcd_context_uncover_thread."""
        if not self._started:
            return
        calls, spent_ns = self._segment.counters().callbacks, self._threads_ns()
        time.sleep(SPIN_LOOK_S)
        now_ns = self._threads_ns()
        if self._segment.counters().callbacks != calls:
            return
        if now_ns[0] - spent_ns[0] > SPIN_SHARE * SPIN_LOOK_S * 1e9:
            lib.rvcd_context_uncover_thread(self._context)
        if now_ns[1] - spent_ns[1] > SPIN_SHARE * SPIN_LOOK_S * 1e9:
            lib.rvcd_split_uncover_thread(self._split)

    def _threads_ns(self) -> tuple[int, int]:
        """Return the processor time of the threads that make the callbacks, the microphone's own second (0 without one)."""
        split = self._split
        return lib.rvcd_context_thread_ns(self._context), 0 if split == ffi.NULL else lib.rvcd_split_thread_ns(split)

    def _jack_is_gone(self) -> bool:
        """True when this is a running JACK stream whose server does not call any more.

        PortAudio must not be asked to stop such a stream: see portaudio.py.
        """
        if self._stream is None or not self._started or not self._is_jack:
            return False
        before = self._segment.counters().callbacks
        deadline_s = time.monotonic() + JACK_ALIVE_S
        while time.monotonic() < deadline_s:
            if self._segment.counters().callbacks != before:
                return False
            time.sleep(0.01)
        return True


# ---- finding devices ----


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
    _, sink = choose_devices(_query(sounddevice), _default_indices(sounddevice, request.host_api), request)
    if sink is None:
        raise ValueError("the request names no output")
    rate_hz = request.rate_hz if _takes(sounddevice, None, sink, request.rate_hz) else sink.default_rate_hz
    period = round(_period(sink.host_api, request) * rate_hz / request.rate_hz)
    channels = min(MOST_CHANNELS, sink.max_output_channels)
    return sink, StreamEnd(sink.index, channels, rate_hz, period, _suggested_latency(sink))


def why_refused(error: Exception) -> str:
    """Return what PortAudio said, in one line."""
    return _words(error)


def has_two_clocks(source: DeviceInfo | None, sink: DeviceInfo | None) -> bool:
    """Say whether a pair of devices may have two clocks. All devices of a JACK server share the server's."""
    if source is None or sink is None or source.index == sink.index:
        return False
    return not source.host_api == sink.host_api == JACK_HOST_API


def _capture_pace(sounddevice: Any, source: DeviceInfo, request: DeviceRequest) -> tuple[int, int]:
    """Return (rate, period) of a capture stream of its own: the request's, or the device's own rate where it has no other."""
    rate_hz = request.rate_hz if _takes(sounddevice, source, None, request.rate_hz) else source.default_rate_hz
    return rate_hz, round(_period(source.host_api, request) * rate_hz / request.rate_hz)


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


def _believable_ms(latency_s: float, period_s: float) -> float:
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


def _default_indices(sounddevice: Any, host_api: str) -> tuple[int, int]:
    """Return PortAudio's default (input, output) of a host API; without one, a running JACK server's before the rest."""
    apis = [api for api in sounddevice.query_hostapis() if host_api.lower() in api["name"].lower() and api["devices"]]
    apis.sort(key=lambda api: api["name"] != JACK_HOST_API)
    if not apis:
        return -1, -1
    return int(apis[0]["default_input_device"]), int(apis[0]["default_output_device"])


def _period(host_api: str, request: DeviceRequest) -> int:
    """Return the period to ask PortAudio for; 0 = the device's own.

    PortAudio's JACK side cannot know that a wanted period equals the server's, so it re-blocks even then, which costs a
    whole period of latency (seen in its own figures, 19.6). Its own period costs nothing.
    """
    return 0 if host_api == JACK_HOST_API else request.period_samples


def _suggested_latency(end: DeviceInfo) -> float | str:
    """Return the latency to ask PortAudio for, in seconds or as sounddevice's word for the device's own."""
    return ALSA_PLUGIN_LATENCY_S if _is_plugin(end) else "low"


def _is_plugin(end: DeviceInfo) -> bool:
    """True for a device of ALSA's that is no card: a sound server, most likely."""
    return end.host_api == ALSA_HOST_API and "(hw:" not in end.name


def _input_channels(source: DeviceInfo, request: DeviceRequest) -> int:
    if request.input_channel > source.max_input_channels:
        raise AudioDeviceError(
            f"input channel {request.input_channel} does not exist: {source.name!r} has {source.max_input_channels}"
        )
    return min(request.input_channel or MOST_CHANNELS, source.max_input_channels)


def _why_refused(
    sounddevice: Any, error: Exception, request: DeviceRequest, source: DeviceInfo | None, sink: DeviceInfo | None
) -> str:
    names = " and ".join(repr(end.name) for end in (source, sink) if end)
    code = error.args[1] if len(error.args) > 1 else 0
    if code != PA_INVALID_SAMPLE_RATE:
        return f"{names} cannot be opened at {request.rate_hz} Hz ({_words(error)}): is it in use?"
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


def _words(error: Exception) -> str:
    """Return PortAudio's message in one line, with the host's own words where it has some."""
    text = str(error.args[0] if error.args else error)
    host = error.args[2][2] if len(error.args) > 2 else ""
    return " ".join(f"{text} {host}".split())
