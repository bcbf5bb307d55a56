"""`rvcd render`: the same engine over a file, with longer blocks and more lookahead than a live voice can afford."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from rvcd.audio.files import AtomicAudioWriter, AudioReader
from rvcd.config.settings import Settings
from rvcd.engine.loader import Loader
from rvcd.errors import ParamError
from rvcd.geometry import StreamGeometry
from rvcd.params import ParamStore
from rvcd.voices.configured import model_setup, named_voice, voice_files
from rvcd.voices.registry import VoiceEntry

BLOCK_MS, LOOKAHEAD_MS, CONTEXT_MS = 1000, 300, 3300


@dataclass(frozen=True)
class RenderRequest:
    """What to convert. voice: a name of the registry or a .pth file; "": the configured one. rate_hz 0: the voice's own.

    params: live parameters by name that replace the configured ones. force: replace an existing target.
    """

    source: Path
    target: Path
    voice: str = ""
    index: str = ""
    f0_method: str = ""
    rate_hz: int = 0
    params: dict[str, float] = field(default_factory=dict)
    force: bool = False


@dataclass(frozen=True)
class RenderResult:
    """What was written. compute_s: time spent converting, without loading. notes: on what was made of IN, or done without."""

    voice: str
    rate_hz: int
    duration_s: float
    compute_s: float
    notes: tuple[str, ...] = ()


def render_file(settings: Settings, request: RenderRequest, progress: Callable[[float], None]) -> RenderResult:
    """Convert a file; progress is called with 0..1. The output is aligned with the input and as long.

    Raises RvcdError for anything wrong with files, voice or parameters; then the target is untouched.
    """
    import torch

    with AudioReader(request.source) as reader:
        entry = _voice(settings, request)
        store = ParamStore(settings.initial_params())
        for name, value in {**entry.params, **request.params}.items():
            store.set(name, value)
        method = request.f0_method or settings.engine.f0_method
        setup = model_setup(settings)
        torch.set_num_threads(setup.threads or os.cpu_count() or 1)
        torch.set_flush_denormal(True)
        geometry = StreamGeometry.from_ms(
            rate_hz=48000, block_ms=BLOCK_MS, lookahead_ms=LOOKAHEAD_MS, deadline_ms=BLOCK_MS, context_ms=CONTEXT_MS
        )
        notes: list[str] = []
        # An index that the command line names is wanted; one that was found or configured is optional, as for the daemon.
        loader = Loader(setup, geometry, warn=None if request.index else notes.append)
        voice = loader.voice(voice_files(settings, entry))
        rate_hz = request.rate_hz or voice.spec.rate_hz
        geometry = StreamGeometry.from_ms(
            rate_hz=rate_hz, block_ms=BLOCK_MS, lookahead_ms=LOOKAHEAD_MS, deadline_ms=BLOCK_MS, context_ms=CONTEXT_MS
        )
        converter = loader.converter(
            voice, loader.pitch_method(method), store.snapshot(), speaker=entry.speaker, gain_db=entry.gain_db, geometry=geometry
        )
        snapshot = store.snapshot()
        total = max(1, round(reader.total_samples * rate_hz / reader.rate_hz))
        written, compute_ms = 0, 0.0
        skip = geometry.lookahead_samples
        with AtomicAudioWriter(request.target, rate_hz, force=request.force) as writer:
            for block, ended_at in _blocks(reader, rate_hz, geometry.block_samples, geometry.lookahead_samples):
                converted = converter.process(block, snapshot)
                compute_ms += converted.timings.total_ms
                audio = converted.audio[skip:]
                skip = max(0, skip - geometry.block_samples)
                if ended_at is not None:
                    audio = audio[: max(0, ended_at - written)]
                writer.write(audio)
                written += len(audio)
                progress(min(1.0, written / total))
        progress(1.0)
        notes += [reader.note] if reader.note else []
        return RenderResult(voice.name, rate_hz, written / rate_hz, compute_ms / 1000, tuple(notes))


def _voice(settings: Settings, request: RenderRequest) -> VoiceEntry:
    found = named_voice(settings, request.voice, request.index)
    if found is None:
        folders = ", ".join(settings.voices.folders)
        raise ParamError(f"there is no voice: put a .pth file into {folders}, or name one with --voice FILE.pth")
    return found


def _blocks(reader: AudioReader, rate_hz: int, size: int, flush_samples: int) -> Iterator[tuple[NDArray[np.float32], int | None]]:
    """Yield whole blocks at rate_hz, then silence until flush_samples more are out; with each, the input's length once known."""
    resampler = soxr.ResampleStream(reader.rate_hz, rate_hz, 1, dtype="float32", quality="VHQ")
    pending, given = np.zeros(0, np.float32), 0
    for chunk in reader:
        pending = np.concatenate((pending, resampler.resample_chunk(chunk)))
        while len(pending) >= size:
            yield pending[:size], None
            pending, given = pending[size:], given + size
    pending = np.concatenate((pending, resampler.resample_chunk(np.zeros(0, np.float32), last=True)))
    length = given + len(pending)
    pending = np.concatenate((pending, np.zeros(flush_samples + size, np.float32)))
    while given < length + flush_samples:
        yield pending[:size], length
        pending, given = pending[size:], given + size
