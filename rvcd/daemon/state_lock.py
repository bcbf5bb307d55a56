"""One daemon for each state folder: two that save into the same files undo each other's mute, voice and presets.

The lock is the kernel's (flock), so that it ends with its process, however that ends. The file itself stays.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from rvcd.errors import RvcdError
from rvcd.running import second_start

FILE_NAME = "lock"
MAX_PID_BYTES = 20

log = logging.getLogger("rvcd.daemon")


@contextlib.contextmanager
def hold(folder: Path, instance: str = "") -> Iterator[None]:
    """Keep the state in the folder for this process alone. Raises RvcdError when another one has it.

    instance: the name of the daemon whose folder it is.

    A folder that cannot be written is no reason not to start: there is nothing then that two could save; it is warned of.
    """
    file = _open(folder)
    try:
        if file is not None:
            _lock(file, folder, instance)
        yield
    finally:
        if file is not None:
            os.close(file)


def _open(folder: Path) -> int | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # O_NONBLOCK: whatever else may bear this name must not stop the start.
        return os.open(folder / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        _warn(folder, error)
        return None


def _lock(file: int, folder: Path, instance: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = _holder(file)
        if instance:
            raise RvcdError(second_start(instance, pid)) from None
        holder = f" (process {pid})" if pid else ""
        raise RvcdError(
            f"{folder}: another rvcd{holder} runs with this state; end it first, or give this one a name of its own: "
            "rvcd run --name NAME"
        ) from None
    except OSError as error:
        _warn(folder, error)
        return
    with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)


def _holder(file: int) -> int:
    """Return the holder's process number, 0 where it is not known."""
    with contextlib.suppress(OSError, ValueError):
        return int(os.pread(file, MAX_PID_BYTES, 0))
    return 0


def _warn(folder: Path, error: OSError) -> None:
    log.warning(
        "%s: cannot be locked (%s); a second rvcd with this folder would not be noticed", folder / FILE_NAME, error.strerror
    )
