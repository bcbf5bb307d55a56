"""Where the built-in voice lies: an encoder and a voice that come with rvcd. Stdlib only."""

from __future__ import annotations

from pathlib import Path

BUILT_IN_VOICE = "built-in"
BUILT_IN_FOLDER = Path(__file__).parent.parent / "data" / "builtin"
BUILT_IN_ENCODER = BUILT_IN_FOLDER / "encoder.safetensors"
