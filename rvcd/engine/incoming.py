"""A voice on its way in: brought up to where the stream is, step by step, between blocks."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rvcd.engine.voice_stream import VoiceStream

FEED_FRAMES = 24
"""Past frames that one step feeds: few enough to fit between two blocks."""
JOIN_FRAMES = 2
"""Frames that the new voice's decoder is warmed up with. It remembers 11: the others it would have are missing as they are at the
start of every utterance, while the voice fades in. Each costs time in the one step that cannot be divided."""
FADE_MS = 20.0
"""Crossfade from the old voice to the new one."""
FORGET = 0.3
"""Share of the newest measurement in what a step is expected to cost."""


class Step(enum.Enum):
    """What is done next for the incoming voice."""

    UNITS = "units"
    """Its content units, where their width is not the present voice's."""
    FEED = "feed"
    """Some of the past frames become latents."""
    JOIN = "join"
    """The newest frames too, then the decoder is warmed up to the sample that is heard next, and the old voice's end is kept."""


@dataclass
class Incoming:
    """fed: frames before this number are latents of the new voice. tail: of the old voice, to fade out.

    ready_at: the number of blocks heard when it joined (None: not yet). Only the very next block can begin with it.
    """

    stream: VoiceStream
    fed: int
    tail: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    ready_at: int | None = None


@dataclass
class StepCosts:
    """What each kind of step costs, in blocks: when the machine has a slow second, blocks and steps both take longer."""

    in_blocks: dict[Step, float] = field(default_factory=lambda: {Step.UNITS: 0.5, Step.FEED: 0.2, Step.JOIN: 0.6})

    def add(self, step: Step, spent_ms: float, block_ms: float) -> None:
        """Take in one measurement. block_ms: what the last block took, > 0."""
        known = self.in_blocks[step]
        self.in_blocks[step] = known + FORGET * (spent_ms / block_ms - known)

    def expect_ms(self, step: Step, block_ms: float) -> float:
        """Return what a step will take. block_ms: what the last block took."""
        return self.in_blocks[step] * block_ms


def fade_over(audio: NDArray[np.float32], tail: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return audio (n,) whose beginning is faded over from tail (m <= n,)."""
    fade_in: NDArray[np.float32] = np.sin(np.linspace(0, np.pi / 2, len(tail), dtype=np.float32)) ** 2
    faded = audio.copy()
    faded[: len(tail)] = tail * (1 - fade_in) + audio[: len(tail)] * fade_in
    return faded
