"""Other people's libraries report nothing, look nothing up, and keep no identifier: told before the first of them is imported.

rvcd itself opens no connection but its control socket. The processes it starts inherit what is set here.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

SETTINGS = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Read by onnxruntime when it is imported: else it keeps an identifier of this machine below ~/.cache and reports home.
    "ORT_DISABLE_TELEMETRY": "1",
}
"""rvcd needs neither onnxruntime nor a hub; packages of the extra `eval` import them."""


def keep_to_this_machine() -> None:
    """Set the environment of this process and of its children."""
    os.environ.update(SETTINGS)
    folder = _folder_for_pulse()
    if folder is not None:
        os.environ["PULSE_RUNTIME_PATH"] = str(folder)


def _folder_for_pulse() -> Path | None:
    """Return where PulseAudio's client library shall have its folder, or None where its own choice is right.

    PortAudio loads it where ALSA has a plug-in for PulseAudio. With no XDG_RUNTIME_DIR, as in a system's service, it would leave
    a link in the home folder that is named after the machine's identifier.
    """
    if os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("PULSE_RUNTIME_PATH"):
        return None
    if os.getuid() != 0 and shutil.which("pulseaudio"):
        return None  # the library may start the server, and other programs must find it
    from rvcd.config.folders import cache_folder, expand_home, user_config
    from rvcd.errors import RvcdError

    try:
        if any(path.exists() for path in (user_config().parents[1] / "pulse", expand_home("~/.pulse"))):
            return None  # a server has been here, and is found through what it left
        return cache_folder() / "pulse"
    except (RvcdError, OSError):
        return None  # no home folder: nothing is left in it
