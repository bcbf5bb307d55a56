"""Other people's libraries report nothing, look nothing up, and keep no identifier: told before the first of them is imported.

rvcd itself opens no connection but its control socket. The processes it starts inherit what is set here.
"""

from __future__ import annotations

import os

SETTINGS = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    # Read by onnxruntime when it is imported: else it keeps an identifier of this machine below ~/.cache and reports home.
    "ORT_DISABLE_TELEMETRY": "1",
}
"""rvcd needs neither onnxruntime nor a hub; packages of the extra `eval` import them."""


def keep_to_this_machine() -> None:
    """Set the environment of this process and of its children."""
    os.environ.update(SETTINGS)
