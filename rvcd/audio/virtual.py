"""The virtual device: file, tone or silence in, file or nothing out, on the same C callback as a sound card.

In real time it keeps a card's pace; otherwise it runs in lockstep with the worker as fast as both can, so a whole daemon
can be tried, tested and measured on a machine without sound.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rvcd.audio.files import AtomicAudioWriter, read_audio
from rvcd.errors import AudioDeviceError, AudioFileError
from rvcd.ipc._native import ffi, lib
from rvcd.ipc.segment import MAX_PERIOD_SAMPLES, AudioSegment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TONE_AMPLITUDE = 0.25
CAPTURE_SAMPLES = 2**19
DRAIN_PERIOD_S = 0.02


@dataclass(frozen=True)
class VirtualRequest:
    """What the virtual device plays and where its output goes."""

    input: str = "null"
    """A file's path, "tone:440" (hertz; -12 dBFS), or "null" for silence."""
    loop: bool = False
    """Play the file again and again; otherwise silence follows it."""
    output: str = ""
    """A file for the output, replaced if it exists; "" for none. With a file played once it ends with the delayed input."""
    realtime: bool = True
    rate_hz: int = 48000
    period_samples: int = 480
    stall_limit_s: float = 5.0
    """When not realtime: how long to wait for a missing worker before going on with silence at the pace of real time."""


class VirtualDevice:
    """A device made of files and a clock. Drives the segment's callback; for the methods see device_supervisor.AudioDevice."""

    def __init__(self, request: VirtualRequest, segment: AudioSegment) -> None:
        if request.rate_hz != segment.rate_hz:
            raise ValueError(f"the virtual device's {request.rate_hz} Hz is not the segment's {segment.rate_hz} Hz")
        if not 1 <= request.period_samples <= MAX_PERIOD_SAMPLES:
            raise AudioDeviceError(
                f"virtual device: a period of {request.period_samples} samples is not in 1..{MAX_PERIOD_SAMPLES}: "
                "choose for example 480"
            )
        self._request = request
        self._segment = segment
        self._options = ffi.new("rvcd_clock_options *")
        self._buffer: NDArray[np.float32] | None = None
        self._context: Any = ffi.NULL
        self._clock: Any = ffi.NULL
        self._writer: AtomicAudioWriter | None = None
        self._write_error: AudioFileError | None = None
        self._drain: threading.Thread | None = None
        self._draining = threading.Event()

    @property
    def rate_hz(self) -> int:
        """Samples per second."""
        return self._request.rate_hz

    @property
    def period_samples(self) -> int:
        """Samples per callback."""
        return self._request.period_samples

    @property
    def input_latency_ms(self) -> float:
        """0: a file's sample has no way to travel."""
        return 0.0

    @property
    def output_latency_ms(self) -> float:
        """0, as for the input."""
        return 0.0

    @property
    def settled_latency_ms(self) -> float:
        """0: there is no audio system whose queues could change."""
        return 0.0

    @property
    def description(self) -> str:
        """One line for people."""
        pace = "in real time" if self._request.realtime else "as fast as possible"
        source = f"{Path(self._request.input).name}{' (looped)' if self._request.loop else ''}"
        return f"virtual device: {source} -> {self._request.output or 'nowhere'}, {self.rate_hz} Hz, {pace}"

    @property
    def finished(self) -> bool:
        """True once a file played without loop has been played and its delayed output too."""
        return self._clock != ffi.NULL and bool(lib.rvcd_clock_finished(self._clock))

    @property
    def stalls(self) -> int:
        """How often the fast clock gave up waiting for the worker."""
        return int(lib.rvcd_clock_stalls(self._clock)) if self._clock != ffi.NULL else 0

    @property
    def realtime(self) -> bool:
        """Whether it keeps the pace of time."""
        return self._request.realtime

    @property
    def thread_id(self) -> int:
        """The kernel's number of the clock's thread; 0 before its first callback and once closed."""
        return int(lib.rvcd_context_thread_id(self._context)) if self._context != ffi.NULL else 0

    def open(self) -> None:
        """Read the input and open the output. Raises AudioFileError or AudioDeviceError."""
        request, options = self._request, self._options
        options.period_samples = request.period_samples
        options.realtime = int(request.realtime)
        options.loop = int(request.loop)
        options.stall_limit_ns = int(request.stall_limit_s * 1e9)
        if request.input == "null":
            options.source = lib.RVCD_SOURCE_NULL
        elif request.input.startswith("tone:"):
            options.source = lib.RVCD_SOURCE_TONE
            options.tone_hz = _tone_hz(request.input, request.rate_hz)
            options.tone_amplitude = TONE_AMPLITUDE
        else:
            self._buffer = _load(request.input, request.rate_hz)
            options.source = lib.RVCD_SOURCE_BUFFER
            options.buffer = ffi.from_buffer("float[]", self._buffer)
            options.buffer_samples = len(self._buffer)
        if request.output:
            options.capture_samples = CAPTURE_SAMPLES
            # Float where WAV can hold it: what was played is what is found in the file.
            subtype = "FLOAT" if Path(request.output).suffix.lower() == ".wav" else None
            self._writer = AtomicAudioWriter(request.output, request.rate_hz, force=True, subtype=subtype)
        self._context = lib.rvcd_context_new(self._segment.hold(), 1, 1)
        if self._context == ffi.NULL:
            self._segment.let_go()
            raise AudioDeviceError("virtual device: out of memory")

    def start(self) -> None:
        """Start the clock. Raises AudioDeviceError when the system gives no thread."""
        if lib.rvcd_context_claim(self._context) != 0:
            raise AudioDeviceError("virtual device: the last callback of its predecessor has not ended")
        self._clock = lib.rvcd_clock_start(self._context, self._options)
        if self._clock == ffi.NULL:
            raise AudioDeviceError("virtual device: the system gave no memory or thread for its clock")
        if self._writer is not None:
            self._draining.set()
            self._drain = threading.Thread(target=self._drain_loop, args=(self._writer,), name="rvcd-capture", daemon=True)
            self._drain.start()

    def _drain_loop(self, writer: AtomicAudioWriter) -> None:
        import numpy as np

        block = np.empty(CAPTURE_SAMPLES, np.float32)
        pointer = ffi.from_buffer("float[]", block, require_writable=True)
        while True:
            stopping = not self._draining.is_set()
            count = lib.rvcd_clock_drain(self._clock, pointer, len(block))
            if count and self._write_error is None:
                try:
                    writer.write(block[:count])
                except AudioFileError as error:
                    self._write_error = error
            if stopping and count == 0:
                return
            if count == 0:
                time.sleep(DRAIN_PERIOD_S)

    def stop(self) -> None:
        """Stop the clock and finish the output file. Raises AudioFileError when it could not be written, or not all of it."""
        self._halt()
        writer, self._writer = self._writer, None
        if writer is not None:
            if self._write_error is not None:
                writer.discard()
                raise self._write_error
            writer.commit()
            dropped = int(lib.rvcd_clock_dropped(self._clock)) if self._clock != ffi.NULL else 0
            if dropped:
                missing_s = dropped / self.rate_hz
                raise AudioFileError(f"{self._request.output}: {missing_s:.2f} s are missing: the disk was too slow; use another")

    def _halt(self) -> None:
        """Stop the clock, and wait until what it captured is drained."""
        if self._clock != ffi.NULL:
            lib.rvcd_clock_stop(self._clock)
        if self._drain is not None:
            self._draining.clear()
            self._drain.join()
            self._drain = None

    def close(self) -> None:
        """Stop, if need be, without keeping an output file that was not finished; may be called twice."""
        self._halt()
        if self._clock != ffi.NULL:
            lib.rvcd_clock_free(self._clock)
            self._clock = ffi.NULL
        if self._context != ffi.NULL:
            lib.rvcd_context_free(self._context)
            self._context = ffi.NULL
            self._segment.let_go()
        if self._writer is not None:
            self._writer.discard()
            self._writer = None

    def abandon(self) -> None:
        """Nothing here can hang for long; close does what is needed."""


def _tone_hz(text: str, rate_hz: int) -> float:
    try:
        tone_hz = float(text.removeprefix("tone:"))
    except ValueError:
        tone_hz = 0.0
    if not 0.0 < tone_hz < rate_hz / 2:
        raise AudioDeviceError(
            f"virtual device: input {text!r} must be tone: and a frequency above 0 and below {rate_hz / 2:g} Hz, "
            "for example tone:440"
        )
    return tone_hz


def _load(path: str, rate_hz: int) -> NDArray[np.float32]:
    """Read a file as mono float32 at rate_hz."""
    import numpy as np

    samples, file_rate_hz = read_audio(path)
    if file_rate_hz != rate_hz:
        import soxr

        samples = soxr.resample(samples, file_rate_hz, rate_hz)
    return np.ascontiguousarray(samples, dtype=np.float32)
