"""Sound cards and servers through PortAudio (ALSA, JACK, PulseAudio or PipeWire behind them), with a native callback.

sounddevice finds the devices and opens the stream; its own Python callback is not used: PortAudio's thread calls
`rvcd_pa_callback` directly, so no Python thread can hold up the sound. Importing sounddevice starts PortAudio, hence every
import of it is inside a function. All calls may hang on a dead server: DeviceSupervisor makes them from a thread of its own.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from rvcd.audio.portaudio import LIBRARY
from rvcd.audio.portaudio_devices import (
    JACK_HOST_API,
    MOST_CHANNELS,
    DeviceInfo,
    DeviceRequest,
    believable_ms,
    capture_pace,
    choose_devices,
    default_indices,
    has_two_clocks,
    input_channels,
    is_plugin,
    period_of,
    query,
    refusal,
    suggested_latency,
    words,
)
from rvcd.audio.scheduling import promote
from rvcd.audio.two_devices import DriftFigures, PairedStreams, StreamEnd
from rvcd.errors import AudioDeviceError
from rvcd.ipc._native import ffi, lib
from rvcd.ipc.segment import AudioSegment

FIRST_CALLBACK_S = 3.0
"""PulseAudio's monitors take two seconds before they deliver."""
JACK_ALIVE_S = 0.5
SPIN_LOOK_S = 0.2
SPIN_SHARE = 0.2
"""A thread that takes this share of SPIN_LOOK_S without a callback goes round in circles; one that waits takes nothing."""


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
        devices = query(sounddevice)
        source, sink = choose_devices(devices, default_indices(sounddevice, request.host_api), request)
        in_channels = input_channels(source, request) if source else 0
        out_channels = min(MOST_CHANNELS, sink.max_output_channels) if sink else 0
        ends = [(source, in_channels), (sink, out_channels)]
        api = next(end.host_api for end, _ in ends if end)
        one_server = source is not None and sink is not None and is_plugin(source) and is_plugin(sink)
        two_clocks = not one_server and has_two_clocks(source, sink)
        self._period_samples = period_of(sink.host_api if sink and two_clocks else api, request)
        self._segment.set_input_channel(request.input_channel)
        self._context = lib.rvcd_context_new(self._segment.hold(), 1 if two_clocks else in_channels, out_channels)
        try:
            granted_s = self._open_streams(sounddevice, ends, two_clocks)
        except (sounddevice.PortAudioError, ValueError) as error:
            raise AudioDeviceError(refusal(sounddevice, error, request, source, sink)) from error
        period_s = max(self._request.period_samples, 256) / self._request.rate_hz
        self._latency_ms = (believable_ms(granted_s[0], period_s), believable_ms(granted_s[1], period_s))
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
            pace = capture_pace(sounddevice, source, self._request)
            capture = StreamEnd(source.index, in_channels, *pace, suggested_latency(source))
            output = StreamEnd(sink.index, out_channels, self.rate_hz, self._period_samples, suggested_latency(sink))
            self._stream = self._pair = PairedStreams(sounddevice, self._context, capture, output)
            granted_s: tuple[float, float] = self._stream.latency
            return granted_s
        if source and sink and (is_plugin(source) or is_plugin(sink)):
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
        latency: Any = tuple(suggested_latency(end) for end, _ in ends)
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
                raise AudioDeviceError(f"{self._description} does not start ({words(error)}): is it in use?") from error
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
