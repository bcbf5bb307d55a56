"""What a word of the command line means where a voice is expected: a file, a folder, a name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rvcd.config.folders import expand_home
from rvcd.errors import VoiceNotFoundError
from rvcd.protocol import names_voice_file

if TYPE_CHECKING:
    from rvcd.config.settings import Settings
    from rvcd.voices.registry import VoiceEntry, VoiceRegistry


def find_voices(settings: Settings, wanted: str) -> Sequence[VoiceEntry]:
    """Return what a command line names: a .pth file, the voices of a folder, or a voice by its name. Raises RvcdError.

    Real voices are found by name without a content encoder too: they can be looked at before there is one.
    """
    from rvcd.voices.builtin_paths import BUILT_IN_FOLDER
    from rvcd.voices.configured import scan_voices
    from rvcd.voices.registry import VoiceRegistry, voice_of_file

    path = expand_home(wanted)
    if names_voice_file(wanted):
        return [voice_of_file(path)]
    if os.sep in wanted and path.is_dir():
        return _all_of(VoiceRegistry.scan([path]), wanted)
    registry = VoiceRegistry.scan(settings.voices.folders)
    try:
        return [registry.find(wanted)]
    except VoiceNotFoundError:
        if path.is_dir():
            return _all_of(VoiceRegistry.scan([path]), wanted)
        if path.is_file() or os.sep in wanted:
            return [voice_of_file(path)]
        own_voices = () if settings.models.real_encoder else scan_voices(settings).entries
        built_in = VoiceRegistry.scan([BUILT_IN_FOLDER]).entries
        named = [entry for entry in (*own_voices, *built_in) if entry.name == wanted][:1]
        if not named:
            raise
        return named


def _all_of(registry: VoiceRegistry, folder: str) -> Sequence[VoiceEntry]:
    if not registry.entries:
        raise VoiceNotFoundError(f"{folder}: " + ("; ".join(registry.skipped[:3]) or "holds no voice (*.pth)"))
    return registry.entries
