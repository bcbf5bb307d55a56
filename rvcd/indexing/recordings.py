"""Reads recordings as pieces of speech at 16 kHz, in constant memory, and says of each file what was not used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from rvcd.audio.files import AudioReader
from rvcd.errors import AudioFileError
from rvcd.geometry import ENCODER_RATE_HZ
from rvcd.indexing.slices import Slicer

LEAST_PEAK = 1e-3
"""-60 dBFS: a file without a louder sample is silent."""
PEAK = 0.9
"""Every file is brought to this, so that the same is loud in all of them."""
LOUD_RMS = 10 ** (-42 / 20)
"""RVC's: frames below are pauses, once the file is at PEAK."""

Audio = NDArray[np.float32]


@dataclass
class Heard:
    """What was made of the recordings so far. given_s: their length; used_s: of the pieces, overlaps counted once for each.

    files: that gave something. notes: a sentence for each that gave nothing, or not all.
    """

    given_s: float = 0.0
    used_s: float = 0.0
    files: int = 0
    notes: list[str] = field(default_factory=list)


def pieces_of(paths: list[Path], heard: Heard, progress: Callable[[float], None]) -> Iterator[Audio]:
    """Yield the pieces of all files, (samples,) float32 at 16 kHz; heard is kept up to date, progress called with 0..1.

    A file that cannot be read, is silent or too short is passed over with a note.
    """
    for number, path in enumerate(paths):

        def advance(done: float, number: int = number) -> None:
            progress((number + done) / len(paths))

        try:
            yield from _pieces_of_file(path, heard, advance)
        except AudioFileError as error:
            heard.notes.append(str(error))
        progress((number + 1) / len(paths))


def _pieces_of_file(path: Path, heard: Heard, progress: Callable[[float], None]) -> Iterator[Audio]:
    peak = _peak_of(path)
    with AudioReader(path) as reader:
        given_s, used_samples, read_samples = reader.total_samples / reader.rate_hz, 0, 0
        if peak >= LEAST_PEAK:
            slicer = Slicer(LOUD_RMS)
            gain = np.float32(PEAK / peak)
            for block in _at_16k(reader):
                read_samples += len(block)
                progress(min(1.0, read_samples / ENCODER_RATE_HZ / max(given_s, 1e-9)))
                for piece in slicer.push(block * gain):
                    used_samples += len(piece)
                    yield piece
            for piece in slicer.finish():
                used_samples += len(piece)
                yield piece
            given_s = read_samples / ENCODER_RATE_HZ
        heard.given_s += given_s
        heard.used_s += used_samples / ENCODER_RATE_HZ
        heard.files += used_samples > 0
        if reader.note:
            heard.notes.append(reader.note)
    if peak < LEAST_PEAK:
        heard.notes.append(f"{path}: is silent (no sample above -60 dBFS), and is passed over; record it again, louder")
    elif not used_samples:
        heard.notes.append(f"{path}: holds less than 0.1 s of sound in one place ({given_s:.2f} s in all), and is passed over")


def _peak_of(path: Path) -> float:
    with AudioReader(path) as reader:
        return max((float(np.abs(block).max()) for block in reader if len(block)), default=0.0)


def _at_16k(reader: AudioReader) -> Iterator[Audio]:
    resampler = soxr.ResampleStream(reader.rate_hz, ENCODER_RATE_HZ, 1, dtype="float32", quality="HQ")
    for block in reader:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
