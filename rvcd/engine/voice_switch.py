"""Changing the voice: the new one is prepared between blocks, then one crossfade lies between two blocks' samples.

Rendering both voices in one block would take longer than a block may. So the new voice is brought to where the stream is step by
step, in time that the blocks leave, while the old one goes on; the block with the crossfade costs what any block costs.
"""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from rvcd.engine.errors import EngineError
from rvcd.engine.live_voice import LiveVoice, Phase
from rvcd.engine.pitch.history import PitchHistory
from rvcd.engine.shaper import Shaper
from rvcd.engine.timeline import Timeline
from rvcd.engine.units import UnitStreams
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
    """What is done next for the new voice."""

    UNITS = "units"
    """Some of its content units, where their encoder or kind is not the present voice's."""
    FEED = "feed"
    """Some of the past frames become latents."""
    JOIN = "join"
    """The newest frames too, then the decoder is warmed up to the sample that is made next, and the old voice's end is kept."""


@dataclass
class Change:
    """A voice on its way in. fed: frames before this number are latents of it. tail: the old voice's next samples, to fade out.

    joined_at: the number of blocks taken when it joined (None: not yet). Only the very next block can begin with it.
    """

    stream: VoiceStream
    fed: int
    tail: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    joined_at: int | None = None


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


class VoiceSwitch:
    """Changes the live voice of one converter. All calls between blocks, on the thread that converts them."""

    def __init__(self, live: LiveVoice, timeline: Timeline, units: UnitStreams, pitch: PitchHistory, shaper: Shaper) -> None:
        self._live, self._timeline, self._units, self._pitch, self._shaper = live, timeline, units, pitch, shaper
        self._change: Change | None = None
        self._costs = StepCosts()

    @property
    def active(self) -> bool:
        """Whether a voice is on its way in."""
        return self._change is not None

    def begin(self, stream: VoiceStream) -> None:
        """Change to another voice, in the place of one that is on its way in.

        Call prepare() between blocks until next_step() says that there is nothing left to do: the next block then begins with
        the crossfade. Where nothing is heard the change is immediate.
        """
        change = Change(stream, self._timeline.window_first)
        stream.restart(change.fed)
        self._change = change
        if self._live.phase is not Phase.SPEAKING:
            self.complete()

    def cancel(self) -> None:
        """Drop the voice on its way in, if there is one. The old one goes on."""
        self._change = None
        self._units.keep_only(self._live.voice)

    def next_step(self) -> Step | None:
        """Return what prepare() would do. None: no voice is on its way in, or it waits for the next block."""
        change, now = self._change, self._timeline
        if change is None or change.joined_at == now.blocks:
            return None
        if not self._units.follows(now.end, change.stream.voice):
            return Step.UNITS
        return Step.FEED if now.settled - change.fed > FEED_FRAMES else Step.JOIN

    def step_cost_ms(self, step: Step) -> float:
        """Return how long a step will probably take."""
        return self._costs.expect_ms(step, self._live.block_ms)

    @torch.inference_mode()
    def prepare(self) -> None:
        """Do the next step, if there is one. Raises EngineError when the new voice's networks give no numbers: cancel() then."""
        step, change, now = self.next_step(), self._change, self._timeline
        if step is None or change is None:
            return
        started = time.perf_counter()
        if step is Step.UNITS:
            self._units.catch_up(max(change.fed, now.window_first), now.end, change.stream.voice)
        elif step is Step.FEED:
            if change.fed < now.window_first:  # too long on its way: what it was fed last is forgotten already
                change.stream.restart(now.window_first)
                change.fed = now.window_first
            until = min(now.settled, change.fed + FEED_FRAMES)
            self._feed(change, until, until)
        else:
            self._join(change)
        if self._live.block_ms > 0:
            self._costs.add(step, 1000 * (time.perf_counter() - started), self._live.block_ms)

    def take_over(self, phase: Phase) -> NDArray[np.float32]:
        """Let the new voice begin if the block that is being made is its own, or if the phase of that block is not SPEAKING.

        Returns what is to be faded out: (FADE_MS,) samples of the old voice, or none.
        """
        change, live = self._change, self._live
        if change is not None and live.phase is phase is Phase.SPEAKING:
            if change.joined_at == self._timeline.blocks - 1:
                self._change = None
                live.go_on_as(change.stream)
                self._units.keep_only(live.voice)
                return change.tail
        else:
            self.complete()
        return np.zeros(0, np.float32)

    def complete(self) -> None:
        """Let the voice that is on its way in, if there is one, be the live one: nothing is heard that it had to fade over."""
        change, self._change = self._change, None
        if change is not None:
            self._live.become(change.stream)
            self._units.keep_only(self._live.voice)

    def _feed(self, change: Change, settled: int, end: int) -> None:
        """Turn the frames up to `end` into latents of the new voice, those before `settled` for good."""
        stream, first = change.stream, change.fed
        units = self._units.per_frame(first, self._timeline.end, stream.voice)[: end - first]
        pitch = self._pitch.frames(first, end)
        stream.feed(self._shaper.batch_at_rest(stream.voice, first, settled, units, pitch))
        change.fed = settled

    def _join(self, change: Change) -> None:
        """Bring the new voice to the very sample that is made next, and keep how the old one would have gone on."""
        stream, now = change.stream, self._timeline
        self._feed(change, now.settled, now.end)
        at, rate_hz = now.voice_end, now.geometry.rate_hz
        stream.start_decoding(at // now.geometry.hop_samples, JOIN_FRAMES)
        if not np.isfinite(stream.samples(at - 1, at)).all():
            raise EngineError("the new voice's networks gave NaN or infinite samples")
        fade_samples = min(now.geometry.block_samples, round(FADE_MS * rate_hz / 1000))
        change.tail = self._live.stream.samples(at, at + fade_samples)
        change.joined_at = now.blocks


def crossfade(tail: NDArray[np.float32], audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return audio (n,) whose beginning fades in over tail (m <= n,), which fades out."""
    fade_in: NDArray[np.float32] = np.sin(np.linspace(0, np.pi / 2, len(tail), dtype=np.float32)) ** 2
    faded = audio.copy()
    faded[: len(tail)] = tail * (1 - fade_in) + audio[: len(tail)] * fade_in
    return faded
