"""The audio loop: in-ring -> converter -> out-ring, one block at a time. It waits for nothing but its next block."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rvcd.engine.converter import Block, Converter
from rvcd.geometry import StreamGeometry
from rvcd.ipc.segment import AudioSegment, ReadStatus
from rvcd.ipc.worker_stats import WorkerStats
from rvcd.params import Snapshot
from rvcd.protocol import to_dbfs
from rvcd.worker.idle_time import IdleTime
from rvcd.worker.voice_change import VoiceChange
from rvcd.worker.waiting_time import WaitingTime
from rvcd.worker.warm_up import warm_up

IDLE_WAIT_S = 0.1
FAILURES_BEFORE_RESTART = 10
EXIT_TOO_MANY_FAILURES = 3
LOAD_HISTORY_BLOCKS = 200
USUAL_PERCENTILE = 80


@dataclass
class Errand:
    """Something that another thread wants done between two blocks. done is set when it was; error: what it raised."""

    work: Callable[[], None]
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def run(self) -> None:
        """On the loop's thread. Never raises."""
        try:
            self.work()
        except Exception as error:
            self.error = error
        finally:
            self.done.set()


class AudioLoop:
    """Owns the converter. Other threads hand it errands, which it does between blocks.

    converter: what converts, None while there is no voice. log(level, text): must not wait for anything.
    """

    def __init__(self, segment: AudioSegment, geometry: StreamGeometry, generation: int, log: Callable[[str, str], None]) -> None:
        self.segment, self.geometry, self._log = segment, geometry, log
        self.converter: Converter | None = None
        self.idle, self._waiting = IdleTime(), WaitingTime()
        self.stats = WorkerStats(generation=float(generation))
        self._loads: deque[float] = deque(maxlen=LOAD_HISTORY_BLOCKS)
        self._change: VoiceChange | None = None
        self._errands: queue.SimpleQueue[Errand] = queue.SimpleQueue()
        self._takes_errands = self._stopped = False
        self._position = 0
        self._failures_in_a_row = 0

    # ---- for other threads

    def submit(self, work: Callable[[], None]) -> Errand:
        """Have something done between two blocks; at once, on this thread, before accept_errands()."""
        errand = Errand(work)
        if self._takes_errands:
            self._errands.put(errand)
        else:
            errand.run()
        return errand

    def call(self, work: Callable[[], None]) -> None:
        """Have something done between two blocks, and wait until it is. Raises what it raises."""
        errand = self.submit(work)
        errand.done.wait()
        if errand.error is not None:
            raise errand.error

    def accept_errands(self) -> None:
        """From now on run() does what is submitted: call it before other threads are there."""
        self._takes_errands = True

    def stop(self) -> None:
        """End run() after the present block."""
        self._stopped = True

    # ---- errands, on the loop's thread

    def flush(self) -> None:
        """Forget all audio that has been heard."""
        if self.converter is not None:
            self.converter.reset()

    def use(self, converter: Converter | None) -> None:
        """Convert with this from now on."""
        self.cancel_change("another one is used")
        self.converter = converter

    def begin_change(self, change: VoiceChange) -> None:
        """Bring in another voice, while the present one goes on."""
        self.cancel_change("another one is on its way")
        assert self.converter is not None
        self._change = change
        self.converter.switch.begin(change.stream)
        if not self.converter.switch.active:
            self._end_change("")

    def cancel_change(self, reason: str) -> None:
        """Give up the voice that is on its way in, if there is one."""
        if self._change is not None:
            if self.converter is not None:
                self.converter.switch.cancel()
            self._end_change(reason)

    def resize(self, geometry: StreamGeometry, converter: Converter | None) -> None:
        """Go on with a stream of other sizes, from now on. Nothing may be heard at this moment."""
        self.use(converter)
        self.geometry = geometry
        if converter is not None:
            # Once more, on this thread: with its number of cores other code is generated, and nothing is heard meanwhile.
            warm_up(converter)
        self._loads.clear()
        self._begin()

    # ---- the loop

    def run(self) -> int:
        """Convert until stop(). Returns the process's exit status."""
        self._begin()
        self.segment.set_worker_ready(True)
        block = np.zeros(0, np.float32)
        try:
            while not self._stopped:
                while not self._errands.empty():
                    self._errands.get_nowait().run()
                if len(block) != self.geometry.block_samples:
                    block = np.zeros(self.geometry.block_samples, np.float32)
                if not self._next_block(block):
                    return EXIT_TOO_MANY_FAILURES
            return 0
        finally:
            self.idle.begin()
            self._waiting.close()
            self.segment.set_worker_ready(False)

    def _begin(self) -> None:
        """Let the first block start now."""
        self._position = self.segment.device_position()
        # Silence up to where it will be heard: counted neither as late nor as a gap.
        self.segment.write_output(self._play_at, np.zeros(0, np.float32))
        self._publish()

    @property
    def _play_at(self) -> int:
        """Where the output made from the next block belongs: behind it by the block and the deadline.

        The converter itself is delay_samples behind, which makes up the rest of latency_samples.
        """
        return self._position + self.geometry.block_samples + self.geometry.deadline_samples

    def _next_block(self, block: NDArray[np.float32]) -> bool:
        """Wait for one block of input and convert it. False: too many failures, give up."""
        self.idle.begin()
        heard = self.segment.wait_input(self._position + len(block), IDLE_WAIT_S)
        self.idle.end()
        goes_on = True
        status = self.segment.read_input(self._position, block) if heard else ReadStatus.NOT_YET
        if status is ReadStatus.OK and self.converter is not None:
            goes_on = self._convert(self.converter, block)
            self._position += len(block)
        elif status is not ReadStatus.NOT_YET:
            self._skip(len(block))
        self._publish()
        if status is ReadStatus.OK and self.converter is not None:
            self._spend_time_left(self.converter)
        return goes_on

    def _skip(self, size: int) -> None:
        """Nothing to convert with, or too far behind to catch up: go on with what is said now."""
        device = self.segment.device_position()
        if self.converter is not None:
            self.converter.reset()
            self.stats.skipped_blocks += max(1, (device - self._position) // size)
        self._position = max(self._position + size, device - size)

    def _convert(self, converter: Converter, block: NDArray[np.float32]) -> bool:
        """Convert the block at the loop's position and write it where it belongs. False: too many failures, give up."""
        geometry, stats, play_at = self.geometry, self.stats, self._play_at
        snapshot = Snapshot.from_values(self.segment.read_params())
        started = time.perf_counter()
        try:
            if self.segment.device_position() >= play_at + geometry.block_samples:
                # All of it would be dropped: keep the context, save the time, be current again sooner.
                converter.absorb(block, snapshot)
                stats.skipped_blocks += 1
                stats.late_blocks += 1
                stats.expired_samples += geometry.block_samples
                return True
            converted = converter.process(block, snapshot)
        except Exception as error:
            converter.recover()
            stats.failed_blocks += 1
            self._failures_in_a_row += 1
            self.segment.write_output(play_at, np.zeros(geometry.block_samples, np.float32))
            if self._failures_in_a_row in (1, FAILURES_BEFORE_RESTART):
                self._log("error", f"block failed ({self._failures_in_a_row} in a row): {type(error).__name__}: {error}")
            return self._failures_in_a_row < FAILURES_BEFORE_RESTART
        self._failures_in_a_row = 0
        total_ms = 1000 * (time.perf_counter() - started)
        written = self.segment.write_output(play_at, converted.audio)
        stats.expired_samples += written.expired
        stats.late_blocks += written.expired > 0
        self._account(converted, total_ms)
        stats.level_dbfs = to_dbfs(float(np.sqrt(np.mean(np.square(block)))))
        return True

    def _account(self, block: Block, total_ms: float) -> None:
        stats, spent = self.stats, block.timings
        stats.blocks += 1
        stats.load = total_ms / self.geometry.ms(self.geometry.block_samples)
        self._loads.append(stats.load)
        stats.load_p95 = float(np.percentile(self._loads, 95))
        stats.f0_hz, stats.voiced, stats.total_ms = block.f0_hz, float(block.voiced), total_ms
        stats.encode_ms, stats.pitch_ms = spent.encode_ms, spent.pitch_ms
        stats.retrieval_ms, stats.synthesis_ms = spent.retrieval_ms, spent.synthesis_ms
        stats.waited_ms = min(total_ms, self._waiting.look())

    def _publish(self) -> None:
        self.stats.heartbeat_ns = float(time.monotonic_ns())
        self.segment.publish_worker_stats(self.stats.values())

    # ---- a voice on its way in

    def _spend_time_left(self, converter: Converter) -> None:
        """Spend the time until the next block is here on the voice that is on its way in, if there is one."""
        if self._change is None:
            return
        error = self._change.go_on(converter, self._spare_ms)
        if error is not None:
            self._end_change(error)

    def _spare_ms(self) -> float:
        """Return how long the loop may be busy until the next block would be in danger."""
        geometry, device = self.geometry, self.segment.device_position()
        until_input_ms = geometry.ms(max(0, self._position + geometry.block_samples - device))
        loads = self._loads
        usual_ms = float(np.percentile(loads, USUAL_PERCENTILE)) * geometry.ms(geometry.block_samples) if loads else 0.0
        return until_input_ms + max(0.0, geometry.ms(geometry.deadline_samples) - usual_ms)

    def _end_change(self, error: str) -> None:
        change, self._change = self._change, None
        if change is not None:
            change.end(error)
