"""What the OSC server needs of the daemon: one small protocol, so that it can be tested with a fake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rvcd.errors import RvcdError
from rvcd.protocol import SUPERSEDED, State, Stats


class SupersededError(RvcdError):
    """A newer request of the same kind came before this one held: nothing is wrong, and nothing is logged."""

    def __init__(self) -> None:
        super().__init__(SUPERSEDED)


@dataclass(frozen=True)
class VoiceStatus:
    """A voice of the registry. slot: 1, 2, ... as on a controller's buttons; 0 with name "" means no voice."""

    name: str
    slot: int


NO_VOICE = VoiceStatus("", 0)


@dataclass(frozen=True)
class LogLine:
    """One line of the daemon's log. number: 1, 2, ... since the start. level: as logging names it, in lower case."""

    number: int
    level: str
    text: str


class Session(Protocol):
    """The running daemon. Called on the event loop's thread; only the async methods may take longer than ~1 ms.

    Every method may raise a RvcdError, whose text becomes the reason of a /fail reply.

    load_voice, set_speaker, set_f0_method and set_latency_preset change what is wanted before they wait for anything, and
    return when it holds. They are called while others of them still wait, and the newest wins: a request that another one of
    its kind replaced raises SupersededError. Being cancelled ends the waiting only: what is wanted stays.

    The other async methods are called one after the other: those of the presets, set_record, and rescan_voices, each of the
    three without waiting for the others.
    """

    @property
    def version(self) -> str:
        """The daemon's version, as in '0.1.0'."""

    def state(self) -> State:
        """Return what the daemon is doing now."""

    def stats(self) -> Stats:
        """Return the telemetry; the two peaks are since the previous call. The server is the only caller.

        Raises RvcdError while there is nothing to tell yet: the server says so now and then, and goes on asking.
        """

    def get_param(self, name: str) -> float:
        """Return a live number in its table's unit. Raises ParamError for an unknown name."""

    def set_param(self, name: str, value: float) -> float:
        """Clamp, apply and return the applied value. Raises ParamError for an unknown name, NaN or infinity."""

    def get_switch(self, name: str) -> bool:
        """Return 'bypass', 'mute', 'record', 'talk' or 'monitor_mute'."""

    def set_switch(self, name: str, on: bool) -> bool:
        """Set 'bypass', 'mute', 'talk' or 'monitor_mute' and return what holds now. Must not block: they are safety switches."""

    async def set_record(self, on: bool) -> bool:
        """Begin or end a recording and return what holds now. Raises RvcdError when it cannot begin (a full disk)."""

    def monitor_source(self) -> str:
        """Return what the monitor gives, one of protocol.MONITOR_SOURCES."""

    def set_monitor_source(self, name: str) -> str:
        """Let the monitor give something else, and return what it gives. Must not block."""

    def pitch_mode(self) -> str:
        """Return who transposes, one of protocol.PITCH_MODES."""

    def set_pitch_mode(self, name: str) -> str:
        """Change it and return what holds. Must not block. Raises ParamError for auto where the voice has no register."""

    def panicked(self) -> bool:
        """Return whether panic is latched."""

    def panic(self) -> None:
        """Mute and flush, latched until clear_panic. Must not block."""

    def clear_panic(self) -> None:
        """Release the latch."""

    def voice(self) -> VoiceStatus:
        """Return the live voice, or NO_VOICE."""

    def wanted_voice(self) -> VoiceStatus:
        """Return the voice that was asked for last and has not been given up; the live one when nothing is pending."""

    def voices(self) -> Sequence[VoiceStatus]:
        """Return the registry, scanned beforehand (no disk access here)."""

    async def load_voice(self, name_or_slot: str | int) -> VoiceStatus:
        """Load a voice and return once it is live. Raises RvcdError when it cannot be."""

    async def rescan_voices(self) -> int:
        """Look through the folders again and return how many voices there are."""

    def speaker(self) -> int:
        """Return the live voice's speaker, 0 for a voice with one."""

    async def set_speaker(self, name_or_number: str | int) -> int:
        """Choose a speaker of the wanted voice and return its number once it is heard. Raises RvcdError for one it lacks."""

    def preset(self) -> str:
        """Return the preset recalled or saved last, "" when a parameter has moved since."""

    def presets(self) -> Sequence[str]:
        """Return the names of the presets; the first is number 1."""

    def recall_preset(self, name_or_number: str | int) -> str:
        """Set every parameter of a preset and return its name. Raises RvcdError for one there is not."""

    async def save_preset(self, name_or_number: str | int) -> str:
        """Keep the present parameters under a name and return it. Raises RvcdError when they cannot be written."""

    async def delete_preset(self, name_or_number: str | int) -> str:
        """Forget a preset and return its name. Raises RvcdError for one there is not."""

    def latency_preset(self) -> str:
        """Return low, balanced or safe, whichever the stream runs with."""

    async def set_latency_preset(self, name: str) -> str:
        """Give the stream another latency and return the preset's name once it holds. Raises RvcdError."""

    def advice(self) -> str:
        """Return one sentence about what makes blocks late and what would help, "" while few are."""

    def hint(self) -> str:
        """Return one sentence about what is amiss around the daemon, "" while nothing is."""

    def log_lines(self, after: int) -> Sequence[LogLine]:
        """Return the newest lines of the log whose number is above `after`, oldest first; only the last few are kept."""

    def f0_method(self) -> str:
        """Return the name of the F0 method in use."""

    async def set_f0_method(self, name: str) -> str:
        """Switch the F0 method and return the name in use. Raises RvcdError (MissingExtraError among them)."""
