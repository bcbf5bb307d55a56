"""The worker process: in-ring -> converter -> out-ring, one block at a time. Holds torch and the models; may die at any time.

Started by rvcd.supervisor as `python -m rvcd.worker SEGMENT_FD CHANNEL_FD`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from rvcd.audio.ring import AudioSegment, ReadStatus
from rvcd.engine.converter import Block, Converter
from rvcd.engine.pitch import PitchMethod
from rvcd.engine.voice_stream import Voice
from rvcd.errors import RvcdError
from rvcd.geometry import ENCODER_HOP_SAMPLES, StreamGeometry
from rvcd.loading import Loader
from rvcd.params import Snapshot
from rvcd.protocol import WORKER_STATS
from rvcd.worker_protocol import VoiceRequest, WorkerSetup, receive, send

IDLE_WAIT_S = 0.1
FAILURES_BEFORE_RESTART = 10
EXIT_TOO_MANY_FAILURES = 3
LOAD_HISTORY_BLOCKS = 200
PR_SET_PDEATHSIG = 1
NICENESS = -11
THREAD_TRIALS = 7
ONE_CORE_SHARE = 0.6
HOPELESS = 1.5
"""One core that takes so many times what would be enough is not timed again."""


@dataclass
class Counters:
    """The worker's telemetry, in the order and with the names of protocol.WORKER_STATS."""

    blocks: int = 0
    late_blocks: int = 0
    expired_samples: int = 0
    failed_blocks: int = 0
    skipped_blocks: int = 0
    load: float = 0.0
    load_p95: float = 0.0
    f0_hz: float = 0.0
    voiced: float = 0.0
    encode_ms: float = 0.0
    pitch_ms: float = 0.0
    retrieval_ms: float = 0.0
    synthesis_ms: float = 0.0
    total_ms: float = 0.0
    voice_generation: int = 0
    heartbeat_ns: int = 0
    loads: deque[float] = field(default_factory=lambda: deque(maxlen=LOAD_HISTORY_BLOCKS))

    def add(self, block: Block, total_ms: float, block_ms: float) -> None:
        """Account for one converted block."""
        self.blocks += 1
        self.load = total_ms / block_ms
        self.loads.append(self.load)
        self.load_p95 = float(np.percentile(self.loads, 95))
        self.f0_hz, self.voiced, self.total_ms = block.f0_hz, float(block.voiced), total_ms
        spent = block.timings
        self.encode_ms, self.pitch_ms = spent.encode_ms, spent.pitch_ms
        self.retrieval_ms, self.synthesis_ms = spent.retrieval_ms, spent.synthesis_ms

    def publish(self, segment: AudioSegment) -> None:
        self.heartbeat_ns = time.monotonic_ns()
        segment.publish_worker_stats([float(getattr(self, name)) for name in WORKER_STATS])


class Worker:
    """Owns the converter and the loop. Commands arrive on a thread of their own and act between blocks."""

    def __init__(self, segment: AudioSegment, channel: socket.socket, setup: WorkerSetup) -> None:
        self.segment, self.channel, self.setup = segment, channel, setup
        self.geometry = StreamGeometry(
            setup.rate_hz, setup.block_frames, setup.lookahead_frames, setup.context_frames, setup.deadline_samples
        )
        self.loader = Loader(setup, self.geometry)
        self.method: PitchMethod | None = None
        self.converter: Converter | None = None
        self.counters = Counters()
        self.actions: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.running = True
        self.failures_in_a_row = 0

    def run(self) -> int:
        """Load, warm up, convert until told to stop. Returns the process's exit status."""
        torch.set_flush_denormal(True)
        raise_priority()
        torch.set_num_threads(self.setup.threads or os.cpu_count() or 1)
        if (first := self.setup.voice) is not None:
            self._answer(None, first.name, lambda: self._use_voice(first))
            self._run_actions()
        if not self.setup.threads and self.converter is not None:
            torch.set_num_threads(fastest_thread_count(self.converter))
        threading.Thread(target=self._listen, name="commands", daemon=True).start()
        # Start-up garbage never has to be looked at again: collections in the loop stay short.
        gc.collect()
        gc.freeze()
        position = self.segment.device_position()
        # Silence up to where the first block will be heard: counted neither as late nor as a gap.
        self.segment.write_output(self._play_at(position), np.zeros(0, np.float32))
        self.segment.set_worker_ready(True)
        self._event({"event": "ready"})
        try:
            return self._convert_blocks(position)
        finally:
            self.segment.set_worker_ready(False)

    # ---- the audio loop

    def _play_at(self, position: int) -> int:
        """Return where the output made from the block at `position` belongs: behind it by the block and the deadline.

        The converter itself is lookahead_samples behind, which makes up the rest of latency_samples.
        """
        return position + self.geometry.block_samples + self.geometry.deadline_samples

    def _convert_blocks(self, position: int) -> int:
        size = self.geometry.block_samples
        block = np.zeros(size, np.float32)
        while self.running:
            self._run_actions()
            if not self.segment.wait_input(position + size, IDLE_WAIT_S):
                self.counters.publish(self.segment)
                continue
            status = self.segment.read_input(position, block)
            if status is ReadStatus.NOT_YET:
                continue
            if status is ReadStatus.LAPPED or self.converter is None:
                # Nothing to convert, or too far behind to catch up: go on with what is said now.
                if self.converter is not None:
                    self.converter.reset()
                    self.counters.skipped_blocks += max(1, (self.segment.device_position() - position) // size)
                position = max(position + size, self.segment.device_position() - size)
                self.counters.publish(self.segment)
                continue
            if not self._one_block(self.converter, block, position):
                return EXIT_TOO_MANY_FAILURES
            position += size
            self.counters.publish(self.segment)
        return 0

    def _one_block(self, converter: Converter, block: NDArray[np.float32], position: int) -> bool:
        """Convert the block at `position` of the input. False: too many failures, give up."""
        geometry, counters = self.geometry, self.counters
        snapshot = Snapshot.from_values(self.segment.read_params())
        play_at = self._play_at(position)
        started = time.perf_counter()
        try:
            if self.segment.device_position() >= play_at + geometry.block_samples:
                # All of it would be dropped: keep the context, save the time, be current again sooner.
                converter.absorb(block, snapshot)
                counters.skipped_blocks += 1
                counters.late_blocks += 1
                counters.expired_samples += geometry.block_samples
                return True
            converted = converter.process(block, snapshot)
        except Exception as error:
            converter.recover()
            counters.failed_blocks += 1
            self.failures_in_a_row += 1
            self.segment.write_output(play_at, np.zeros(geometry.block_samples, np.float32))
            if self.failures_in_a_row in (1, FAILURES_BEFORE_RESTART):
                self._log("error", f"block failed ({self.failures_in_a_row} in a row): {type(error).__name__}: {error}")
            return self.failures_in_a_row < FAILURES_BEFORE_RESTART
        self.failures_in_a_row = 0
        total_ms = 1000 * (time.perf_counter() - started)
        written = self.segment.write_output(play_at, converted.audio)
        counters.add(converted, total_ms, geometry.ms(geometry.block_samples))
        counters.expired_samples += written.expired
        counters.late_blocks += written.expired > 0
        return True

    # ---- commands

    def _listen(self) -> None:
        torch.set_num_threads(1)  # this thread's own number: loading must not take the cores from the voice
        while (message := receive(self.channel)) is not None:
            command, number = message["command"], message.get("id")
            if command == "voice":
                request = VoiceRequest(**message["voice"])
                self._answer(number, request.name, partial(self._use_voice, request))
            elif command == "f0_method":
                name = message["name"]
                self._answer(number, name, partial(self._use_f0_method, name))
            elif command == "flush":
                self.actions.put(lambda: self.converter.reset() if self.converter else None)
            elif command == "stop":
                break
        self.running = False
        # A loop stuck inside a network cannot be asked: the control process is gone or wants us gone.
        time.sleep(2.0)
        os._exit(1)

    def _answer(self, number: int | None, name: str, work: Callable[[], None]) -> None:
        """Do slow work off the audio loop and tell how it ended."""
        try:
            work()
            error = ""
        except RvcdError as reason:
            error = str(reason)
        except Exception as reason:  # a defect, or memory: the running voice must survive it
            error = f"{name}: unexpected {type(reason).__name__}: {reason}"
        self._event({"event": "result", "id": number, "name": name, "error": error})

    def _use_voice(self, request: VoiceRequest) -> None:
        """Load and warm up a voice, then hand it to the loop, which goes on with the old one until then."""
        voice = self.loader.voice(request)
        if self.method is None:
            self.method = self.loader.pitch_method(self.setup.f0_method)
        fresh = self.loader.converter(voice, self.method, Snapshot.from_values(self.segment.read_params()))
        warm_up(fresh)
        self.actions.put(lambda: self._switch(fresh, voice))

    def _switch(self, fresh: Converter, voice: Voice) -> None:
        if self.converter is None:
            self.converter = fresh
        else:
            self.converter.switch(voice)
        self.counters.voice_generation += 1

    def _use_f0_method(self, name: str) -> None:
        """Load a pitch method, then hand it to the loop."""
        method = self.loader.pitch_method(name)
        method.estimate(np.zeros(method.context_frames * ENCODER_HOP_SAMPLES, np.float32))
        self.method = method
        self.actions.put(lambda: self.converter.use_pitch(method) if self.converter else None)

    def _run_actions(self) -> None:
        while not self.actions.empty():
            self.actions.get_nowait()()

    def _event(self, message: dict[str, object]) -> None:
        try:
            send(self.channel, message)
        except OSError:
            self.running = False

    def _log(self, level: str, text: str) -> None:
        self._event({"event": "log", "level": level, "text": text})


def warm_up(converter: Converter) -> None:
    """Run noise through the converter until every path has run, then forget it."""
    random = np.random.default_rng(0)
    geometry = converter.geometry
    blocks = 3 + -(-geometry.lookahead_samples // geometry.block_samples)
    for _ in range(blocks):
        noise = (0.1 * random.standard_normal(geometry.block_samples)).astype(np.float32)
        converter.process(noise, converter.applied)
    converter.reset()


def fastest_thread_count(converter: Converter) -> int:
    """Measure whether this voice runs on one core: small networks lose more in waiting for each other than they gain.

    All cores are taken unless one is faster and fast enough: measured beside other work, a large voice must not end up on one.
    """
    counts = sorted({1, os.cpu_count() or 1})
    spent_ms: dict[int, list[float]] = {count: [] for count in counts}
    silence_off = replace(converter.applied, gate=-90.0)
    noise = (0.1 * np.random.default_rng(1).standard_normal(converter.geometry.block_samples)).astype(np.float32)
    geometry = converter.geometry
    enough_ms = ONE_CORE_SHARE * geometry.ms(geometry.block_samples)
    for _ in range(THREAD_TRIALS):
        if spent_ms[1] and spent_ms[1][-1] > HOPELESS * enough_ms:
            break  # a large voice: its start is not held up by measuring what is plain
        for count in counts:
            torch.set_num_threads(count)
            spent_ms[count].append(converter.process(noise, silence_off).timings.total_ms)
    converter.reset()
    medians_ms = {count: float(np.median(spent_ms[count])) for count in counts}
    most = counts[-1]
    return 1 if medians_ms[1] <= min(medians_ms[most], enough_ms) else most


def raise_priority() -> None:
    """Go before a game and a browser for the processor, where the system allows it (LimitNICE= in the unit).

    Never a real-time class: torch's threads would starve everything else.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)


def die_with_parent() -> None:
    """Ask the kernel to end this process when the control process ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main() -> None:
    segment_fd, channel_fd = int(sys.argv[1]), int(sys.argv[2])
    die_with_parent()
    # Ctrl-C and systemd reach the whole group; the control process says when to stop.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    channel = socket.socket(fileno=channel_fd)
    message = receive(channel)
    if message is None or message.get("command") != "setup":
        sys.exit(2)
    setup = WorkerSetup.from_json(message["setup"])
    with AudioSegment.attach(segment_fd) as segment:
        status = Worker(segment, channel, setup).run()
    sys.stdout.flush()
    os._exit(status)  # torch's threads may take seconds to wind down


if __name__ == "__main__":
    main()
