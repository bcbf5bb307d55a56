"""What survives a restart: the voice, the parameters, mute, panic and the monitor. Never a reason not to start.

Bypass and a held /talk are not kept: after a crash the raw voice must not be heard (fail closed). Mute and panic are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rvcd.config.folders import state_folder
from rvcd.daemon import json_store
from rvcd.params import BY_NAME
from rvcd.protocol import F0_METHODS, LATENCY_PRESET_NAMES, MONITOR_SOURCES, PITCH_MODES

FILE_NAME = "state.json"
FORMAT = 1
WHAT = "saved state"
MAX_SPEAKER = 2**31 - 1


@dataclass(frozen=True)
class SavedState:
    """What was wanted last. Texts that are "" mean: as configured. params: those that are known, in their table's units.

    pitch_auto: what auto chose last, semitones.
    speaker: of the voice. preset: the parameter preset recalled last, if the parameters still are as it has them.
    """

    voice: str = ""
    speaker: int = 0
    f0_method: str = ""
    latency_preset: str = ""
    preset: str = ""
    params: dict[str, float] = field(default_factory=dict)
    mute: bool = False
    panic: bool = False
    monitor_mute: bool = False
    monitor_source: str = ""
    pitch_mode: str = ""
    pitch_auto: int = 0


def state_path(instance: str = "") -> Path:
    """Return where a daemon's state lies: systemd's $STATE_DIRECTORY, else $XDG_STATE_HOME/rvcd (~/.local/state/rvcd)."""
    return state_folder(instance) / FILE_NAME


def load_state(path: Path) -> tuple[SavedState, str | None]:
    """Return the saved state and a warning for the log, or None. See json_store.load.

    A parameter this version does not know is dropped, one out of range is clamped.
    """
    return json_store.load(path, _parse, SavedState(), WHAT)


def read_state(path: Path) -> SavedState:
    """Return the saved state, changing nothing. Raises as json_store.read does."""
    return json_store.read(path, _parse)


def save_state(state: SavedState, path: Path) -> None:
    """Write the state atomically; blocks on the disk. Raises RvcdError when the folder cannot be written."""
    json_store.save({"format": FORMAT, **asdict(state)}, path, WHAT)


def _parse(document: Any) -> SavedState:
    """Check and return a document. Raises ValueError naming the first thing that is wrong."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"is not a state file of format {FORMAT}")
    values: dict[str, Any] = {}
    for name, default in asdict(SavedState()).items():
        value = document.get(name, default)
        if type(value) is not type(default):
            raise ValueError(f"has a wrong '{name}'")
        values[name] = value
    if not 0 <= values["speaker"] <= MAX_SPEAKER:
        raise ValueError("has a wrong 'speaker'")
    for name, known in (
        ("f0_method", F0_METHODS), ("latency_preset", LATENCY_PRESET_NAMES), ("monitor_source", MONITOR_SOURCES),
        ("pitch_mode", PITCH_MODES),
    ):  # fmt: skip
        if values[name] not in known:
            values[name] = ""
    if abs(values["pitch_auto"]) > BY_NAME["pitch"].high:
        raise ValueError("has a wrong 'pitch_auto'")
    values["params"] = json_store.known_params(values["params"])
    return SavedState(**values)
