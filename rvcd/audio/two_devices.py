"""Input and output that are two devices: two streams of PortAudio, each at its own clock, that look like one.

The capture stream fills a ring; the output stream is the master and pulls from it through a resampler whose ratio follows
the two clocks (see _drift.c). So neither an overrun nor an underrun comes of the clocks' difference, and the delay stays.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from rvcd.errors import AudioDeviceError
from rvcd.ipc._native import ffi, lib

MARGIN_S = 0.002
"""How late a callback may come, beside what the two streams buffer anyway."""
MOST_CHUNK_S = 0.25


@dataclass(frozen=True)
class DriftFigures:
    """What the resampler between two clocks does. drift_ppm: how much faster the input's clock runs."""

    ratio: float
    """Input samples for each output sample."""
    drift_ppm: float
    fill_ms: float
    starved: int
    """Runs of input that came too late."""
    recentred: int
    """Jumps after lost input or a leap of a clock."""


@dataclass(frozen=True)
class StreamEnd:
    """One stream to open: PortAudio's index, channels, rate, period (0: its own) and suggested latency (seconds or a word)."""

    index: int
    channels: int
    rate_hz: int
    period_samples: int
    latency: float | str


class PairedStreams:
    """Capture and output streams with the methods of one duplex stream. The context must outlive it; call `free` once closed.

    latency: (input, output) in seconds; the input's includes the way through the resampler, and is constant. capture_rate_hz: the
    input's own.
    """

    def __init__(self, sounddevice: Any, context: Any, capture: StreamEnd, output: StreamEnd) -> None:
        """Open both. Raises sounddevice.PortAudioError or AudioDeviceError; nothing stays open then."""
        self._sounddevice = sounddevice
        self._drift: Any = ffi.NULL
        self.capture_rate_hz = capture.rate_hz
        self._pair: Any = lib.rvcd_pair_new(context, capture.channels)
        self._capture: Any = None
        self._output: Any = None
        try:
            self._capture = self._open("input", capture, "rvcd_pa_capture")
            self._output = self._open("output", output, "rvcd_pa_output")
            granted_s = float(self._capture.latency), float(self._output.latency)
            in_chunk_s = chunk_s(granted_s[0], capture)
            out_chunk_s = output.period_samples / output.rate_hz or chunk_s(granted_s[1], output)
            reach_s = lib.rvcd_drift_reach(capture.rate_hz, output.rate_hz) / capture.rate_hz
            fill_s = reach_s + in_chunk_s + out_chunk_s + MARGIN_S
            self._drift = lib.rvcd_drift_new(capture.rate_hz, output.rate_hz, fill_s * capture.rate_hz)
            if self._drift == ffi.NULL:
                raise AudioDeviceError(
                    f"input at {capture.rate_hz} Hz and output at {output.rate_hz} Hz are too far apart: the input's rate may be "
                    "16 times the output's at most; choose another device"
                )
            lib.rvcd_pair_set_drift(self._pair, self._drift)
        except BaseException:
            self.close()
            self.free()
            raise
        # PortAudio's figure is the age of a period's first sample; the fill counts from its last one.
        period_s = min(granted_s[0], capture.period_samples / capture.rate_hz)
        self.latency = (granted_s[0] - period_s + fill_s, granted_s[1])

    def _open(self, kind: str, end: StreamEnd, callback: str) -> Any:
        return self._sounddevice._StreamBase(
            kind=kind, samplerate=end.rate_hz, blocksize=end.period_samples, device=end.index, channels=end.channels,
            dtype="float32", latency=end.latency, callback=ffi.addressof(lib, callback), userdata=self._pair, wrap_callback=None,
        )  # fmt: skip

    def start(self) -> None:
        """Start both."""
        self._capture.start()
        self._output.start()

    def stop(self) -> None:
        """Stop both, the output first."""
        self._output.stop()
        self._capture.stop()

    def abort(self) -> None:
        """Stop both at once."""
        self._each("abort")

    def close(self) -> None:
        """Close both; may be called twice."""
        self._each("close")
        self._capture = self._output = None

    def _each(self, method: str) -> None:
        for stream in (self._output, self._capture):
            if stream is not None:
                with contextlib.suppress(self._sounddevice.PortAudioError):
                    getattr(stream, method)()

    def free(self) -> None:
        """Give back what the callbacks used. Both streams must be closed."""
        lib.rvcd_pair_free(self._pair)
        lib.rvcd_drift_free(self._drift)
        self._pair = self._drift = ffi.NULL

    def figures(self) -> DriftFigures | None:
        """What the resampler does now; None once it is freed."""
        if self._drift == ffi.NULL:
            return None
        raw = ffi.new("rvcd_drift_figures *")
        lib.rvcd_drift_read(self._drift, raw)
        return DriftFigures(
            ratio=float(raw.ratio), drift_ppm=float(raw.drift_ppm),
            fill_ms=1000.0 * float(raw.fill_samples) / self.capture_rate_hz,
            starved=int(raw.starved), recentred=int(raw.recentred),
        )  # fmt: skip


def chunk_s(granted_s: float, end: StreamEnd) -> float:
    """The most that a stream may hand over at once: its period, or what it buffers, where that is a believable figure."""
    period_s = end.period_samples / end.rate_hz
    return max(period_s, granted_s) if 0.0 < granted_s < MOST_CHUNK_S else max(period_s, 0.02)
