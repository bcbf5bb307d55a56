"""`rvcd measure-latency`: through the running daemon by the server's own ports, or round a cable without a daemon."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from rvcd.config.settings import Settings
from rvcd.config.sizes import geometry_of
from rvcd.errors import RvcdError
from rvcd.measuring.chirp import CHIRP_S
from rvcd.measuring.daemon import RunningDaemon
from rvcd.measuring.jack_loop import open_jack_loop
from rvcd.measuring.loop import Loop, LoopError
from rvcd.measuring.measurement import measure
from rvcd.measuring.report import Published, Report
from rvcd.protocol import Stats

MORE_S = 2.5
"""Recorded beyond the published latency: a delay that is seconds too long is found, too."""
BYPASS_ENDS_S = 0.3


@dataclass(frozen=True)
class Request:
    """How to measure. client: the JACK client's name."""

    host: str
    port: int
    times: int
    level_dbfs: float
    client: str


def measure_running(request: Request) -> Report:
    """Measure the running daemon. Raises DaemonUnreachableError, LoopError, RvcdError; everything is put back in any case."""
    with contextlib.closing(RunningDaemon(request.host, request.port)) as daemon:
        stats = daemon.stats()
        loop = _open_loop(stats, request)
        try:
            if loop.rate_hz != stats.rate_hz:
                raise LoopError(f"the server runs at {loop.rate_hz} Hz and rvcd at {stats.rate_hz} Hz: is it another server?")
            record_s = stats.latency_total_ms / 1000 + MORE_S
            loop.take_over(round(CHIRP_S * loop.rate_hz), record_s)
            daemon.begin_bypass()  # not before: until then the microphone would be heard
            found = measure(loop, times=request.times, level_dbfs=request.level_dbfs, record_s=record_s)
            stats = daemon.stats()
        finally:
            with _put_back(loop):
                daemon.close()
    published = Published(
        stats.latency_device_in_ms, stats.latency_block_ms, stats.latency_lookahead_ms, stats.latency_deadline_ms,
        stats.latency_device_out_ms, stats.latency_offset_ms, stats.latency_denoise_ms,
    )  # fmt: skip
    return Report(loop.description, stats.device, found, published, _period_ms(loop), ends_ms=loop.ends_ms)


@contextlib.contextmanager
def _put_back(loop: Loop) -> Iterator[None]:
    """First bypass, then the connections: the microphone is not heard in between."""
    try:
        yield
        time.sleep(BYPASS_ENDS_S)
    finally:
        loop.close()


def _open_loop(stats: Stats, request: Request) -> Loop:
    if stats.device.startswith(("JACK", "PipeWire")):
        return open_jack_loop(request.client)
    device = stats.device or "no device"
    raise LoopError(
        f"rvcd runs on {device}, which has no ports to send a chirp through: stop rvcd, connect output to input by a cable, and "
        "run `rvcd measure-latency --cable`"
    )


def _period_ms(loop: Loop) -> float:
    return 1000.0 * loop.period_samples / loop.rate_hz


def measure_cable(settings: Settings, request: Request) -> Report:
    """Measure the configured device round a cable. No daemon must have it. Raises RvcdError."""
    from rvcd.audio.configured import choose_backend, device_factory
    from rvcd.ipc.segment import AudioSegment
    from rvcd.measuring.cable_loop import CableLoop

    backend, why = choose_backend(settings)
    if backend == "virtual":
        raise RvcdError(f'the virtual device has no delay to measure ({why}): set audio.backend = "portaudio"')
    geometry = geometry_of(settings)
    with AudioSegment.create(settings.audio.rate_hz) as segment:
        loop = CableLoop(device_factory(settings, backend, segment, name=request.client), segment)
        try:
            record_s = CHIRP_S + MORE_S
            loop.take_over(round(CHIRP_S * loop.rate_hz), record_s)
            found = measure(loop, times=request.times, level_dbfs=request.level_dbfs, record_s=record_s)
            device = loop.device
            from rvcd.daemon.device_buffers import device_buffers

            buffers = device_buffers(device.input_latency_ms, device.output_latency_ms, settings.audio.latency_offset_ms)
            published = Published(
                buffers.in_ms, geometry.ms(geometry.block_samples), geometry.ms(geometry.lookahead_samples),
                geometry.ms(geometry.deadline_samples), buffers.out_ms, buffers.offset_ms, geometry.ms(geometry.denoise_samples),
            )  # fmt: skip
            own_ms = geometry.ms(geometry.latency_samples)
            return Report(loop.description, device.description, found, published, _period_ms(loop), own_ms=own_ms)
        finally:
            loop.close()
