"""Sets itself up as the live worker does, converts speech, and tells how long each stage took. Holds torch."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rvcd.bench.machine import resident_mb
from rvcd.bench.tasks import (
    MIN_BLOCKS,
    WARM_UP_S,
    Environment,
    Measured,
    MeasureTask,
    StartUp,
    StreamSetup,
)
from rvcd.engine.converter import Converter
from rvcd.engine.loader import Loader
from rvcd.engine.stopwatch import Timings
from rvcd.nets.conv_ways import way_names
from rvcd.nets.tiled_conv import instruction_set_name
from rvcd.params import Snapshot
from rvcd.worker.process import raise_priority
from rvcd.worker.warm_up import needed_thread_count, warm_up

MEASURED = Snapshot(gate=-90.0, index_rate=0.5)
"""The gate off: every block is computed. Retrieval on."""
OVERLOAD_LIMIT = 3
"""After so many times the seconds asked for, what has been measured says enough."""
TELL_EVERY_S = 0.5
"""Seldom: whoever draws the progress takes the time from what is measured."""
PRECISION_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


class Reporter:
    """Writes events to the parent."""

    def __init__(self, fd: int) -> None:
        self._pipe = os.fdopen(fd, "w", encoding="utf-8")
        self._last_s = 0.0

    def event(self, **fields: Any) -> None:
        json.dump(fields, self._pipe)
        self._pipe.write("\n")
        self._pipe.flush()

    def progress(self, done: float, doing: str) -> None:
        """Tell how far it is, 0..1; not oftener than the parent wants to know."""
        now = time.monotonic()
        if now - self._last_s >= TELL_EVERY_S or done >= 1:
            self._last_s = now
            self.event(event="progress", done=done, doing=doing)


def load(setup: StreamSetup) -> tuple[Loader, Converter]:
    """Load what the setup names. Raises RvcdError with one sentence."""
    loader = Loader(setup.models, setup.geometry)
    voice = loader.voice(setup.voice)
    return loader, loader.converter(voice, loader.pitch_method(setup.f0_method), MEASURED)


def environment_of(loader: Loader) -> Environment:
    """Say what is really computed with."""
    on_gpu = torch.device(loader.device).type == "cuda"
    return Environment(
        threads=torch.get_num_threads(),
        precision=PRECISION_NAMES.get(loader.precision, str(loader.precision)),
        device=loader.device,
        device_name=torch.cuda.get_device_name(loader.device) if on_gpu else "",
        torch_version=torch.__version__,
        instructions=instruction_set_name(),
        convolutions=way_names(loader.ways.chosen) if loader.ways is not None else {},
    )


def choose_threads(setup: StreamSetup, converter: Converter) -> None:
    """Use as many threads as the live worker would."""
    if not setup.models.threads:
        torch.set_num_threads(needed_thread_count(converter))


def settle() -> None:
    """Put start-up garbage where the collector never looks again, as the live worker does."""
    gc.collect()
    gc.freeze()


def speech(path: str, rate_hz: int) -> NDArray[np.float32]:
    """Return a file's audio at rate_hz."""
    import soxr

    from rvcd.audio.files import read_audio

    samples, file_rate_hz = read_audio(path)
    return np.ascontiguousarray(soxr.resample(samples, file_rate_hz, rate_hz), dtype=np.float32)


def blocks_of(audio: NDArray[np.float32], size: int) -> Iterator[NDArray[np.float32]]:
    """Yield blocks of size samples for ever, beginning again at the end of audio (which may be shorter than a block)."""
    audio = np.tile(audio, -(-size // len(audio)))
    position = 0
    while True:
        block = np.take(audio, range(position, position + size), mode="wrap")
        position = (position + size) % len(audio)
        yield block


def first_converted_block(converter: Converter) -> None:
    """Convert noise until a block comes out that is a voice."""
    geometry, random = converter.geometry, np.random.default_rng(2)
    while converter.process(0.1 * random.standard_normal(geometry.block_samples, dtype=np.float32), MEASURED).silent:
        pass


def measure(task: MeasureTask, imported_ns: int, reporter: Reporter) -> Measured:
    """Start as the worker does, then convert and time `task.seconds` of audio."""
    reporter.progress(0.0, "loading")
    torch.set_flush_denormal(True)
    raise_priority()
    torch.set_num_threads(task.setup.models.threads or os.cpu_count() or 1)
    loader, converter = load(task.setup)
    loaded_ns = time.monotonic_ns()
    reporter.progress(0.0, "warming up")
    warm_up(converter)
    choose_threads(task.setup, converter)
    settle()
    warm_ns = time.monotonic_ns()
    first_converted_block(converter)
    started_ns = time.monotonic_ns()
    converter.reset()
    spans = np.diff([task.spawned_ns, imported_ns, loaded_ns, warm_ns, started_ns]) / 1e9

    timings = convert(converter, task, reporter)
    now_mb, peak_mb = resident_mb()
    on_gpu = converter.device.type == "cuda"
    return Measured(
        environment=environment_of(loader),
        start_up=StartUp(*(float(span) for span in spans)),
        stages_ms=stages_of(timings),
        peak_rss_mb=peak_mb,
        final_rss_mb=now_mb,
        gpu_peak_mb=torch.cuda.max_memory_allocated(converter.device) / 1e6 if on_gpu else None,
    )


def convert(converter: Converter, task: MeasureTask, reporter: Reporter) -> list[Timings]:
    """Convert looped speech and return the timings of the blocks that count; of a hopeless case, fewer than asked for."""
    geometry = converter.geometry
    block_s = geometry.block_samples / geometry.rate_hz
    timings: list[Timings] = []
    audio, total, heard_s = speech(task.audio, geometry.rate_hz), task.blocks(), 0.0
    pace = pacer(block_s) if task.paced else None
    started_s, limit_s = time.monotonic(), OVERLOAD_LIMIT * max(task.seconds, MIN_BLOCKS * block_s) + WARM_UP_S
    for block in blocks_of(audio, geometry.block_samples):
        if pace is not None:
            pace()
        converted = converter.process(block, MEASURED)
        elapsed_s = time.monotonic() - started_s
        if converted.silent:  # the first ones, as long as the lookahead
            continue
        heard_s += block_s
        if heard_s > WARM_UP_S or elapsed_s > limit_s:
            timings.append(converted.timings)
        if len(timings) == total or (len(timings) >= MIN_BLOCKS and elapsed_s > limit_s):
            break
        reporter.progress(len(timings) / total, "converting")
    return timings


def stages_of(timings: Sequence[Timings]) -> dict[str, list[float]]:
    """Return each stage's milliseconds, block after block."""
    return {field.name: [round(getattr(timing, field.name), 4) for timing in timings] for field in fields(Timings)}


def pacer(block_s: float) -> Callable[[], None]:
    """Return what waits until the next block would have been spoken; after a late one it does not hurry."""
    due_s = time.monotonic()

    def wait() -> None:
        nonlocal due_s
        due_s = max(due_s + block_s, time.monotonic())
        time.sleep(max(0.0, due_s - time.monotonic()))

    return wait
