"""The shared-memory segment between the device callback, the control process, the worker, a recorder and the monitor.

One memfd holds three rings of mono float32 samples and the cells around them. Every position is an absolute count of samples
since the segment was created, so each sample has an age and the latency cannot grow:

- in-ring: the callback writes at `device_position`; the worker reads whole blocks and learns when it was lapped.
- out-ring: the worker writes at absolute positions; the callback plays `device_position` and is silent where nothing is.
- tap: what the callback gave to the device, at the same positions; a recorder and the monitor read it. As long as the in-ring.

The C side (`_segment.c`, with the memory-order argument) does the work; nothing here allocates per sample or locks.
"""

from __future__ import annotations

import enum
import fcntl
import mmap
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rvcd.errors import AudioDeviceError
from rvcd.geometry import LIVE_MAX_BLOCK_MS, LIVE_MAX_LATENCY_MS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

try:
    from rvcd.ipc._native import ffi, lib
except ImportError as error:
    raise AudioDeviceError(
        f"rvcd's audio extension cannot be loaded ({error}): build it with `pip install -e .` in the project's directory"
    ) from error

MAX_VALUES: int = lib.RVCD_VALUES
"""How many doubles `publish_params` and `publish_worker_stats` carry."""
MAX_PERIOD_SAMPLES: int = lib.RVCD_CHUNK
"""The callback cuts longer periods into pieces of this size; a virtual device's period may not be longer."""

MEMORY_S = 5.0
"""At least so much sound the in-ring and the tap remember, whatever the rate, unless told otherwise."""
MIN_RING_SAMPLES = 2**18

_KEPT_MAPPED: list[Any] = []
"""Mappings of closed segments that a hung device may still touch."""


class ReadStatus(enum.Enum):
    """What came of reading the in-ring or the tap."""

    OK = lib.RVCD_READ_OK
    NOT_YET = lib.RVCD_READ_NOT_YET
    """The device has not come to the last of the samples yet."""
    LAPPED = lib.RVCD_READ_LAPPED
    """The callback has overwritten the first of the samples: the reader is more than a ring late."""


@dataclass(frozen=True)
class WriteResult:
    """How many of the samples given to `write_output` went where; the three add up to all of them."""

    written: int
    expired: int
    """Dropped: their time has passed."""
    overflow: int
    """Dropped: more than a ring ahead of the device."""


@dataclass(frozen=True)
class CallbackCounters:
    """What the callback and the ring counted since the segment was created. Times are CLOCK_MONOTONIC nanoseconds."""

    device_position: int
    callbacks: int
    last_callback_ns: int
    """0 before the first one."""
    gap_max_ns: int
    """Longest time between the starts of two callbacks of one stream, since `take_gap_max_ns`."""
    input_xruns: int
    output_xruns: int
    late_samples: int
    """Samples played as silence because the worker had not delivered them (while output was expected)."""
    late_events: int
    """Runs of late samples."""
    expired_samples: int
    overflow_samples: int
    gap_samples: int
    """Samples that the worker skipped over: silence between two writes."""
    bad_input_samples: int
    """Samples from the device that were no finite number, taken as 0, or beyond 8.0, cut to it."""
    bad_output_samples: int
    """Not-a-number or infinite samples from the worker, played as 0."""
    in_clips: int
    """Runs of samples at or above full scale."""
    out_clips: int
    period_samples: int
    """Samples in the last callback."""
    stale_samples: int
    """Samples of the microphone that were dropped, so that the latency holds (see audio/_split.c)."""
    absent_samples: int
    """Samples of the microphone that were not there in time, taken as 0."""
    monitor_samples: int
    """Given to the monitor's device."""
    monitor_underruns: int
    """Times that the monitor had nothing to give, or had to jump."""


def capacities(rate_hz: int) -> tuple[int, int]:
    """Return (in-ring and tap, out-ring) capacities in samples that hold every stream that a configuration allows.

    The worker writes a block up to a whole latency ahead of the device: the out-ring holds that. The in-ring holds what
    bypass and a recorder look for, the input of a latency ago, and a block more, for a worker that is late.
    """
    latency, block = (-(-span_ms * rate_hz // 1000) for span_ms in (LIVE_MAX_LATENCY_MS, LIVE_MAX_BLOCK_MS))
    remembered = max(int(MEMORY_S * rate_hz), latency + block + MAX_PERIOD_SAMPLES)
    return _power_of_two(remembered), _power_of_two(latency)


def _power_of_two(samples: int) -> int:
    """Return the smallest ring that holds so many samples."""
    return max(MIN_RING_SAMPLES, 1 << (samples - 1).bit_length())


class AudioSegment:
    """The segment, seen from one process. The control process creates it, worker and recorder attach to the inherited fd.

    Any thread may read. What is written has one writer (see _segment.h): the worker's one thread writes output and worker
    stats; the control process sets the cells (`set_...`), publishes params and takes the peaks and the longest gap.
    """

    def __init__(self, fd: int, memory: mmap.mmap) -> None:
        self._fd = fd
        self._memory: mmap.mmap | None = memory
        self._view = ffi.from_buffer("char[]", memory, require_writable=True)
        self._segment = ffi.cast("rvcd_segment *", self._view)
        self._users = 0
        self._last_good: dict[int, tuple[float, ...]] = {}

    @classmethod
    def create(cls, rate_hz: int, *, in_capacity_samples: int | None = None, out_capacity_samples: int | None = None) -> Self:
        """Make a new, silent segment for a device of rate_hz.

        Capacities are powers of two, at least 8192 samples. Raises ValueError otherwise. in_capacity_samples is the tap's
        too; None: what `capacities` says.
        """
        usual = capacities(rate_hz)
        in_capacity_samples = usual[0] if in_capacity_samples is None else in_capacity_samples
        out_capacity_samples = usual[1] if out_capacity_samples is None else out_capacity_samples
        size: int = lib.rvcd_segment_bytes(in_capacity_samples, out_capacity_samples)
        if size == 0 or rate_hz <= 0:
            raise ValueError(
                f"ring capacities {in_capacity_samples} and {out_capacity_samples} must be powers of two of at least "
                f"{2 * MAX_PERIOD_SAMPLES} samples, and the rate {rate_hz} Hz must be positive"
            )
        fd = os.memfd_create("rvcd-audio", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            # Nobody can shrink it any more, so no access can fault.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            memory = mmap.mmap(fd, size)
            segment = cls(fd, memory)
        except BaseException:
            os.close(fd)
            raise
        lib.rvcd_segment_create(segment._segment, size, rate_hz, in_capacity_samples, out_capacity_samples)
        return segment

    @classmethod
    def attach(cls, fd: int) -> Self:
        """Map the segment behind an inherited file descriptor, which this object then owns.

        Raises AudioDeviceError when the fd is not such a segment or comes from another version of rvcd.
        """
        try:
            size = os.fstat(fd).st_size
            memory = mmap.mmap(fd, size)
        except (OSError, ValueError) as error:
            raise AudioDeviceError(
                f"file descriptor {fd} is not an rvcd audio segment ({error}): start the worker through `rvcd run`"
            ) from error
        segment = cls(fd, memory)
        found: int = lib.rvcd_segment_check(segment._view, size)
        if found == lib.RVCD_ATTACH_OK:
            return segment
        version: int = lib.rvcd_segment_version(segment._view) if found == lib.RVCD_ATTACH_VERSION else 0
        segment._unmap()
        if found == lib.RVCD_ATTACH_VERSION:
            raise AudioDeviceError(
                f"the audio segment has layout {version} but this rvcd knows layout {lib.RVCD_LAYOUT_VERSION}: "
                "restart rvcd so that the daemon and its worker are of one version"
            )
        reason = "its size and its header disagree" if found == lib.RVCD_ATTACH_SIZE else "it does not start with rvcd's mark"
        raise AudioDeviceError(
            f"file descriptor {fd} is not an rvcd audio segment ({reason}): start the worker through `rvcd run`"
        )

    def lock_memory(self) -> str:
        """Keep the rings in memory, so that no callback waits for a page. Returns "", or why not: one sentence."""
        problem: int = lib.rvcd_segment_lock(self._live(), self.size_bytes)
        if problem == 0:
            return ""
        limit_bytes = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        return (
            f"the {self.size_bytes / 2**20:.0f} MB of audio memory cannot be locked ({os.strerror(problem).lower()}): the limit "
            f"MEMLOCK is {limit_bytes // 1024} kB; write `@audio - memlock unlimited` into /etc/security/limits.conf, join the "
            "group audio and log in again, or set LimitMEMLOCK=infinity in the unit"
        )

    def close(self) -> None:
        """Unmap the memory and close the fd; may be called twice.

        While a device still holds the segment (see `hold`), the mapping stays until the process ends: a callback that
        wakes late on a dead server must not touch unmapped memory.
        """
        if self._memory is None:
            return
        os.close(self._fd)
        if self._users == 0:
            self._unmap()
        else:
            _KEPT_MAPPED.append(self._view)
        self._memory = None

    def _unmap(self) -> None:
        ffi.release(self._view)
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        self._segment = ffi.NULL

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _live(self) -> Any:
        if self._memory is None:
            raise ValueError("the audio segment is closed")
        return self._segment

    def hold(self) -> Any:
        """For devices: return the C pointer and keep it valid until `let_go`."""
        pointer = self._live()
        self._users += 1
        return pointer

    def let_go(self) -> None:
        """For devices: the pointer from `hold` will not be used again."""
        self._users -= 1

    @property
    def fd(self) -> int:
        """The memfd, for subprocess's pass_fds (it is close-on-exec otherwise)."""
        return self._fd

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole segment."""
        return int(lib.rvcd_segment_bytes(self.in_capacity_samples, self.out_capacity_samples))

    @property
    def rate_hz(self) -> int:
        """Samples per second of both rings."""
        return int(lib.rvcd_rate_hz(self._live()))

    @property
    def in_capacity_samples(self) -> int:
        """How far back the in-ring and the tap remember."""
        return int(lib.rvcd_in_capacity(self._live()))

    @property
    def out_capacity_samples(self) -> int:
        """How far ahead of the device the worker may write."""
        return int(lib.rvcd_out_capacity(self._live()))

    # ---- rings ----

    def device_position(self) -> int:
        """Samples the device has processed: the end of the in-ring, the start of the out-ring. Goes on across reopening."""
        return int(lib.rvcd_device_position(self._live()))

    def read_input(self, position: int, out: NDArray[np.float32]) -> ReadStatus:
        """Copy input samples [position, position + len(out)) into out (1-D, float32, contiguous).

        Unless OK is returned, out holds garbage. Raises ValueError when out is longer than the ring.
        """
        return self._read(lib.rvcd_read_input, position, out)

    def read_tap(self, position: int, out: NDArray[np.float32]) -> ReadStatus:
        """Copy the samples that the device was given, [position, position + len(out)), into out; all else as in read_input.

        They are exactly what left: converted or raw, faded, muted, limited to +-1, and 0 where nothing came in time.
        """
        return self._read(lib.rvcd_read_tap, position, out)

    def _read(self, read: Any, position: int, out: NDArray[np.float32]) -> ReadStatus:
        samples = ffi.from_buffer("float[]", _checked(out), require_writable=True)
        if len(samples) > self.in_capacity_samples:
            raise ValueError(f"cannot read {len(samples)} samples at once: the ring holds {self.in_capacity_samples}")
        return ReadStatus(read(self._live(), position, samples, len(samples)))

    def wait_input(self, position: int, timeout_s: float) -> bool:
        """Sleep until the device has reached position; False after timeout_s. Other Python threads run meanwhile."""
        return bool(lib.rvcd_wait_input(self._live(), position, max(0, int(timeout_s * 1e9))))

    def write_output(self, position: int, samples: NDArray[np.float32]) -> WriteResult:
        """Put samples (1-D, float32, contiguous) at [position, position + len(samples)) of the out-ring.

        What has been played already is dropped (expired), and so is what lies more than the ring's capacity ahead of the
        device (overflow). Positions between the end of the last write and this one become silence. Samples written
        again before they are played are replaced. An empty array fills up to position with silence, uncounted.
        """
        data = ffi.from_buffer("float[]", _checked(samples))
        result = lib.rvcd_write_output(self._live(), position, data, len(data))
        return WriteResult(result.written, result.expired, result.overflow)

    def output_fill_samples(self) -> int:
        """Samples written ahead of the device, >= 0."""
        segment = self._live()
        position = lib.rvcd_device_position(segment)
        return max(0, int(lib.rvcd_output_written(segment)) - int(position))

    # ---- cells ----

    def set_latency_samples(self, latency_samples: int) -> None:
        """Set the age of the output: output p carries the input of p - latency_samples. Bypass is delayed by as much.

        Raises ValueError beyond what the in-ring can remember and the out-ring can hold.
        """
        limit = min(self.in_capacity_samples - MAX_PERIOD_SAMPLES, self.out_capacity_samples)
        if not 0 <= latency_samples <= limit:
            raise ValueError(f"latency {latency_samples} samples is not in 0..{limit}: make the rings larger")
        self._set(lib.RVCD_CELL_LATENCY_SAMPLES, latency_samples)

    def latency_samples(self) -> int:
        """Return what set_latency_samples set."""
        return int(lib.rvcd_get_cell(self._live(), lib.RVCD_CELL_LATENCY_SAMPLES))

    def set_mute(self, mute: bool) -> None:
        """Silence the output, over 5 ms."""
        self._set(lib.RVCD_CELL_MUTE, int(mute))

    def set_bypass(self, bypass: bool) -> None:
        """Play the raw input, delayed by latency_samples, in place of the converted voice; crossfades over 10 ms."""
        self._set(lib.RVCD_CELL_BYPASS, int(bypass))

    def silence_until(self, position: int) -> None:
        """Play exact zeros at all positions below; what follows fades in. Flushes converted audio in flight."""
        self._set(lib.RVCD_CELL_SILENCE_UNTIL, position)

    def set_monitor(self, gain: float, *, microphone: bool) -> None:
        """Say what the monitor gives, and how loud: gain is linear, 0..16, 0 is off. Changes glide over 10 ms."""
        lib.rvcd_set_monitor(self._live(), gain, int(microphone))

    def set_expect_output(self, expected: bool) -> None:
        """Say whether missing output is to be counted as late. It is silent either way."""
        self._set(lib.RVCD_CELL_EXPECT_OUTPUT, int(expected))

    def set_input_channel(self, channel: int) -> None:
        """Take the device's channel 1, 2, ... as input; 0 averages all of them, and so does a channel it does not have."""
        self._set(lib.RVCD_CELL_INPUT_CHANNEL, channel)

    def set_worker_ready(self, ready: bool) -> None:
        """Say that the worker reads and writes: a fast virtual device waits for it."""
        self._set(lib.RVCD_CELL_WORKER_READY, int(ready))

    def worker_ready(self) -> bool:
        """Return what set_worker_ready set."""
        return bool(lib.rvcd_get_cell(self._live(), lib.RVCD_CELL_WORKER_READY))

    def _set(self, cell: int, value: int) -> None:
        lib.rvcd_set_cell(self._live(), cell, value)

    # ---- vectors ----

    def publish_params(self, values: Sequence[float]) -> None:
        """Hand the worker a new vector of at most MAX_VALUES doubles, whole or not at all."""
        self._publish(lib.RVCD_VECTOR_PARAMS, values)

    def read_params(self) -> tuple[float, ...]:
        """Return the newest whole vector of parameters; () before the first. Never waits (see `_snapshot`)."""
        return self._snapshot(lib.RVCD_VECTOR_PARAMS)

    def publish_worker_stats(self, values: Sequence[float]) -> None:
        """Hand the control process a new vector of at most MAX_VALUES doubles, whole or not at all."""
        self._publish(lib.RVCD_VECTOR_WORKER_STATS, values)

    def read_worker_stats(self) -> tuple[float, ...]:
        """Return the newest whole vector of the worker's telemetry; () before the first."""
        return self._snapshot(lib.RVCD_VECTOR_WORKER_STATS)

    def _publish(self, vector: int, values: Sequence[float]) -> None:
        if len(values) > MAX_VALUES:
            raise ValueError(f"{len(values)} values do not fit: a vector holds {MAX_VALUES}")
        lib.rvcd_publish(self._live(), vector, list(values), len(values))

    def _snapshot(self, vector: int) -> tuple[float, ...]:
        """Try a bounded number of times; when a writer died half way, go on with the last whole copy this object read."""
        values = ffi.new("double[]", MAX_VALUES)  # this call's own: others may read while cffi has let the lock go
        count = lib.rvcd_snapshot(self._live(), vector, values)
        if count >= 0:
            self._last_good[vector] = tuple(ffi.unpack(values, count))
        return self._last_good.get(vector, ())

    # ---- telemetry ----

    def counters(self) -> CallbackCounters:
        """Return all counters. Each is whole; together they may be one callback apart."""
        raw = ffi.new("rvcd_counters *")
        lib.rvcd_read_counters(self._live(), raw)
        return CallbackCounters(**{name: int(getattr(raw, name)) for name in CallbackCounters.__dataclass_fields__})

    def take_peaks(self) -> tuple[float, float]:
        """Return the highest |sample| of (input, output before the limiter) since the last call. For one reader only."""
        peaks = ffi.new("float[2]")
        lib.rvcd_take_peaks(self._live(), peaks, peaks + 1)
        return float(peaks[0]), float(peaks[1])

    def take_monitor_peak(self) -> float:
        """Return the highest |sample| of the monitor, before its limiter, since the last call. For one reader only."""
        return float(lib.rvcd_take_monitor_peak(self._live()))

    def take_gap_max_ns(self) -> int:
        """Return the longest time between the starts of two callbacks of one stream since the last call. For one reader only."""
        return int(lib.rvcd_take_gap_max_ns(self._live()))


def _checked(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Refuse what C would misread. Raises TypeError."""
    if samples.dtype != "float32" or samples.ndim != 1 or not samples.flags.c_contiguous:
        raise TypeError(f"samples must be a contiguous 1-D float32 array, not {samples.dtype} of shape {samples.shape}")
    return samples
