"""Files that other machines need or have made: read into memory, and written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from rvcd.audio.files import PART, disk_is_full
from rvcd.errors import AudioFileError, DiskFullError, RvcdError
from rvcd.rendering.messages import RenderSetup

Content = dict[str, bytes]
"""A file as {"": its bytes}, a folder as the bytes of each file in it by its relative path."""


def content_of(path: Path) -> Content:
    """Return a file or a folder. Raises RvcdError where it cannot be read."""
    try:
        if path.is_dir():
            return {str(below.relative_to(path)): below.read_bytes() for below in sorted(path.rglob("*")) if below.is_file()}
        return {"": path.read_bytes()}
    except OSError as error:
        raise RvcdError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None


def write_content(content: Content, path: Path) -> None:
    """Write a file or a folder that was read elsewhere."""
    for relative, data in content.items():
        target = path / relative if relative else path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def model_paths(setup: RenderSetup) -> tuple[str, ...]:
    """Return the files of a setup that a worker loads. The test weights are none: they are written where they are needed."""
    if setup.models.test_weights_cache:
        return ()
    rmvpe = setup.models.rmvpe if setup.f0_method == "rmvpe" else ""
    return tuple(path for path in (setup.models.encoder, setup.voice.path, setup.voice.index, rmvpe) if path)


def commit(data: bytes, target: Path, *, replace: bool) -> None:
    """Write a target that was made elsewhere. Raises AudioFileError; then it is what it was before."""
    part = target.with_name(f"{target.name}{PART}{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise AudioFileError(f"{target}: cannot be written: its folder cannot be made: {reason}") from None
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(part, target)
        else:
            os.link(part, target)  # fails where there is one
    except FileExistsError:
        raise AudioFileError(f"{target}: appeared while it was being made: --force replaces it") from None
    except OSError as error:
        if disk_is_full(target.parent, error):
            raise DiskFullError(f"{target}: the disk is full; free some space, or write elsewhere") from None
        raise AudioFileError(f"{target}: cannot be written: {(error.strerror or str(error)).lower()}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
