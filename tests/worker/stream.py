"""The worker's loop on a thread, with a converter that only delays and a device that moves when the test says so.

So every sample can be accounted for, and nothing depends on how fast the machine is.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from rvcd.engine.converter import Block, EngineError
from rvcd.engine.stopwatch import Timings
from rvcd.geometry import StreamGeometry
from rvcd.ipc.segment import AudioSegment
from rvcd.params import PARAMS, Snapshot
from rvcd.worker.loop import AudioLoop
from tests.audio.conftest import HandDriven

RATE_HZ = 48000
GEOMETRY = StreamGeometry.from_ms(rate_hz=RATE_HZ, block_ms=20, lookahead_ms=40, deadline_ms=20, context_ms=160)
BLOCK = GEOMETRY.block_samples
HANG_S = 60.0
"""Only so that a test that hangs ends."""


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < deadline, "it hangs"
        time.sleep(0.001)


class NoSwitch:
    """A voice switch that has nothing to do."""

    active = False

    def cancel(self) -> None:
        pass


class SwitchOfSteps:
    """A voice switch with so many steps, each of a known cost."""

    def __init__(self, *costs_ms: float, broken: bool = False) -> None:
        self.left, self.done, self.broken, self.begun, self.cancelled = list(costs_ms), 0, broken, 0, 0

    active = True

    def begin(self, stream: object) -> None:
        self.begun += 1

    def cancel(self) -> None:
        self.cancelled += 1

    def next_step(self) -> str | None:
        return "join" if self.left else None

    def step_cost_ms(self, step: str) -> float:
        return self.left[0]

    def prepare(self) -> None:
        if self.broken:
            raise EngineError("the new voice's networks gave NaN or infinite samples")
        self.left.pop(0)
        self.done += 1


class DelayingConverter:
    """Returns the input lookahead_samples late, as a converter does; `before` may wait or raise in a given block."""

    def __init__(self, before: Callable[[int], None] = lambda number: None) -> None:
        self.geometry, self.before, self.switch = GEOMETRY, before, NoSwitch()
        self.absorbing: Callable[[], None] = lambda: None
        self.past = np.zeros(GEOMETRY.lookahead_samples, np.float32)
        self.number = self.absorbed = self.recovered = self.resets = 0
        self.seen: list[Snapshot] = []

    def _push(self, block: np.ndarray) -> np.ndarray:
        joined = np.concatenate((self.past, block))
        self.past = joined[len(block) :]
        self.number += 1
        return joined[: len(block)].copy()

    def process(self, block: np.ndarray, snapshot: Snapshot) -> Block:
        audio = self._push(block)
        self.seen.append(snapshot)
        self.before(self.number)
        return Block(audio, 100.0, True, False, Timings())

    def absorb(self, block: np.ndarray, snapshot: Snapshot) -> None:
        self._push(block)
        self.absorbed += 1
        self.absorbing()

    def recover(self) -> None:
        self.recovered += 1

    def reset(self) -> None:
        self.resets += 1
        self.past[:] = 0


class Driven:
    """A running loop and its device. said: noise that the microphone hears; heard: what the device was given."""

    def __init__(self, segment: AudioSegment, converter: DelayingConverter | None) -> None:
        self.segment, self.device = segment, HandDriven(segment)
        self.lines: list[tuple[str, str]] = []
        self.loop = AudioLoop(segment, GEOMETRY, 1, lambda level, text: self.lines.append((level, text)))
        self.loop.use(converter)  # type: ignore[arg-type]
        self.loop.accept_errands()
        self.said = (0.5 * np.random.default_rng(1).uniform(-1, 1, 400 * BLOCK)).astype(np.float32)
        self.heard = np.zeros(0, np.float32)
        self.exit_status: int | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.exit_status = self.loop.run()

    def play(self, blocks: int = 1) -> None:
        """Let the device go on, whatever the loop is doing."""
        for _ in range(blocks):
            at = len(self.heard)
            self.heard = np.concatenate((self.heard, self.device.process(self.said[at : at + BLOCK])))

    def play_along(self, blocks: int = 1) -> None:
        """Let the device go on at the pace of the loop: no block is late."""
        for _ in range(blocks):
            self.play()
            self.catch_up()

    def catch_up(self) -> None:
        """Wait until the loop has dealt with all that the device has played, and waits again; or has ended."""
        end, loop = self.segment.device_position(), self.loop
        wait_until(lambda: (loop._position + BLOCK > end and loop.idle._idle.is_set()) or not self.thread.is_alive())

    def loop_is_idle(self) -> None:
        done = threading.Event()
        self.loop.submit(done.set)
        wait_until(lambda: done.is_set() or not self.thread.is_alive())

    def account(self, first: int = 0) -> tuple[int, int]:
        """Of what was heard from `first` on: (samples equal to the input `latency` ago, exact zeros that are not)."""
        expected = np.concatenate((np.zeros(GEOMETRY.latency_samples, np.float32), self.said))[: len(self.heard)]
        same, silent = np.abs(self.heard - expected) < 1e-6, self.heard == 0
        # What is neither is a fade: never louder than the sample that belongs there.
        assert (np.abs(self.heard[~same & ~silent]) <= 0.51).all()
        return int(same[first:].sum()), int((silent & ~same)[first:].sum())


@contextlib.contextmanager
def driven(converter: DelayingConverter | None) -> Iterator[Driven]:
    with AudioSegment.create(RATE_HZ) as segment:
        segment.set_latency_samples(GEOMETRY.latency_samples)
        segment.set_expect_output(True)
        segment.publish_params([param.default for param in PARAMS])
        stream = Driven(segment, converter)
        stream.thread.start()
        wait_until(segment.worker_ready)
        try:
            yield stream
        finally:
            stream.loop.stop()
            stream.thread.join(HANG_S)
            stream.device.close()
