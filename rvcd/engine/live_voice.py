"""The voice that is heard, and how much of it runs from block to block."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rvcd.engine.voice_stream import Voice, VoiceStream


class Phase(enum.Enum):
    """How much of the voice's networks ran for the last block.

    IDLE -> FOLLOWING or SPEAKING: the gate opened; the stream begins afresh with the past that is remembered.
    FOLLOWING -> SPEAKING: the pause is over; only the decoder begins afresh.
    SPEAKING -> FOLLOWING: a pause.
    FOLLOWING, SPEAKING -> IDLE: the pause is long, a block came too late or failed, or the voice was changed in silence.
    """

    IDLE = "idle"
    """Nothing ran."""
    FOLLOWING = "following"
    """All but the decoder: in a short pause the next word finds its past, and costs what any block costs."""
    SPEAKING = "speaking"
    """Everything: the next block's samples follow these without a seam."""


@dataclass
class LiveVoice:
    """One stream and its phase. block_ms: what the last block that was heard took to compute; 0: none was."""

    stream: VoiceStream
    phase: Phase = Phase.IDLE
    block_ms: float = 0.0

    @property
    def voice(self) -> Voice:
        """The voice itself."""
        return self.stream.voice

    def become(self, stream: VoiceStream) -> None:
        """Be another voice that begins afresh, with the next block that is heard."""
        self.stream, self.phase = stream, Phase.IDLE

    def go_on_as(self, stream: VoiceStream) -> None:
        """Be another voice whose stream is where this one's is. Only while SPEAKING: it takes over between two samples."""
        if self.phase is not Phase.SPEAKING:
            raise RuntimeError(f"a voice that is {self.phase.value} has no sample for another one to go on from")
        self.stream = stream
