"""What the OSC server needs of the daemon: one small protocol, so that it can be tested with a fake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rvcd.protocol import State, Stats


@dataclass(frozen=True)
class VoiceStatus:
    """A voice of the registry. slot: 1, 2, ... as on a controller's buttons; 0 with name "" means no voice."""

    name: str
    slot: int


NO_VOICE = VoiceStatus("", 0)


class Rig(Protocol):
    """The running daemon. Called on the event loop's thread; only the two async methods may take longer than ~1 ms.

    Every method may raise a RvcdError, whose text becomes the reason of a /fail reply.
    """

    @property
    def version(self) -> str:
        """The daemon's version, as in '0.1.0'."""

    def state(self) -> State:
        """Return what the daemon is doing now."""

    def stats(self) -> Stats:
        """Return the telemetry; the two peaks are since the previous call. The server is the only caller."""

    def get_param(self, name: str) -> float:
        """Return a live number in its table's unit. Raises ParamError for an unknown name."""

    def set_param(self, name: str, value: float) -> float:
        """Clamp, apply and return the applied value. Raises ParamError for an unknown name, NaN or infinity."""

    def get_switch(self, name: str) -> bool:
        """Return 'bypass' or 'mute'."""

    def set_switch(self, name: str, on: bool) -> bool:
        """Set 'bypass' or 'mute' and return what holds now. Must not block: mute is a safety switch."""

    def panicked(self) -> bool:
        """Return whether panic is latched."""

    def panic(self) -> None:
        """Mute and flush, latched until clear_panic. Must not block."""

    def clear_panic(self) -> None:
        """Release the latch."""

    def voice(self) -> VoiceStatus:
        """Return the live voice, or NO_VOICE."""

    def voices(self) -> Sequence[VoiceStatus]:
        """Return the registry, scanned beforehand (no disk access here)."""

    async def load_voice(self, name_or_slot: str | int) -> VoiceStatus:
        """Load a voice and return once it is live. Raises RvcdError when it cannot be."""

    def f0_method(self) -> str:
        """Return the name of the F0 method in use."""

    async def set_f0_method(self, name: str) -> str:
        """Switch the F0 method and return the name in use. Raises RvcdError (MissingExtraError among them)."""
