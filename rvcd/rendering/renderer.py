"""One voice, loaded once, for any number of files: each is converted with the engine that runs live, in constant memory."""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from rvcd.audio.files import AtomicAudioWriter, AudioReader, carried_rate_hz, disk_is_full
from rvcd.audio.level_meter import LevelMeter
from rvcd.engine.converter import Converter
from rvcd.engine.dsp.loudness import Limiter
from rvcd.engine.loader import Loader
from rvcd.engine.pitch import ANALYSIS_RATE_HZ
from rvcd.engine.pitch.register import LEAST_VOICED_S, Register
from rvcd.errors import AudioFileError, DiskFullError
from rvcd.geometry import StreamGeometry
from rvcd.params import BY_NAME, Snapshot
from rvcd.rendering.messages import Levels, Rendered, RenderSetup
from rvcd.rendering.setup import MAX_VOICES

BLOCK_MS, LOOKAHEAD_MS, CONTEXT_MS = 1000, 300, 3300
LISTEN_S = 10
"""Of a file, of which the pitch is estimated at once."""
HIGHEST_GAIN_DB = 30.0
"""What a loudness target raises at most: more would be noise, not a voice."""
MISSED_LU = 0.5
"""A loudness that is further from its target is noted."""

Frames = NDArray[np.float32]
"""(T, channels)."""


class Source(Protocol):
    """What is converted: an audio file, or a stream of samples. frames() yields (T, channels), iterating (T,), mixed.

    total_samples 0: not known before the end. note: on what was made of it, once it was read.
    """

    rate_hz: int
    channels: int
    total_samples: int

    @property
    def note(self) -> str: ...

    def frames(self) -> Iterator[Frames]: ...

    def __iter__(self) -> Iterator[Frames]: ...


@dataclass(frozen=True)
class Conversion:
    """A source on its way: blocks yields the converted samples (T, channels) at rate_hz, aligned with the source and as long.

    compute_ms: spent converting, so far. levels: of the source, so far.
    """

    rate_hz: int
    channels: int
    expected_samples: int
    blocks: Iterator[Frames]
    spent: _Spent
    levels: LevelMeter


@dataclass
class _Spent:
    compute_ms: float = 0.0


class Renderer:
    """The models and the voice of a setup. Raises RvcdError for anything wrong with their files."""

    def __init__(self, setup: RenderSetup) -> None:
        """Load everything."""
        self.setup = setup
        self.notes = list(setup.notes)
        """What is done without: the voice's index, a register."""
        # An index that the command line names is wanted; one that was found or configured is optional, as for the daemon.
        self._loader = Loader(setup.models, geometry_at(48000), warn=None if setup.index_wanted else self.notes.append)
        self.voice = self._loader.voice(setup.voice)
        self._method = self._loader.pitch_method(setup.f0_method)
        self.snapshot = Snapshot.from_values(setup.params)
        """The parameters of the setup."""
        self.converter(self._own_geometry)  # a speaker or a rate that cannot be

    @property
    def _own_geometry(self) -> StreamGeometry:
        return geometry_at(self.setup.rate_hz or self.voice.spec.rate_hz, self.snapshot)

    @property
    def device(self) -> str:
        """The torch device that converts."""
        return self._loader.device

    def converter(self, geometry: StreamGeometry, snapshot: Snapshot | None = None) -> Converter:
        """Return a new stream of the voice. Raises ParamError for a speaker that it lacks."""
        return self._loader.converter(
            self.voice, self._method, snapshot or self.snapshot, speaker=self.setup.speaker, gain_db=self.setup.voice.gain_db,
            geometry=geometry,
        )  # fmt: skip

    def warm_up(self) -> None:
        """Convert a block of noise: memory is what it will be from now on."""
        geometry = self._own_geometry
        converter = self.converter(geometry)
        noise = np.random.default_rng(0).standard_normal(geometry.block_samples).astype(np.float32) * np.float32(0.1)
        for _ in range(2):
            converter.process(noise, self.snapshot)

    def convert(self, source: Source, extension: str = "", *, rate_hz: int = 0, snapshot: Snapshot | None = None) -> Conversion:
        """Begin to convert a source. extension: of the format that it is for, which may not hold every rate.

        rate_hz, snapshot: in place of the setup's.

        Raises AudioFileError for channels that cannot be had. Iterating may raise what reading raises, and EngineError.
        """
        channels = self._voices_of(source)
        rate_hz = rate_hz or self.setup.rate_hz or carried_rate_hz(extension, self.voice.spec.rate_hz)
        snapshot = snapshot or self.snapshot
        geometry = geometry_at(rate_hz, snapshot)
        levels, spent = LevelMeter(source.rate_hz, channels), _Spent()
        converters = [self.converter(geometry, snapshot) for _ in range(channels)]
        heard = _metered(source.frames() if channels > 1 else (mono[:, None] for mono in source), levels)
        blocks = _converted(heard, source.rate_hz, geometry, converters, snapshot, spent)
        expected = round(source.total_samples * rate_hz / source.rate_hz)
        return Conversion(rate_hz, channels, expected, blocks, spent, levels)

    def _voices_of(self, source: Source) -> int:
        """Return how many channels are each a voice of its own."""
        wanted, name = self.setup.channels, getattr(source, "path", "the input")
        if wanted == "1":
            return 1
        if wanted != "keep" and int(wanted) != source.channels:
            raise AudioFileError(
                f"{name}: has {source.channels} channel(s), not {wanted} as --channels says; --channels keep takes any number"
            )
        if source.channels > MAX_VOICES:
            raise AudioFileError(
                f"{name}: has {source.channels} channels, and {MAX_VOICES} can be kept; --channels 1 mixes them into one voice"
            )
        return source.channels

    def render(self, source: Path, target: Path, *, replace: bool, progress: Callable[[float], None]) -> Rendered:
        """Convert a file; progress is called with 0..1. The target is there when it is whole, and else what it was.

        Raises RvcdError for anything wrong with the files or the settings.
        """
        notes: list[str] = []
        snapshot = self._for_the_file(source, notes) if self.setup.register_hz else self.snapshot
        with AudioReader(source) as reader:
            made = self.render_source(reader, target, replace=replace, progress=progress, snapshot=snapshot)
        return msgspec.structs.replace(made, notes=(*notes, *made.notes))

    def _for_the_file(self, source: Path, notes: list[str]) -> Snapshot:
        """Return the parameters with which the median pitch of all of a file is brought to the voice's register."""
        register = Register(self._method)
        with AudioReader(source) as reader:
            for audio in _at_16k(reader):
                register.hear(audio)
        if not (median_hz := register.median_hz()):
            notes.append(
                f"{source}: has {register.voiced_s:.1f} s of voiced speech, and pitch mode auto takes {LEAST_VOICED_S:g} s; "
                "only --pitch transposes it"
            )
            return self.snapshot
        semitones = round(12 * math.log2(self.setup.register_hz / median_hz))
        notes.append(
            f"{source}: pitch mode auto: {semitones:+d} semitones ({median_hz:.0f} Hz, voice {self.setup.register_hz:.0f} Hz)"
        )
        return dataclasses.replace(self.snapshot, pitch=BY_NAME["pitch"].clamp(self.snapshot.pitch + semitones))

    def render_source(
        self, source: Source, target: Path, *, replace: bool, progress: Callable[[float], None], snapshot: Snapshot | None = None
    ) -> Rendered:
        """Do the same with a source that is open. Of one whose length is not known, progress is called with 1 at the end.

        snapshot: in place of the setup's.
        """
        began_s = time.perf_counter()
        conversion = self.convert(source, target.suffix, snapshot=snapshot)
        make_folder(target.parent)
        blocks = progressing(conversion, progress)
        notes: list[str] = []
        made = LevelMeter(conversion.rate_hz, conversion.channels)
        with AtomicAudioWriter(
            target, conversion.rate_hz, channels=conversion.channels, force=replace, expected_samples=conversion.expected_samples
        ) as writer:
            if self.setup.loudness_lufs is not None:
                blocks = self._at_loudness(blocks, conversion, target, notes)
            for frames in blocks:
                made.feed(frames)
                writer.write(frames[:, 0] if conversion.channels == 1 else frames)
        progress(1.0)
        notes += [source.note] if source.note else []
        found = made.loudness_lufs()
        if self.setup.loudness_lufs is not None and found is not None and abs(found - self.setup.loudness_lufs) > MISSED_LU:
            notes.append(f"{target}: its loudness is {found:.1f} LUFS: the limiter or the largest gain did not allow more")
        return Rendered(
            voice=self.voice.name,
            rate_hz=conversion.rate_hz,
            channels=conversion.channels,
            duration_s=made.samples / conversion.rate_hz,
            compute_s=conversion.spent.compute_ms / 1000,
            seconds=time.perf_counter() - began_s,
            source=levels_of(conversion.levels),
            made=levels_of(made),
            notes=tuple(notes),
        )

    def _at_loudness(self, blocks: Iterator[Frames], conversion: Conversion, target: Path, notes: list[str]) -> Iterator[Frames]:
        """Yield everything at the loudness that is wanted. Waits for the end first: on the disk, in a file without a name."""
        wanted_lufs = self.setup.loudness_lufs or 0.0
        meter = LevelMeter(conversion.rate_hz, conversion.channels)
        with _scratch_file(target) as scratch:
            for frames in blocks:
                meter.feed(frames)
                _keep(scratch, frames, target)
            found_lufs, gain_db = meter.loudness_lufs(), 0.0
            if found_lufs is None:
                notes.append(f"{target}: is silent or too short to have a loudness, which was left as it is")
            else:
                gain_db = min(wanted_lufs - found_lufs, HIGHEST_GAIN_DB)
            gain = np.float32(10 ** (gain_db / 20))
            limiters = [Limiter(conversion.rate_hz) for _ in range(conversion.channels)]
            scratch.seek(0)
            size = conversion.rate_hz * conversion.channels * 4
            while data := scratch.read(size):
                kept = np.frombuffer(data, np.float32).reshape(-1, conversion.channels)
                limited = [limiter.process(kept[:, n] * gain) for n, limiter in enumerate(limiters)]
                yield np.stack(limited, axis=1)


def _at_16k(reader: AudioReader) -> Iterator[NDArray[np.float32]]:
    """Yield a file at the rate of the pitch methods, LISTEN_S at a time."""
    resampler = soxr.ResampleStream(reader.rate_hz, ANALYSIS_RATE_HZ, 1, dtype="float32", quality="HQ")
    pending, size = np.zeros(0, np.float32), LISTEN_S * ANALYSIS_RATE_HZ
    for block in reader:
        pending = np.concatenate((pending, resampler.resample_chunk(block)))
        while len(pending) >= size:
            yield pending[:size]
            pending = pending[size:]
    yield np.concatenate((pending, resampler.resample_chunk(np.zeros(0, np.float32), last=True)))


def use_machine(setup: RenderSetup) -> None:
    """Set torch's number of threads, and that denormal numbers are zero, for the whole process: a program's to call."""
    torch.set_num_threads(setup.threads or os.cpu_count() or 1)
    torch.set_flush_denormal(True)


def geometry_at(rate_hz: int, snapshot: Snapshot | None = None) -> StreamGeometry:
    """Return the sizes that files are converted with; a denoiser is loaded where the parameters want one.

    Raises ParamError for a rate that cannot be.
    """
    return StreamGeometry.from_ms(
        rate_hz=rate_hz,
        block_ms=BLOCK_MS,
        lookahead_ms=LOOKAHEAD_MS,
        deadline_ms=BLOCK_MS,
        context_ms=CONTEXT_MS,
        denoiser=snapshot is not None and snapshot.denoise > 0,
    )


def levels_of(meter: LevelMeter) -> Levels:
    """Return what a meter has found."""
    return Levels(meter.peak_dbfs(), meter.loudness_lufs(), meter.clipped_samples)


def make_folder(folder: Path) -> None:
    """Make a folder for what is written. Raises AudioFileError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "there is a file of that name" if isinstance(error, FileExistsError) else (error.strerror or str(error)).lower()
        raise AudioFileError(f"{folder}: the folder cannot be made: {reason}; choose another one") from None


def _scratch_file(target: Path) -> Any:
    try:
        return tempfile.TemporaryFile(dir=target.parent)
    except OSError as error:
        raise AudioFileError(f"{target}: cannot be written there ({error.strerror}): choose another place") from None


def _keep(scratch: Any, frames: Frames, target: Path) -> None:
    try:
        scratch.write(np.ascontiguousarray(frames, np.float32).data)
    except OSError as error:
        if disk_is_full(target.parent, error):
            raise DiskFullError(
                f"{target}: the disk has no room to measure its loudness; free some, or write elsewhere"
            ) from None
        raise AudioFileError(f"{target}: writing stopped ({error.strerror})") from None


def _metered(frames: Iterator[Frames], meter: LevelMeter) -> Iterator[Frames]:
    for block in frames:
        meter.feed(block)
        yield block


def progressing(conversion: Conversion, progress: Callable[[float], None]) -> Iterator[Frames]:
    """Yield a conversion's blocks; progress is called with 0..1 where the length is known."""
    done, total = 0, conversion.expected_samples
    for block in conversion.blocks:
        yield block
        done += len(block)
        if total:
            progress(min(1.0, done / total))


def _converted(
    heard: Iterator[Frames], source_rate_hz: int, geometry: StreamGeometry, converters: list[Converter], snapshot: Snapshot,
    spent: _Spent,
) -> Iterator[Frames]:  # fmt: skip
    size, skip, written = geometry.block_samples, geometry.delay_samples, 0
    for block, ended_at in _blocks(heard, source_rate_hz, geometry.rate_hz, size, skip, len(converters)):
        made = [converter.process(np.ascontiguousarray(block[:, n]), snapshot) for n, converter in enumerate(converters)]
        spent.compute_ms += sum(one.timings.total_ms for one in made)
        audio = np.stack([one.audio for one in made], axis=1)[skip:]
        skip = max(0, skip - size)
        if ended_at is not None:
            audio = audio[: max(0, ended_at - written)]
        written += len(audio)
        yield audio


def _blocks(
    heard: Iterator[Frames], source_rate_hz: int, rate_hz: int, size: int, flush_samples: int, channels: int
) -> Iterator[tuple[Frames, int | None]]:
    """Yield whole blocks at rate_hz, then silence until flush_samples more are out; with each, the input's length once known."""
    resampler = soxr.ResampleStream(source_rate_hz, rate_hz, channels, dtype="float32", quality="VHQ")

    def resampled(frames: Frames, last: bool = False) -> Frames:
        made: Frames = resampler.resample_chunk(np.ascontiguousarray(frames), last=last)
        return made.reshape(-1, channels)

    nothing = np.zeros((0, channels), np.float32)
    pending, given = nothing, 0
    for chunk in heard:
        pending = np.concatenate((pending, resampled(chunk)))
        while len(pending) >= size:
            yield pending[:size], None
            pending, given = pending[size:], given + size
    pending = np.concatenate((pending, resampled(nothing, last=True)))
    length = given + len(pending)
    pending = np.concatenate((pending, np.zeros((flush_samples + size, channels), np.float32)))
    while given < length + flush_samples:
        yield pending[:size], length
        pending, given = pending[size:], given + size
