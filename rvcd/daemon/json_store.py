"""JSON files that the daemon keeps: written atomically, and set aside when they cannot be understood. Stdlib only."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rvcd.errors import ParamError, RvcdError
from rvcd.params import BY_NAME

MAX_BYTES = 4 * 2**20

T = TypeVar("T")


def load(path: Path, parse: Callable[[Any], T], empty: T, what: str) -> tuple[T, str | None]:
    """Return what a file holds and a warning for the log, or None.

    No file is `empty`. A file that cannot be understood is renamed to NAME.corrupt and reported in the warning, which calls
    it `what` ("saved state"). parse: makes the value from the JSON document; raises ValueError that says what is wrong.
    """
    try:
        return read(path, parse), None
    except FileNotFoundError:
        return empty, None
    except OSError as error:
        return empty, f"{path}: the {what} cannot be read ({error.strerror}); going on without"
    except ValueError as error:
        return empty, _set_aside(path, what, str(error))


def read(path: Path, parse: Callable[[Any], T]) -> T:
    """Return what a file holds, changing nothing.

    Raises OSError (FileNotFoundError: nothing saved yet), or ValueError, which says what is wrong with the file.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"is longer than {MAX_BYTES // 2**20} MiB")
    try:
        document = json.loads(data.decode())
    except UnicodeDecodeError:
        raise ValueError("is not text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON (line {error.lineno})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError:  # Python reads no whole number of more than 4300 digits
        raise ValueError("has a number of thousands of digits") from None
    return parse(document)


def known_params(saved: Any) -> dict[str, float]:
    """Return the parameters this version knows, clamped, by name. Raises ValueError naming one that is no number."""
    if not isinstance(saved, dict):
        raise ValueError("has wrong parameters")
    known: dict[str, float] = {}
    for name, value in saved.items():
        if name in BY_NAME:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"has a wrong parameter '{name}'")
            try:
                known[name] = BY_NAME[name].clamp(value)
            except (ParamError, OverflowError):
                raise ValueError(f"has a wrong parameter '{name}'") from None
    return known


def save(document: Mapping[str, Any], path: Path, what: str) -> None:
    """Write a file so that a crash at any moment leaves the old one or the new one, whole (temporary file, fsync, rename).

    Blocks on the disk: call it from a thread. Raises RvcdError when the folder cannot be written.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise RvcdError(
            f"{path}: the {what} cannot be saved: {error.strerror or error}; make room there, or let rvcd write that folder"
        ) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _set_aside(path: Path, what: str, reason: str) -> str:
    """Rename a broken file so that it can be looked at and no longer stands in the way; return the warning."""
    aside = path.with_name(path.name + ".corrupt")
    try:
        os.replace(path, aside)
    except OSError as error:
        return f"{path}: the {what} {reason}, and cannot be renamed ({error.strerror}); going on without"
    return f"{path}: the {what} {reason}; it is now {aside.name}; going on without"
