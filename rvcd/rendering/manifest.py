"""What a batch has written into its output folder, kept there line by line: whatever ends the process, --resume can go on."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from rvcd.errors import RvcdError
from rvcd.rendering.messages import Rendered
from rvcd.rendering.plan import STATE_FOLDER

FILE_NAME, LOCK_NAME = "manifest.jsonl", "lock"


class Record(Struct, frozen=True):
    """A target of the batch. rendered None: it was begun; if it is there, it is ours, but what it was made from is not known.

    target: relative to the output folder. settings_hash: of all that decides the sound; "": nothing is known of the target any
    more. source_hash, target_hash: of the contents.
    """

    target: str
    settings_hash: str
    source: str = ""
    source_hash: str = ""
    target_hash: str = ""
    rendered: Rendered | None = None


class Manifest:
    """The records of one output folder, which this process alone may write. Use as a context manager."""

    def __init__(self, out: Path) -> None:
        """out: is made if it is not there. Raises RvcdError when it cannot be written, or when another batch writes into it."""
        self._folder = out / STATE_FOLDER
        self._path = self._folder / FILE_NAME
        self._records: dict[str, Record] = {}
        self.notes: list[str] = []
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            reason = "there is a file of that name" if isinstance(error, FileExistsError) else (error.strerror or "").lower()
            raise RvcdError(f"{out}: cannot be written: {reason}; choose another output folder") from None
        self._file: Any = None
        try:
            self._take_lock(out)
            self._read()
            self._file = self._rewritten()
        except OSError as error:
            os.close(self._lock)
            raise RvcdError(f"{self._path}: cannot be kept: {(error.strerror or str(error)).lower()}") from None
        except BaseException:
            os.close(self._lock)
            raise

    def _take_lock(self, out: Path) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RvcdError(
                f"{out}: another rvcd render writes into this folder; wait for its end, or choose another folder"
            ) from None
        except OSError as error:  # a network's file system without locks
            self.notes.append(f"{out}: cannot be locked ({error.strerror}); a second rvcd render into it would not be noticed")

    def _read(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            damaged = 0
            for line in self._path.read_bytes().split(b"\n"):
                if not line.strip():
                    continue
                try:
                    record = msgspec.convert(json.loads(line), Record)
                except (ValueError, RecursionError, msgspec.ValidationError):
                    damaged += 1
                    continue
                self._records[record.target] = record
            # The last line may have been cut by whatever ended the process.
            if damaged > 1:
                self.notes.append(f"{self._path}: {damaged} lines are damaged and are not used; their files count as unknown")

    def _rewritten(self) -> Any:
        """Write the newest records anew, whole, and return the file, open at its end."""
        descriptor, name = tempfile.mkstemp(dir=self._folder, prefix=f"{FILE_NAME}.")
        file = os.fdopen(descriptor, "wb")
        try:
            for record in filter(lambda record: record.settings_hash, self._records.values()):
                file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())
            os.replace(name, self._path)
        except BaseException:
            file.close()
            Path(name).unlink(missing_ok=True)
            raise
        return file

    def record_of(self, target: str) -> Record | None:
        """Return what is known of a target."""
        record = self._records.get(target)
        return record if record is not None and record.settings_hash else None

    def add(self, record: Record) -> None:
        """Keep a record: on the disk when this returns. Raises RvcdError."""
        self._records[record.target] = record
        try:
            self._file.write(_line(record))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise RvcdError(
                f"{self._path}: cannot be kept: {(error.strerror or str(error)).lower()}; free some space, then use --resume"
            ) from None

    def close(self) -> None:
        """Let others write into the folder; may be called twice."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
            os.close(self._lock)

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _line(record: Record) -> bytes:
    # As ASCII: the name of a file need not be text in any encoding.
    return json.dumps(msgspec.to_builtins(record)).encode("ascii") + b"\n"
