"""Which latency preset each voice holds on this machine: measured once by a worker, kept in the state folder. Stdlib only.

It is a cache: whatever cannot be read is measured again. The key says what a measurement depends on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

from rvcd.config.processor import processor_name
from rvcd.config.settings import Settings
from rvcd.daemon import json_store
from rvcd.ipc.messages import Choice, VoiceFiles
from rvcd.protocol import LATENCY_PRESET_NAMES

CHOICES_NAME = "latency-choices.json"
FORMAT = 1
MAX_CHOICES = 200
"""The oldest are let go."""
WHAT = "latency presets that were measured"


class PresetChoices:
    """Presets by key, the newest last."""

    def __init__(self, path: Path, presets: dict[str, str]) -> None:
        self.path, self._presets = path, presets

    @classmethod
    def load(cls, path: Path) -> PresetChoices:
        """Return what is kept, or nothing where that cannot be read."""
        with contextlib.suppress(OSError, ValueError):
            return cls(path, json_store.read(path, _parse))
        return cls(path, {})

    def copy(self) -> PresetChoices:
        """Return what is kept now, for another thread."""
        return PresetChoices(self.path, dict(self._presets))

    def get(self, key: str) -> str:
        """Return the preset of a key, "" where none is known."""
        return self._presets.get(key, "")

    def put(self, key: str, preset: str) -> None:
        """Keep a preset, here."""
        self._presets.pop(key, None)
        self._presets[key] = preset
        for oldest in list(self._presets)[:-MAX_CHOICES]:
            del self._presets[oldest]

    def save(self) -> None:
        """Write them. Blocks on the disk. Raises RvcdError when the folder cannot be written."""
        json_store.save({"format": FORMAT, "presets": self._presets}, self.path, WHAT)


def choice_key(settings: Settings, voice: VoiceFiles, f0_method: str, version: str) -> str:
    """Return what the choice depends on: processor, cores, how it is computed, voice, pitch method, and this version."""
    engine = settings.engine
    facts = (
        processor_name(), len(os.sched_getaffinity(0)), os.environ.get("RVCD_CPU", ""), engine.device, engine.threads,
        engine.precision, f0_method, settings.audio.rate_hz, voice.path, voice.identity, voice.index, version,
    )  # fmt: skip
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def sentence_of(choice: Choice) -> str:
    """Return the line for the log."""
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in choice.shares.items())
    kept = "" if choice.sure else "; other programs used the processor, so it is measured again at the next start"
    return (
        f"latency preset {choice.latency}, chosen by measurement (a block takes of the time that it may take: {shares}); "
        f"latency.preset decides otherwise{kept}"
    )


def _parse(document: Any) -> dict[str, str]:
    presets = document.get("presets") if isinstance(document, dict) and document.get("format") == FORMAT else None
    if not isinstance(presets, dict):
        raise ValueError(f"is not a file of format {FORMAT}")
    known = {key: preset for key, preset in presets.items() if preset in LATENCY_PRESET_NAMES}
    return dict(list(known.items())[-MAX_CHOICES:])
