"""How `rvcd check` looks at the machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rvcd.config.settings import Settings

if TYPE_CHECKING:
    from rvcd.audio.portaudio_devices import DeviceInfo
    from rvcd.cli.checks.finding import Finding
    from rvcd.cli.checks.trial import TrialRequest
    from rvcd.voices.registry import VoiceEntry


class VoiceLike(Protocol):
    """What the check needs to know about a voice file (rvcd.formats.voice_header reads it)."""

    @property
    def version(self) -> str: ...
    @property
    def rate_hz(self) -> int: ...
    @property
    def unit_width(self) -> int: ...
    @property
    def unit_layer(self) -> int: ...
    @property
    def embedder(self) -> str: ...


@dataclass(frozen=True)
class Probes:
    """How the check looks at the machine; tests put fakes here.

    open_device: open what the settings name and close it again; raises RvcdError; None: do not.
    first_voice: given the name to resume ("" for none), the voice the daemon would start with, None for none.
    try_out: load everything in another process; None: do not. hashes: whether model files are read whole for their checksums.
    """

    list_devices: Callable[[], list[DeviceInfo]]
    open_device: Callable[[Settings], None] | None
    first_voice: Callable[[Settings, str], VoiceEntry | None]
    read_voice: Callable[[Path], VoiceLike]
    try_out: Callable[[TrialRequest], list[Finding]] | None
    hashes: bool
