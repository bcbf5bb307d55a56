"""What survives a restart: the voice, the parameters, mute and panic. Written atomically, never a reason not to start.

Bypass is not kept: after a crash the raw voice must not be heard (fail closed). Mute and panic are. Stdlib only.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rvcd.errors import ParamError, RvcdError
from rvcd.params import BY_NAME
from rvcd.protocol import F0_METHODS

FILE_NAME = "state.json"
FORMAT = 1


@dataclass(frozen=True)
class SavedState:
    """The last live values. voice and f0_method "" mean: as configured. params: those that are known, in their table's units."""

    voice: str = ""
    f0_method: str = ""
    params: dict[str, float] = field(default_factory=dict)
    mute: bool = False
    panic: bool = False


def state_path(environment: Mapping[str, str] | None = None) -> Path:
    """Return where the state lies: systemd's $STATE_DIRECTORY, else $XDG_STATE_HOME/rvcd (~/.local/state/rvcd)."""
    environment = os.environ if environment is None else environment
    if environment.get("STATE_DIRECTORY"):
        return Path(environment["STATE_DIRECTORY"].split(":")[0]) / FILE_NAME
    return Path(environment.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "rvcd" / FILE_NAME


def load_state(path: Path) -> tuple[SavedState, str | None]:
    """Return the saved state and a warning for the log, or None.

    No file is no state. A file that cannot be understood is renamed to NAME.corrupt and reported in the warning. A parameter
    this version does not know is dropped, one out of range is clamped.
    """
    try:
        return read_state(path), None
    except FileNotFoundError:
        return SavedState(), None
    except OSError as error:
        return SavedState(), f"{path}: the saved state cannot be read ({error.strerror}); starting from the configuration"
    except ValueError as error:
        return SavedState(), _set_aside(path, str(error))


def read_state(path: Path) -> SavedState:
    """Return the saved state, changing nothing.

    Raises OSError (FileNotFoundError: nothing saved yet), or ValueError, which says what is wrong with the file.
    """
    data = path.read_bytes()
    try:
        return _parse(json.loads(data.decode()))
    except UnicodeDecodeError:
        raise ValueError("is not text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON (line {error.lineno})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _parse(document: Any) -> SavedState:
    """Check and return a document. Raises ValueError naming the first thing that is wrong."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"is not a state file of format {FORMAT}")
    state = SavedState()
    values: dict[str, Any] = {}
    for name, default in asdict(state).items():
        value = document.get(name, default)
        if type(value) is not type(default):
            raise ValueError(f"has a wrong '{name}'")
        values[name] = value
    if values["f0_method"] not in ("", *F0_METHODS):
        values["f0_method"] = ""
    values["params"] = _known_params(values["params"])
    return SavedState(**values)


def _known_params(saved: Mapping[str, Any]) -> dict[str, float]:
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


def _set_aside(path: Path, reason: str) -> str:
    """Rename a broken file so that it can be looked at and no longer stands in the way; return the warning."""
    aside = path.with_name(path.name + ".corrupt")
    try:
        os.replace(path, aside)
    except OSError as error:
        return f"{path}: the saved state {reason}, and cannot be renamed ({error.strerror}); starting from the configuration"
    return f"{path}: the saved state {reason}; it is now {aside.name}; starting from the configuration"


def save_state(state: SavedState, path: Path) -> None:
    """Write the state so that a crash at any moment leaves the old file or the new one, whole (temporary file, fsync, rename).

    Blocks on the disk: call it from a thread. Raises RvcdError when the folder cannot be written.
    """
    document = {"format": FORMAT, **asdict(state)}
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
            f"{path}: the state cannot be saved: {error.strerror or error}; the next start will not resume it"
        ) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
