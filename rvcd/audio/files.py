"""Audio files through libsndfile: reading as mono float32, and writing so that a half-written file is never seen."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rvcd.errors import AudioFileError, DiskFullError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

FORMATS: dict[str, tuple[str, str]] = {
    ".wav": ("WAV", "PCM_24"),
    ".flac": ("FLAC", "PCM_24"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aiff": ("AIFF", "PCM_24"),
    ".aif": ("AIFF", "PCM_24"),
    ".caf": ("CAF", "PCM_24"),
    ".w64": ("W64", "PCM_24"),
    ".au": ("AU", "PCM_24"),
}
"""What each extension is written as: libsndfile's format and its usual encoding."""
READ_SUFFIXES = (*FORMATS, ".aifc", ".oga", ".rf64", ".snd", ".wave")
"""Extensions by which a file in a folder is taken for audio."""
CARRIED_RATES_HZ = {
    ".opus": (8_000, 12_000, 16_000, 24_000, 48_000),
    ".mp3": (8_000, 12_000, 16_000, 24_000, 32_000, 44_100, 48_000),
}
"""Formats that hold these rates only. Others hold any."""
LARGEST_WAV_BYTES = 2**32 - 2**20
"""Sizes in a WAV or AIFF header have 32 bits; beyond this a .wav is written as RF64, which is a WAV with 64."""
SAMPLE_BYTES = 3
"""Of the encodings of FORMATS that are not compressed, for each channel."""
FULL_DISK_BYTES = 2**20
"""A disk that refused a write and has less than this left is full."""
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 8_000, 384_000
"""Of a file. A header that says 1 Hz makes 48,000 samples of each one, and whoever resamples it dies."""
MAX_LOSS = 10 ** (-4.5 / 10)
"""Share of the loudest channel's energy that the average of all must keep: two that have nothing in common keep 3 dB less."""
SMALL_BLOCK_SAMPLES = 1024
SHORT_OF = 0.98
"""Less than this part of what the header says is told. The length of an MP3 is an estimate."""
MAX_BLOCK_VALUES = 2**20
"""Samples of all channels that are read at once: a file may have a thousand channels."""


class AudioReader:
    """An open audio file, read block by block as mono float32. Use as a context manager.

    Iterating yields blocks of block_samples samples (the last one may be shorter), full scale +-1.0; not-a-number and
    infinite samples become 0. Several channels are averaged; where that loses much of the sound, because they cancel each
    other or most are silent, the loudest one is taken, and note says so.
    """

    def __init__(self, path: str | os.PathLike[str], block_samples: int = 65536) -> None:
        """Open path. Raises AudioFileError when it is missing, not audio, empty, or of a rate that is none."""
        import soundfile

        self.path = Path(path)
        self._error = soundfile.SoundFileError
        if not self.path.exists():
            raise AudioFileError(f"{self.path}: there is no such file")
        if self.path.is_dir():
            raise AudioFileError(f"{self.path}: this is a directory, not an audio file")
        if self.path.is_file() and self.path.stat().st_size == 0:
            raise AudioFileError(f"{self.path}: is empty (0 bytes): record or export it again")
        try:
            self._file = soundfile.SoundFile(os.fsencode(self.path))  # bytes: a name need not be text in any encoding
        except (soundfile.SoundFileError, TypeError, ValueError, OSError) as error:
            raise AudioFileError(
                f"{self.path}: not an audio file that libsndfile can read ({_reason(error)}): use WAV, FLAC, OGG or MP3"
            ) from error
        self.rate_hz = int(self._file.samplerate)
        self.channels = int(self._file.channels)
        self.block_samples = max(1, min(block_samples, MAX_BLOCK_VALUES // max(1, self.channels)))
        self._notes: list[str] = []
        self._header_is_longer = "should be" in self._file.extra_info
        """libsndfile's word for a header of a WAV or AIFF that promises more than the file holds."""
        self.total_samples = int(self._file.frames)
        """As the header says; a file that is cut short holds fewer."""
        if self.total_samples <= 0:
            self.close()
            raise AudioFileError(f"{self.path}: the file holds no samples: record or export it again")
        if not LOWEST_RATE_HZ <= self.rate_hz <= HIGHEST_RATE_HZ:
            self.close()
            raise AudioFileError(
                f"{self.path}: says that it has {self.rate_hz:,} samples a second, outside {LOWEST_RATE_HZ:,} to "
                f"{HIGHEST_RATE_HZ:,} Hz: export it again, for example with 48,000"
            )

    @property
    def note(self) -> str:
        """What was made of the channels, and how much of a cut file there was: known once it was read; "" for nothing."""
        return "; ".join(self._notes)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield the rest of the file, of a cut or damaged one what can be read. Raises AudioFileError where that is nothing."""
        channel = self._channel_to_take() if self.channels > 1 else None
        for frames in self.frames():
            yield _to_mono(frames if channel is None else frames[:, channel : channel + 1])

    def frames(self) -> Iterator[NDArray[np.float32]]:
        """Yield the same with every channel by itself, (T, channels). Raises as iterating does."""
        read_samples, reason = 0, ""
        while True:
            try:
                frames = _read(self._file, self.block_samples)
            except (self._error, RuntimeError) as error:
                reason = _reason(error)
                frames = self._what_is_left(read_samples)
            if len(frames):
                read_samples += len(frames)
                yield frames
            if not len(frames) or reason:
                break
        if not read_samples:
            raise AudioFileError(f"{self.path}: damaged at its first sample ({reason or 'nothing follows'}): export it again")
        self._note_the_end(read_samples, reason)

    def _what_is_left(self, read_samples: int) -> NDArray[np.float32]:
        """Return what can be read of the block in which reading failed, in small pieces: a decoder gives whole blocks or none."""
        import numpy as np
        import soundfile

        pieces: list[NDArray[np.float32]] = []
        with contextlib.suppress(self._error, RuntimeError, OSError), soundfile.SoundFile(os.fsencode(self.path)) as file:
            file.seek(read_samples)
            while len(piece := _read(file, SMALL_BLOCK_SAMPLES)):
                pieces.append(piece)
        return np.concatenate(pieces) if pieces else np.zeros((0, self.channels), np.float32)

    def _note_the_end(self, read_samples: int, reason: str) -> None:
        had_s, wanted_s = read_samples / self.rate_hz, self.total_samples / self.rate_hz
        if reason:
            self._notes.append(
                f"{self.path}: damaged after {had_s:.1f} of {wanted_s:.1f} s ({reason}); what is before that is used"
            )
        elif self._header_is_longer:
            self._notes.append(f"{self.path}: is cut short: its header promises more than the {had_s:.1f} s that are there")
        elif had_s < SHORT_OF * wanted_s:
            self._notes.append(f"{self.path}: is cut short: {had_s:.1f} of {wanted_s:.1f} s are there")

    def _channel_to_take(self) -> int | None:
        """Return the loudest channel where the average of all would lose much of it, else None. Reads the file once more."""
        import numpy as np
        import soundfile

        energies, of_mean = np.zeros(self.channels), 0.0
        # Opened anew: to go back is not exact in every format. What is damaged shows when it is read for use.
        with contextlib.suppress(self._error, RuntimeError, OSError), soundfile.SoundFile(os.fsencode(self.path)) as file:
            while file.channels == self.channels and len(frames := _read(file, self.block_samples)):
                energies += np.square(frames, dtype=np.float64).sum(axis=0)
                of_mean += float(np.square(frames.mean(axis=1, dtype=np.float64)).sum())
        loudest = int(energies.argmax())
        if of_mean >= MAX_LOSS * energies[loudest]:
            return None
        self._notes.append(
            f"{self.path}: its {self.channels} channels would lose much of the sound if they were mixed; "
            f"only channel {loudest + 1}, the loudest, is used"
        )
        return loudest

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_audio(path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], int]:
    """Read a whole file of any format libsndfile knows; return (mono float32 samples, rate_hz).

    Raises AudioFileError when it is missing, not audio, damaged or empty.
    """
    import numpy as np

    with AudioReader(path) as reader:
        blocks = list(reader)
        if not blocks:
            raise AudioFileError(f"{reader.path}: the file holds no samples: record or export it again")
        return np.concatenate(blocks), reader.rate_hz


def _read(file: Any, samples: int) -> NDArray[np.float32]:
    """Return the next samples as (T, channels), non-finite ones as 0; none at the end."""
    import numpy as np

    frames: NDArray[np.float32] = file.read(samples, dtype="float32", always_2d=True)
    return np.nan_to_num(frames, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _to_mono(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the channels of frames (T, channels) in double precision."""
    import numpy as np

    mono: NDArray[np.float32] = frames.mean(axis=1, dtype=np.float64).astype(np.float32)
    return mono


PART = ".part-"
"""Between a target's name and the number of the process that writes it, where it needs a name before it is whole."""


class AtomicAudioWriter:
    """Writes an audio file that has no name until it is whole and on disk: whatever ends the process, nothing is left behind.

    Where the file system knows no file without a name, it has a temporary one beside the target until then. As a context manager
    it commits on success, and forgets the unfinished file when the block raises.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        rate_hz: int,
        *,
        channels: int = 1,
        force: bool = False,
        subtype: str | None = None,
        expected_samples: int = 0,
    ) -> None:
        """Open the temporary file. The format follows the extension of path; subtype overrides its usual encoding.

        expected_samples: of each channel, as far as known: a .wav that would be too long for its header becomes RF64.

        Raises AudioFileError when the target exists (unless force), the extension is unknown, the directory cannot be
        written, or the format does not carry the rate.
        """
        import soundfile

        self.path = Path(path)
        self._force = force
        self._error = soundfile.SoundFileError
        self._file: Any = None
        self._part = self.path.with_name(f"{self.path.name}{PART}{os.getpid()}")
        self._nameless = -1
        """The descriptor of the file while it has no name; -1: it has the temporary one."""
        self.check(self.path, force=force)
        extension = self.path.suffix.lower()
        container, usual = FORMATS[extension]
        encoding = subtype or usual
        if expected_samples * channels * SAMPLE_BYTES > LARGEST_WAV_BYTES and container in ("WAV", "AIFF", "AU"):
            if container != "WAV":
                raise AudioFileError(f"{self.path}: {container} holds 4 GB, and this would be longer: use .wav, .w64 or .flac")
            container = "RF64"
        try:
            self._nameless = _open_nameless(self.path.parent)
            if self._nameless < 0:
                with open(self._part, "wb"):
                    pass
        except OSError as error:
            raise AudioFileError(f"{self.path}: cannot be written there ({error.strerror}): choose another place") from error
        try:
            self._file = soundfile.SoundFile(
                os.fsencode(self._part) if self._nameless < 0 else os.dup(self._nameless),
                "w",
                samplerate=rate_hz,
                channels=channels,
                format=container,
                subtype=encoding,
            )
        except (soundfile.SoundFileError, TypeError, ValueError, OSError) as error:
            self.discard()
            raise AudioFileError(
                f"{self.path}: {container} cannot hold {channels} channel(s) at {rate_hz} Hz as {encoding} "
                f"({_reason(error)}): use .wav or another rate"
            ) from error

    @staticmethod
    def check(path: Path, *, force: bool) -> None:
        """Raise AudioFileError for a target that could not be written whatever is in it."""
        extension = path.suffix.lower()
        if extension not in FORMATS:
            raise AudioFileError(f"{path}: unknown extension {extension!r}: use one of {', '.join(FORMATS)}")
        if path.is_dir():
            raise AudioFileError(f"{path}: this is a directory: name a file in it")
        if path.exists() and not force:
            raise AudioFileError(f"{path}: already exists: choose another name or use --force to replace it")

    def write(self, samples: NDArray[np.float32]) -> None:
        """Append samples: (T,) for mono or (T, channels). Values beyond +-1 are clipped by integer encodings.

        Raises AudioFileError when the disk refuses them, DiskFullError when it is full.
        """
        try:
            self._file.write(samples)
        except (self._error, RuntimeError, OSError, AssertionError) as error:
            # soundfile asserts that everything was written.
            raise self._refused(error, "writing stopped", "The unfinished file is removed") from error

    def _refused(self, error: Exception, what: str, and_then: str = "") -> AudioFileError:
        """Return the error for a disk that takes no more, or that has another reason."""
        more = f" {and_then}" if and_then else ""
        if disk_is_full(self.path.parent, error):
            return DiskFullError(f"{self.path}: {what}: the disk is full; free some space, or write elsewhere.{more}")
        return AudioFileError(f"{self.path}: {what} ({_reason(error)}): is the disk full?{more}")

    def commit(self) -> None:
        """Finish the file, force it to disk and give it its name. Raises AudioFileError; then nothing is left behind."""
        if self._file is None:
            return
        try:
            self._file.close()
            self._file = None
            descriptor = os.open(self._part, os.O_RDONLY) if self._nameless < 0 else self._nameless
            self._nameless = -1
            try:
                os.fsync(descriptor)
                if not self._part.exists():
                    # With a folder's descriptor, or Python would link the link in /proc instead of what it leads to.
                    os.link(f"/proc/self/fd/{descriptor}", self._part, src_dir_fd=descriptor)
            finally:
                os.close(descriptor)
            self._rename()
        except FileExistsError as error:
            self.discard()
            raise AudioFileError(
                f"{self.path}: appeared while it was being written: choose another name or use --force to replace it"
            ) from error
        except (self._error, RuntimeError, OSError) as error:
            refused = self._refused(error, "cannot be finished")  # asked before what was written is given back
            self.discard()
            raise refused from error

    def _rename(self) -> None:
        if self._force:
            os.replace(self._part, self.path)
            return
        try:
            # A hard link fails when the name exists, which a rename would not.
            os.link(self._part, self.path)
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links.
            if self.path.exists():
                raise FileExistsError(str(self.path)) from None
            os.replace(self._part, self.path)
        else:
            os.unlink(self._part)

    def discard(self) -> None:
        """Remove the unfinished file; does nothing after commit."""
        if self._file is not None:
            with contextlib.suppress(self._error, RuntimeError, OSError):
                self._file.close()
            self._file = None
        if self._nameless >= 0:
            os.close(self._nameless)
            self._nameless = -1
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()


def carried_rate_hz(extension: str, rate_hz: int) -> int:
    """Return the rate at which a format can hold audio of rate_hz: the next higher one it has, else its highest."""
    rates = CARRIED_RATES_HZ.get(extension.lower(), ())
    return min((rate for rate in rates if rate >= rate_hz), default=rates[-1]) if rates else rate_hz


def remove_leftovers(target: Path) -> None:
    """Remove what a writer of this target left behind whose process has ended, where files need a name from the start."""
    with contextlib.suppress(OSError):
        for path in target.parent.glob(f"{_escaped(target.name)}{PART}*"):
            number = path.name[len(target.name) + len(PART) :]
            if number.isdigit() and not _runs(number):
                path.unlink(missing_ok=True)


def _runs(process: str) -> bool:
    """Return whether a process of this number runs. One that has ended stays listed until somebody takes notice."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def disk_is_full(folder: Path, error: Exception) -> bool:
    """Return whether a write failed because nothing is left on the folder's disk. libsndfile does not pass on why."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    with contextlib.suppress(OSError):
        disk = os.statvfs(folder)
        return disk.f_bavail * disk.f_frsize < FULL_DISK_BYTES
    return False


def _open_nameless(folder: Path) -> int:
    """Return the descriptor of a new file in a folder that has no name, -1 where the file system cannot. Raises OSError."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            return -1
        raise


def _reason(error: Exception) -> str:
    """Return libsndfile's or the system's own words, without the path and in one line."""
    text = str(getattr(error, "error_string", "") or getattr(error, "strerror", "") or error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__
