"""A FLAC file that can be read at every moment of its writing, whatever becomes of the writer.

libFLAC writes the length into the header only when it is told to finish: a file whose writer was killed says 0, which some
programs take for a length (libsndfile for 2^63). So after every write this one puts the length so far there itself.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rvcd.errors import AudioFileError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# A FLAC file begins with "fLaC", 4 bytes of block header, and STREAMINFO (RFC 9639, 8.2): at its start the least and the
# greatest block size, and from its byte 13 on 4 bits that belong to the sample size and 36 bits of total samples.
_BLOCK_SIZE_AT = 8
_TOTAL_AT = 8 + 13
_TOTAL_BYTES = 5


class GrowingFlac:
    """A new 24-bit FLAC file. The samples of a block (libFLAC's, 4096 by default) are on disk once the next one has begun.

    path: where it is. samples: frames written so far.
    """

    def __init__(self, path: Path, rate_hz: int, channels: int, *, title: str = "", comment: str = "") -> None:
        """Create path. Raises FileExistsError when there is such a file, AudioFileError when it cannot be made."""
        import soundfile

        self.path, self.samples = path, 0
        self._rate_hz = rate_hz
        self._error = soundfile.SoundFileError
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            raise
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise AudioFileError(f"{path}: cannot be written ({reason}): choose another folder") from None
        try:
            self._file = soundfile.SoundFile(
                self._fd, "w", samplerate=rate_hz, channels=channels, format="FLAC", subtype="PCM_24", closefd=False
            )
        except (soundfile.SoundFileError, ValueError) as error:
            self._forget()
            raise AudioFileError(
                f"{path}: FLAC cannot hold {channels} channels at {rate_hz} Hz ({error}): use a rate up to 655350 Hz"
            ) from None
        # libsndfile refuses empty tags. A file without tags is better than none.
        with contextlib.suppress(soundfile.SoundFileError, ValueError):
            self._file.title = title
        with contextlib.suppress(soundfile.SoundFileError, ValueError):
            self._file.comment = comment

    def write(self, frames: NDArray[np.float32]) -> None:
        """Append frames (T, channels), full scale +-1.0; beyond it they are clipped. Raises AudioFileError: a full disk."""
        try:
            self._file.write(frames)
            self.samples += len(frames)
            if self.samples:  # before, there is no header yet
                self._tell_length()
        except (self._error, AssertionError, OSError):  # soundfile asserts that libsndfile took every frame
            seconds = self.samples / self._rate_hz
            raise AudioFileError(f"{self.path}: the disk took no more after {seconds:.1f} s: is it full, or gone?") from None

    def close(self) -> None:
        """Finish the file and force it to disk; may be called twice. Raises AudioFileError when the disk refuses.

        What was written before stays readable even then.
        """
        if self._fd < 0:
            return
        try:
            self._file.close()
            os.fsync(self._fd)
        except (self._error, OSError):
            raise AudioFileError(f"{self.path}: the end could not be written: is the disk full, or gone?") from None
        finally:
            os.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        """Close the file and remove it."""
        if self._fd >= 0:
            with contextlib.suppress(self._error, OSError):
                self._file.close()
            self._forget()

    def _forget(self) -> None:
        os.close(self._fd)
        self._fd = -1
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _tell_length(self) -> None:
        """Put into the header how many samples whole blocks hold. The file's offset, libFLAC's, stays where it is."""
        block_samples = int.from_bytes(os.pread(self._fd, 2, _BLOCK_SIZE_AT), "big")
        # libFLAC looks one sample ahead before it lets a block go.
        whole = max(0, self.samples - 1) // block_samples * block_samples
        field = int.from_bytes(os.pread(self._fd, _TOTAL_BYTES, _TOTAL_AT), "big")
        field = field >> 36 << 36 | whole
        os.pwrite(self._fd, field.to_bytes(_TOTAL_BYTES, "big"), _TOTAL_AT)
