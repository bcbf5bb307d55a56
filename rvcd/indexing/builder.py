"""From a voice and recordings of it to the voice's `.index`, beside its .pth and named in its voice.toml."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from rvcd.audio.files import PART, disk_is_full, remove_leftovers
from rvcd.config.settings import Settings
from rvcd.engine.index_maker import CENTRES, MOST_ROWS, lists_of, make_index, reduce_rows, write_index
from rvcd.engine.loader import Loader
from rvcd.engine.pitch import create_pitch_method
from rvcd.engine.pitch.register import Register
from rvcd.engine.reservoir import Reservoir
from rvcd.engine.retrieval import NEIGHBOURS
from rvcd.engine.units import ContentEncoder
from rvcd.errors import AudioFileError, ModelFileError
from rvcd.formats.index_header import IndexHeader, read_fitting_index_header
from rvcd.formats.voice_header import VoiceSpec, read_voice_spec
from rvcd.geometry import StreamGeometry
from rvcd.indexing.recordings import Heard, pieces_of
from rvcd.voices.builtin_paths import BUILT_IN_FOLDER
from rvcd.voices.configured import model_setup, voice_files
from rvcd.voices.registry import VoiceEntry
from rvcd.voices.voice_toml_edit import set_in_voice_toml

LITTLE_S = 60.0
"""Fewer seconds of sound give an index that is poor in sounds."""
FILE_OVERHEAD_BYTES = 1 << 20
ID_BYTES = 8

Progress = Callable[[str, float], None]
"""Called with what is being done and how much of it is, 0..1."""


@dataclass(frozen=True)
class IndexRequest:
    """What to build. force: replace the index that the voice has. most_rows, centres: see index_maker."""

    voice: VoiceEntry
    recordings: list[Path]
    seed: int = 0
    force: bool = False
    most_rows: int = MOST_ROWS
    centres: int = CENTRES


@dataclass(frozen=True)
class BuiltIndex:
    """What was written. units: made of the recordings, of which the index holds header.vectors or as many centres.

    f0_median_hz: measured and written into voice.toml, 0: it was there, or there is too little that is voiced.
    """

    header: IndexHeader
    toml_path: Path
    units: int
    heard: Heard
    f0_median_hz: float = 0.0


def build_index(settings: Settings, request: IndexRequest, progress: Progress) -> BuiltIndex:
    """Build a voice's index. Index and voice.toml are each replaced in one step, at the end; until then both are as they were.

    Raises RvcdError for whatever is wrong with the voice, its encoder or the recordings, ModelFileError where it has an index.
    """
    voice, target = request.voice, index_path_of(request.voice)
    _refuse_what_has_no_index(voice)
    if not request.force and (there := voice.index_path or (target if os.path.lexists(target) else None)):
        raise ModelFileError(f"{there}: {voice.name} has an index already; --force builds another one in its place")
    spec = read_voice_spec(voice.path)
    encoder, device = _encoder_of(settings, voice, spec)
    remove_leftovers(target)
    kept, heard = Reservoir(request.most_rows, spec.unit_width, request.seed), Heard()
    register = Register(create_pitch_method("swift"))
    for piece in pieces_of(request.recordings, heard, lambda done: progress("listening", done)):
        kept.add(_units_of(encoder, piece, spec, device))
        register.hear(piece)
    rows = kept.rows
    if len(rows) < NEIGHBOURS:
        reasons = f": {'; '.join(heard.notes[:5])}" if heard.notes else ""
        raise AudioFileError(f"the recordings hold no sound to make an index of{reasons}")
    if heard.used_s < LITTLE_S:
        heard.notes.append(
            f"{heard.used_s:.0f} s of sound are little for an index: ten minutes and more hold all sounds of a voice"
        )
    _check_space(target, min(len(rows), request.centres if kept.seen > request.most_rows else len(rows)), spec.unit_width)
    if kept.seen > request.most_rows:
        rows = reduce_rows(rows, request.centres, request.seed, lambda done: progress("finding centres", done))
    index = make_index(rows, request.seed, lambda done: progress("sorting", done))
    header = _write(index, target, spec.unit_width, len(rows))
    changes: dict[str, Any] = {"index": target.name}
    register_hz = 0.0 if voice.f0_median_hz else register.median_hz()
    if register_hz:
        changes["f0_median_hz"] = register_hz
    toml_path = set_in_voice_toml(voice, changes)
    return BuiltIndex(replace(header, path=target), toml_path, kept.seen, heard, register_hz)


def index_path_of(voice: VoiceEntry) -> Path:
    """Return where a voice's index is built: beside it, under its name."""
    return voice.path.with_suffix(".index")


def _refuse_what_has_no_index(voice: VoiceEntry) -> None:
    if voice.path.parent.resolve() == BUILT_IN_FOLDER.resolve():
        raise ModelFileError(f"{voice.name}: is the built-in voice, which comes with its index and takes no other")
    if voice.problems:
        raise ModelFileError(f"{voice.problems[0]}; correct it first")
    if not os.access(voice.path.parent, os.W_OK):
        raise ModelFileError(f"{voice.path.parent}: cannot be written to, and the index belongs there; change its permissions")


def _encoder_of(settings: Settings, voice: VoiceEntry, spec: VoiceSpec) -> tuple[ContentEncoder, str]:
    """Return the voice's own encoder, in float32, and the torch device that it computes on."""
    files = voice_files(settings, voice)
    if files.problem:
        raise ModelFileError(files.problem)
    torch.set_num_threads(settings.engine.threads or len(os.sched_getaffinity(0)))
    geometry = StreamGeometry.from_ms(rate_hz=48000, block_ms=1000, lookahead_ms=300, deadline_ms=1000, context_ms=3300)
    loader = Loader(msgspec.structs.replace(model_setup(settings), precision="fp32"), geometry)
    encoder = loader.encoder(files.encoder)
    if encoder.hears_pitch:
        raise ModelFileError(f"{voice.path}: takes the spectral envelopes of rvcd's own encoder, for which no index is built")
    try:
        encoder.check_units(spec.unit_width, spec.unit_layer)
    except ModelFileError as error:
        raise ModelFileError(f"{voice.path}: does not go with the content encoder: {error}") from None
    return encoder, loader.device


@torch.inference_mode()
def _units_of(encoder: ContentEncoder, piece: NDArray[np.float32], spec: VoiceSpec, device: str) -> NDArray[np.float32]:
    """Return the units of a piece (samples,), (n, unit_width): as RVC extracts them, nothing is padded. No infinite ones."""
    audio = torch.from_numpy(np.ascontiguousarray(piece))[None].to(device)
    units = encoder.units(audio, unit_width=spec.unit_width, layer=spec.unit_layer)[0].float().cpu().numpy()
    finite: NDArray[np.float32] = units[np.isfinite(units).all(axis=1)]
    return finite


def _check_space(target: Path, rows: int, width: int) -> None:
    wanted = (rows + lists_of(rows)) * (4 * width + ID_BYTES) + FILE_OVERHEAD_BYTES
    disk = os.statvfs(target.parent)
    if (free := disk.f_bavail * disk.f_frsize) < wanted:
        raise ModelFileError(f"{target}: takes {wanted / 1e6:.0f} MB, and the disk has {free / 1e6:.0f} MB left; free some")


def _write(index: object, target: Path, width: int, rows: int) -> IndexHeader:
    """Write the index beside its place, read its structure, and give it its name: there is the old one or the new one, whole."""
    part = target.with_name(f"{target.name}{PART}{os.getpid()}")
    try:
        with part.open("wb") as file:
            write_index(index, file)
            file.flush()
            os.fsync(file.fileno())
        header = read_fitting_index_header(part, width)
        if header.vectors != rows:
            raise ModelFileError(f"{target}: {header.vectors} vectors were written of {rows}; this is a fault in rvcd")
        os.replace(part, target)
    except OSError as error:
        why = (
            "the disk is full; free some space" if disk_is_full(target.parent, error) else (error.strerror or str(error)).lower()
        )
        raise ModelFileError(f"{target}: cannot be written: {why}") from None
    finally:
        part.unlink(missing_ok=True)
    return header
