"""PCM through pipes: samples as bytes, with the header of a WAV file before them or without.

libsndfile wants to seek, and a header that was written into a pipe has no length; so the few formats that pipes carry are read
and written here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from rvcd.audio.files import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from rvcd.errors import AudioFileError, ParamError

READ_BYTES = 65536
UNKNOWN_SIZE = 2**32 - 1
LONGEST_HEADER_BYTES = 2**20
"""Chunks before the samples; beyond this it is no header of anybody's."""
MOST_CHANNELS = 64
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
"""Format tags of WAV."""
NAME = "the standard input"


@dataclass(frozen=True)
class SampleFormat:
    """How one sample is written, little-endian. tag, bits: as a WAV header says it."""

    name: str
    tag: int
    bits: int

    @property
    def sample_bytes(self) -> int:
        return self.bits // 8


FORMATS = {
    format.name: format
    for format in (
        SampleFormat("u8", PCM, 8), SampleFormat("s16", PCM, 16), SampleFormat("s24", PCM, 24), SampleFormat("s32", PCM, 32),
        SampleFormat("f32", FLOAT, 32), SampleFormat("f64", FLOAT, 64),
    )
}  # fmt: skip
RAW_FORMATS = ("s16", "f32")
"""What --format takes for samples without a header."""
WRITTEN_AS = {"u8": "s16", "s16": "s16", "s24": "s24", "s32": "s24", "f32": "f32", "f64": "f32"}
"""The samples of a WAV that comes in, in the one that goes out."""


class ByteReader(Protocol):
    """Something to read from; read1 returns what is there, b"" at the end."""

    def read(self, size: int, /) -> bytes: ...

    def read1(self, size: int, /) -> bytes: ...


class PcmSource:
    """What comes through a pipe, as a source to convert. Iterating yields (T,), all channels averaged; frames() (T, channels).

    Samples that are no number become 0.
    """

    def __init__(self, stream: ByteReader, *, raw: str = "", rate_hz: int = 0, channels: int = 0) -> None:
        """Read the header, if there is one: it counts. raw, rate_hz, channels: of samples without one.

        Raises AudioFileError for a header that is none of ours or for a format that is not known, ParamError where there is
        neither a header nor raw and a rate.
        """
        self._stream, self._notes = stream, list[str]()
        first = stream.read(12)
        self.has_header = len(first) == 12 and first[:4] in (b"RIFF", b"RF64") and first[8:] == b"WAVE"
        self._left_bytes: int | None = None
        if self.has_header:
            self._pending = b""
            self._read_header()
        else:
            self._be_raw(first, raw, rate_hz, channels)
        self._frame_bytes = self.format.sample_bytes * self.channels
        self.total_samples = (self._left_bytes or 0) // self._frame_bytes

    @property
    def note(self) -> str:
        """What was odd about it: known once it was read; "" for nothing."""
        return "; ".join(self._notes)

    def _be_raw(self, first: bytes, raw: str, rate_hz: int, channels: int) -> None:
        if not raw or not rate_hz:
            what = "is empty" if not first else "has no WAV header"
            raise ParamError(f"{NAME} {what}: say what it is with --format s16 or f32, --rate and --channels, or send a WAV")
        self.format, self.rate_hz, self.channels, self._pending = FORMATS[raw], rate_hz, max(1, channels), first
        _check_rate(rate_hz)

    def _read_header(self) -> None:
        found, long_size, read_bytes = None, None, 0
        while True:
            name, size = struct.unpack("<4sI", self._exactly(8))
            if name == b"data":
                break
            read_bytes += 8 + size
            if read_bytes > LONGEST_HEADER_BYTES:
                raise AudioFileError(f"{NAME}: its WAV header has no samples within the first MB: send another WAV, or raw PCM")
            body = self._exactly(size + size % 2)[:size]
            if name == b"fmt ":
                found = body
            elif name == b"ds64" and size >= 16:
                long_size = int(struct.unpack_from("<Q", body, 8)[0])
        if found is None or len(found) < 16:
            raise AudioFileError(f"{NAME}: its WAV header does not say what the samples are: send another WAV, or raw PCM")
        self._understand(found)
        if size == UNKNOWN_SIZE and long_size:
            self._left_bytes = long_size
        elif 0 < size < 0x7FFF0000:  # others are what programs write that do not know the length
            self._left_bytes = size

    def _understand(self, body: bytes) -> None:
        tag, self.channels, self.rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", body)
        if tag == EXTENSIBLE and len(body) >= 26:
            tag = struct.unpack_from("<H", body, 24)[0]
        known = [format for format in FORMATS.values() if (format.tag, format.bits) == (tag, bits)]
        if not known:
            raise AudioFileError(f"{NAME}: a WAV of format {tag} with {bits} bits cannot be read: send PCM or float samples")
        if not 1 <= self.channels <= MOST_CHANNELS:
            raise AudioFileError(f"{NAME}: its WAV header says {self.channels} channels; 1..{MOST_CHANNELS} can be read")
        _check_rate(self.rate_hz)
        self.format = known[0]

    def _exactly(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise AudioFileError(f"{NAME}: ends within its WAV header")
        return data

    def frames(self) -> Iterator[NDArray[np.float32]]:
        """Yield samples (T, channels) as they come, full scale +-1.0."""
        pending, self._pending = self._pending, b""
        left = self._left_bytes
        while left is None or left > 0:
            data = self._stream.read1(READ_BYTES if left is None else min(READ_BYTES, left))
            if not data:
                if left:
                    self._notes.append(f"{NAME}: ends {left} bytes before its header says")
                break
            left = None if left is None else left - len(data)
            pending += data
            whole = len(pending) // self._frame_bytes * self._frame_bytes
            if whole:
                yield decoded(pending[:whole], self.format).reshape(-1, self.channels)
                pending = pending[whole:]
        if len(pending) >= self._frame_bytes:  # it was shorter than a header
            whole = len(pending) // self._frame_bytes * self._frame_bytes
            yield decoded(pending[:whole], self.format).reshape(-1, self.channels)
            pending = pending[whole:]
        if pending:
            self._notes.append(f"{NAME}: ends with {len(pending)} bytes that are no whole sample; is it {self.format.name}?")
        if left == 0:
            while self._stream.read1(READ_BYTES):  # what follows the samples: whoever writes it shall not find the pipe closed
                pass

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield samples (T,), all channels averaged."""
        for frames in self.frames():
            yield frames.mean(axis=1, dtype=np.float64).astype(np.float32)


class PcmSink:
    """Writes samples into a pipe, flushed block by block: whoever reads gets them as they are made."""

    def __init__(self, stream: BinaryIO, format: SampleFormat, rate_hz: int, channels: int, *, header: bool) -> None:
        """header: of a WAV whose length is not known. Raises what writing raises."""
        self._stream, self._format = stream, format
        if header:
            stream.write(wav_header(format, rate_hz, channels))
            stream.flush()

    def write(self, frames: NDArray[np.float32]) -> None:
        """Write samples (T, channels)."""
        self._stream.write(encoded(frames, self._format))
        self._stream.flush()


def wav_header(format: SampleFormat, rate_hz: int, channels: int) -> bytes:
    """Return the header of a WAV of unknown length."""
    frame_bytes = format.sample_bytes * channels
    about = struct.pack("<HHIIHH", format.tag, channels, rate_hz, rate_hz * frame_bytes, frame_bytes, format.bits)
    sizes = struct.pack("<4sI4s", b"RIFF", UNKNOWN_SIZE, b"WAVE")
    return sizes + struct.pack("<4sI", b"fmt ", len(about)) + about + struct.pack("<4sI", b"data", UNKNOWN_SIZE)


def decoded(data: bytes, format: SampleFormat) -> NDArray[np.float32]:
    """Return whole samples as float32, (N,)."""
    if format.tag == FLOAT:
        floats = np.frombuffer(data, f"<f{format.sample_bytes}")
        with np.errstate(over="ignore"):
            single: NDArray[np.float32] = floats.astype(np.float32)
        single[~np.isfinite(single)] = 0.0
        return single
    if format.bits == 8:
        return np.asarray((np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128, np.float32)
    if format.bits == 24:
        high = np.zeros((len(data) // 3, 4), np.uint8)
        high[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return np.asarray(high.reshape(-1).view("<i4") / 2**31, np.float32)
    return np.asarray(np.frombuffer(data, f"<i{format.sample_bytes}") / 2 ** (format.bits - 1), np.float32)


def encoded(frames: NDArray[np.float32], format: SampleFormat) -> bytes:
    """Return samples of any shape as bytes, one of s16, s24 and f32; integers are clipped."""
    if format.tag == FLOAT:
        return bytes(np.ascontiguousarray(frames, f"<f{format.sample_bytes}").tobytes())
    full = 2 ** (format.bits - 1)
    whole = np.clip(np.rint(frames.astype(np.float64) * full), -full, full - 1)
    if format.bits == 24:
        return bytes(whole.astype("<i4").reshape(-1, 1).view(np.uint8)[:, :3].tobytes())
    return bytes(whole.astype(f"<i{format.sample_bytes}").tobytes())


def _check_rate(rate_hz: int) -> None:
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise AudioFileError(f"{NAME}: has {rate_hz:,} samples a second, outside {LOWEST_RATE_HZ:,} to {HIGHEST_RATE_HZ:,} Hz")
