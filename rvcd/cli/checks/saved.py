"""What the daemon kept from its last run: the state, and the presets."""

from __future__ import annotations

import os
from pathlib import Path

from rvcd.cli.checks.finding import Finding, Level
from rvcd.daemon.presets import presets_path, read_presets
from rvcd.daemon.state import SavedState, read_state, state_path


def state_finding(instance: str) -> tuple[Finding, SavedState]:
    """Look at a daemon's state file, and return what it holds, without touching it: a broken one is the daemon's to set aside."""
    path = state_path(instance)
    try:
        saved = read_state(path)
    except FileNotFoundError:
        saved = SavedState()
    except (OSError, ValueError) as error:
        return Finding(
            Level.NOTE, "state", f"{path} cannot be resumed, it would start from the configuration: {error}"
        ), SavedState()
    folder = next((parent for parent in path.parents if parent.exists()), Path("/"))
    if not os.access(folder, os.W_OK):
        return Finding(Level.NOTE, "state", f"{path} cannot be written: the next start would not resume anything"), saved
    latched = [name for name, on in (("mute", saved.mute), ("panic", saved.panic)) if on]
    if latched:
        return Finding(
            Level.NOTE, "state", f"{path}: would resume with {' and '.join(latched)} on: silent until that is cleared"
        ), saved
    return Finding(Level.OK, "state", f"voice, parameters, mute and panic are kept in {path}"), saved


def preset_findings(instance: str) -> list[Finding]:
    """Look at a daemon's presets' file without touching it."""
    path = presets_path(state_path(instance))
    try:
        names = read_presets(path).names
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        return [Finding(Level.NOTE, "presets", f"{path} cannot be used and would be set aside: {error}")]
    return [Finding(Level.OK, "presets", f"{len(names)} in {path}: {', '.join(names)[:200]}")] if names else []
