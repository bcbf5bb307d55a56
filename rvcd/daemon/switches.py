"""What can be on or off, and what follows from it for the audio path: silence, the raw voice, or the converted one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rvcd.errors import RvcdError
from rvcd.ipc.segment import AudioSegment

Later = Callable[[float, Callable[[], None]], object]
"""Runs a function after so many seconds, as loop.call_later does."""


@dataclass
class TalkKey:
    """The talk key. held: whether it is down. heard: whether what is heard now was said while it was down.

    A move is heard later by the latency: so a sentence is heard to its end after the release, and nothing that was said before
    the press is. Moves are heard in their order, even where the latency has shrunk between two of them.
    """

    later: Later
    on_heard: Callable[[], None]
    held: bool = False
    heard: bool = False
    _moves: int = field(default=0, repr=False)
    _last_heard: int = field(default=0, repr=False)

    def move(self, held: bool, latency_s: float) -> None:
        """The key goes down or up."""
        if held != self.held:
            self.held = held
            self._moves += 1
            number = self._moves
            self.later(latency_s, lambda: self._hear(number, held))

    def _hear(self, number: int, held: bool) -> None:
        if number > self._last_heard:
            self._last_heard, self.heard = number, held
            self.on_heard()


@dataclass
class Switches:
    """mute, panic (latched), bypass as the user set them. changing_latency: silent because two latencies meet.

    talk_mode: one of protocol.TALK_MODES.
    """

    segment: AudioSegment
    talk_mode: str
    talk: TalkKey
    mute: bool = False
    panic: bool = False
    bypass: bool = False
    changing_latency: bool = False

    @property
    def standby(self) -> bool:
        """Push-to-talk, and nothing of what is heard now was said with the key down."""
        return self.talk_mode == "push-to-talk" and not self.talk.heard

    @property
    def raw(self) -> bool:
        """Whether the raw voice is heard: only where the user has chosen it."""
        return self.bypass or (self.talk_mode == "push-to-convert" and not self.talk.heard)

    def get(self, name: str) -> bool:
        """Return 'bypass', 'mute' or 'talk'."""
        return self.talk.held if name == "talk" else bool(getattr(self, name))

    def set(self, name: str, on: bool, latency_s: float) -> None:
        """Set 'bypass', 'mute' or 'talk'. Raises RvcdError for a talk key that does nothing."""
        if name != "talk":
            setattr(self, name, on)
            self.apply()
        elif self.talk_mode == "off":
            raise RvcdError(
                "talk.mode is 'off', so /talk does nothing; set it to 'push-to-talk' or 'push-to-convert' in the configuration"
            )
        else:
            self.talk.move(on, latency_s)

    def apply(self) -> None:
        """Hand the audio path what follows."""
        self.segment.set_mute(self.mute or self.panic or self.changing_latency or self.standby)
        self.segment.set_bypass(self.raw)
