"""`rvcd render - -`: from the standard input to the standard output, or one of them and a file, as the samples come."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from rvcd.audio.files import AtomicAudioWriter, AudioReader
from rvcd.config.settings import Settings
from rvcd.errors import ParamError
from rvcd.protocol import PITCH_AUTO
from rvcd.rendering.file import RenderRequest
from rvcd.rendering.pcm import FORMATS, RAW_FORMATS, WRITTEN_AS, ByteReader, PcmSink, PcmSource
from rvcd.rendering.renderer import Renderer, Source, progressing, use_machine
from rvcd.rendering.setup import render_setup

STANDARD = Path("-")
"""The name of standard input and standard output."""
OF_FILES = "s24"
"""The samples of a WAV on the standard output that was made from a file, as those of files are."""

NO_AUTO = "engine.pitch_mode is auto, which takes the median of a whole file, and - is a stream; only pitch transposes it"


@dataclass(frozen=True)
class PipeRequest:
    """render: what to convert; of source and target, one at least is STANDARD. format: s16 or f32 (no header), wav, or "".

    format is that of the output, and of an input without a header; "": a WAV. input_rate_hz: of an input without a header; 0:
    the output's.
    """

    render: RenderRequest
    format: str = ""
    input_rate_hz: int = 0


@dataclass(frozen=True)
class PipeResult:
    """What was written. format: as SampleFormat.name, or the target's extension; header: of a WAV."""

    voice: str
    rate_hz: int
    channels: int
    duration_s: float
    compute_s: float
    format: str
    header: bool
    notes: tuple[str, ...]


def render_pipe(
    settings: Settings,
    request: PipeRequest,
    standard_input: ByteReader,
    open_output: Callable[[], BinaryIO],
    progress: Callable[[float], None],
) -> PipeResult:
    """Convert until the input ends. open_output: gives the standard output, when there is something to write.

    Raises RvcdError for anything wrong with the input, the files, the voice or the parameters, and what writing raises.
    """
    wanted = request.render
    _check(request)
    setup = render_setup(
        settings, voice=wanted.voice, index=wanted.index, f0_method=wanted.f0_method, rate_hz=wanted.rate_hz,
        params=wanted.params, channels=wanted.channels, loudness_lufs=wanted.loudness_lufs,
    )  # fmt: skip
    if settings.engine.pitch_mode == PITCH_AUTO and not wanted.pitch_mode:
        setup = msgspec.structs.replace(setup, notes=(*setup.notes, NO_AUTO))
    with contextlib.ExitStack() as stack:
        source: Source
        if wanted.source == STANDARD:
            raw = request.format if request.format in RAW_FORMATS else ""
            channels = int(wanted.channels) if wanted.channels != "keep" else 0
            source = pcm = PcmSource(
                standard_input, raw=raw, rate_hz=request.input_rate_hz or wanted.rate_hz, channels=channels
            )  # fmt: skip
            written_as = WRITTEN_AS[pcm.format.name]
            if not pcm.has_header and channels == 0:
                raise ParamError("--channels keep: samples without a header do not say how many channels they have; name it")
        else:
            source, written_as = stack.enter_context(AudioReader(wanted.source)), OF_FILES
        use_machine(setup)
        renderer = Renderer(setup)
        if wanted.target != STANDARD:
            made = renderer.render_source(source, wanted.target, replace=wanted.force, progress=progress)
            return PipeResult(
                made.voice, made.rate_hz, made.channels, made.duration_s, made.compute_s, wanted.target.suffix[1:], False,
                (*renderer.notes, *made.notes),
            )  # fmt: skip
        conversion = renderer.convert(source)
        header = request.format not in RAW_FORMATS
        format = FORMATS[written_as if header else request.format]
        sink = PcmSink(open_output(), format, conversion.rate_hz, conversion.channels, header=header)
        written = 0
        for frames in progressing(conversion, progress):
            sink.write(frames)
            written += len(frames)
    notes = (*renderer.notes, *([source.note] if source.note else []))
    return PipeResult(
        renderer.voice.name, conversion.rate_hz, conversion.channels, written / conversion.rate_hz,
        conversion.spent.compute_ms / 1000, format.name, header, notes,
    )  # fmt: skip


def _check(request: PipeRequest) -> None:
    """Raise RvcdError for what a pipe cannot have."""
    wanted = request.render
    if wanted.target == STANDARD:
        if request.format not in ("", "wav", *RAW_FORMATS):
            raise ParamError(f"--format {request.format}: the standard output takes wav, {', '.join(RAW_FORMATS)}")
        if wanted.loudness_lufs is not None:
            raise ParamError("--loudness: is known at the end only, and the standard output is written at once; write a file")
    else:
        AtomicAudioWriter.check(wanted.target, force=wanted.force)
        if request.format not in ("", *RAW_FORMATS):
            raise ParamError(f"--format {request.format}: for the standard input it says how raw samples come: s16 or f32")
