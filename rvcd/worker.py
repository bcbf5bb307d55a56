"""The worker process: in-ring -> converter -> out-ring, one block at a time. Holds torch and the models; may die at any time.

Started by rvcd.worker_process as `python -m rvcd.worker CHANNEL_FD`; the shared segment comes with its setup.
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
from rvcd.engine.converter import Block, Converter, EngineError
from rvcd.engine.pitch import PitchMethod
from rvcd.engine.voice_stream import Voice, VoiceStream
from rvcd.errors import ParamError, RvcdError
from rvcd.geometry import ENCODER_HOP_SAMPLES, StreamGeometry
from rvcd.loading import Loader
from rvcd.models.voice_config import SynthesizerConfig
from rvcd.pace import Pace
from rvcd.params import Snapshot
from rvcd.protocol import WORKER_STATS
from rvcd.worker_protocol import VoiceRequest, WorkerSetup, receive, receive_with_fd, send

IDLE_WAIT_S = 0.1
FAILURES_BEFORE_RESTART = 10
EXIT_TOO_MANY_FAILURES = 3
LOAD_HISTORY_BLOCKS = 200
PR_SET_PDEATHSIG = 1
NICENESS = -11
THREAD_TRIALS, PROOF_BLOCKS = 12, 3
ONE_CORE_SHARE = 0.55
USUAL_PERCENTILE = 80
PATIENCE_BLOCKS = 12
"""A voice on its way in waits at most so many blocks, in all, for moments with enough time to prepare its steps: it must not
fall behind the stream for ever on a machine that never has the time."""
MAX_SPEAKERS_TOLD = 200
HOPELESS = 1.5
"""One core that takes so many times what would be enough is not timed again."""


@dataclass(frozen=True)
class Sizes:
    """Other sizes of the stream, and a converter made for them (None: there is no voice)."""

    geometry: StreamGeometry
    converter: Converter | None


@dataclass
class VoiceChange:
    """A voice that was asked for. number: of the command to answer when it is heard. waited_blocks: for a time to prepare it."""

    number: int | None
    request: VoiceRequest
    stream: VoiceStream
    waited_blocks: int = 0


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
        self.geometry = setup.geometry
        self.loader = Loader(setup, self.geometry)
        self.method: PitchMethod | None = None
        self.converter: Converter | None = None
        self.change: VoiceChange | None = None
        self.live: tuple[Voice, VoiceRequest] | None = None
        self.resized: Sizes | None = None
        self._prepared: Sizes | None = None
        self.warmed: set[SynthesizerConfig] = set()
        self.counters = Counters()
        self.pace = Pace()
        self.actions: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.running = True
        self.failures_in_a_row = 0

    def run(self) -> int:
        """Load, warm up, convert until told to stop. Returns the process's exit status."""
        torch.set_flush_denormal(True)
        raise_priority()
        torch.set_num_threads(self.setup.threads or os.cpu_count() or 1)
        if (first := self.setup.voice) is not None:
            self._answer(None, first.name, lambda: self._use_voice(first, None))
            self._run_actions()
        if not self.setup.threads and self.converter is not None:
            torch.set_num_threads(needed_thread_count(self.converter))
        threading.Thread(target=self._listen, name="commands", daemon=True).start()
        # Start-up garbage never has to be looked at again: collections in the loop stay short.
        gc.collect()
        gc.freeze()
        position = self._begin()
        self.segment.set_worker_ready(True)
        self._event({"event": "ready"})
        try:
            return self._convert_blocks(position)
        finally:
            self.pace.open()
            self.segment.set_worker_ready(False)

    # ---- the audio loop

    def _begin(self) -> int:
        """Return where the first block starts: now."""
        position = self.segment.device_position()
        # Silence up to where it will be heard: counted neither as late nor as a gap.
        self.segment.write_output(self._play_at(position), np.zeros(0, np.float32))
        return position

    def _play_at(self, position: int) -> int:
        """Return where the output made from the block at `position` belongs: behind it by the block and the deadline.

        The converter itself is lookahead_samples behind, which makes up the rest of latency_samples.
        """
        return position + self.geometry.block_samples + self.geometry.deadline_samples

    def _convert_blocks(self, position: int) -> int:
        block = np.zeros(0, np.float32)
        while self.running:
            self._run_actions()
            size = self.geometry.block_samples
            if size != len(block):
                block = np.zeros(size, np.float32)
            if self.resized is not None:
                position = self._resize(self.resized)
                continue
            self.pace.open()
            heard = self.segment.wait_input(position + size, IDLE_WAIT_S)
            self.pace.close()
            if not heard:
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
            self._bring_in_voice(self.converter, position)
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

    def _bring_in_voice(self, converter: Converter, position: int) -> None:
        """Spend the time until the block at `position` is here on the voice that is on its way in, if there is one.

        A step that would not fit waits for a better moment, but not for ever.
        """
        change = self.change
        if change is None:
            return
        try:
            while (step := converter.next_step()) is not None:
                if converter.step_cost_ms(step) > self._spare_ms(position) and change.waited_blocks < PATIENCE_BLOCKS:
                    change.waited_blocks += 1
                    return
                converter.prepare()
        except Exception as error:
            converter.incoming = None
            self._end_change(f"{change.request.name}: {error if isinstance(error, EngineError) else repr(error)}")
        else:
            # Told now, so that parameters that belong to the voice can be there when its first block is made.
            self._end_change("")

    def _spare_ms(self, position: int) -> float:
        """Return how long the loop may be busy until the block at `position` would be in danger."""
        geometry, device = self.geometry, self.segment.device_position()
        until_input_ms = geometry.ms(max(0, position + geometry.block_samples - device))
        loads = self.counters.loads
        usual_ms = float(np.percentile(loads, USUAL_PERCENTILE)) * geometry.ms(geometry.block_samples) if loads else 0.0
        return until_input_ms + max(0.0, geometry.ms(geometry.deadline_samples) - usual_ms)

    def _begin_change(self, change: VoiceChange) -> None:
        self._end_change("superseded by a newer request")
        if self.converter is not None:
            self.change = change
            self.converter.switch(change.stream)
            if self.converter.incoming is None:
                self._end_change("")

    def _end_change(self, error: str) -> None:
        """The new voice is heard from the next block on at the latest, or will not be."""
        change, self.change = self.change, None
        if change is not None:
            if not error:
                self.live = (change.stream.voice, change.request)
                self.counters.voice_generation += 1
            self._result(change.number, change.request.name, error, change.stream.voice)

    def _resize(self, sizes: Sizes) -> int:
        """Go on with streams of other sizes; returns where the first block starts."""
        self.converter, self.resized = sizes.converter, None
        self.geometry = self.loader.geometry = sizes.geometry
        change, self.change = self.change, None
        if change is not None and self.converter is not None:  # its stream had the old sizes
            request = change.request
            stream = self.converter.new_stream(change.stream.voice, request.speaker, request.gain_db)
            self._begin_change(replace(change, stream=stream))
        self.segment.set_latency_samples(self.geometry.latency_samples)
        self.counters.loads.clear()
        return self._begin()

    # ---- commands

    def _listen(self) -> None:
        torch.set_num_threads(1)  # this thread's own number: loading must not take the cores from the voice
        while (message := receive(self.channel)) is not None:
            command, number = message["command"], message.get("id")
            if command == "voice":
                request = VoiceRequest(**message["voice"])
                self._answer(number, request.name, partial(self._use_voice, request, number))
            elif command == "f0_method":
                name = message["name"]
                self._answer(number, name, partial(self._use_f0_method, name))
            elif command == "prepare":
                self._answer(number, "latency", partial(self._prepare_sizes, WorkerSetup.from_json(message["setup"])))
            elif command == "resize":
                self.actions.put(partial(self._take_sizes, number))
            elif command == "flush":
                self.actions.put(lambda: self.converter.reset() if self.converter else None)
            elif command == "stop":
                break
        self.running = False
        # A loop stuck inside a network cannot be asked: the control process is gone or wants us gone.
        time.sleep(2.0)
        os._exit(1)

    def _answer(self, number: int | None, name: str, work: Callable[[], bool]) -> None:
        """Do slow work off the audio loop and tell how it ended; work that returns False will be told of later."""
        try:
            with self.pace.followed() if number is not None else contextlib.nullcontext():
                done = work()
            if not done:
                return
            error = ""
        except RvcdError as reason:
            error = str(reason)
        except Exception as reason:  # a defect, or memory: the running voice must survive it
            error = f"{name}: unexpected {type(reason).__name__}: {reason}"
        self._result(number, name, error, self.live[0] if self.live else None)

    def _result(self, number: int | None, name: str, error: str, voice: Voice | None) -> None:
        speakers = list(voice.spec.speaker_names)[:MAX_SPEAKERS_TOLD] if voice else []
        self._event({"event": "result", "id": number, "name": name, "error": error, "speakers": speakers})

    def _use_voice(self, request: VoiceRequest, number: int | None) -> bool:
        """Load and warm up a voice, then hand it to the loop, which goes on with the old one until the new one is ready."""
        voice = self.loader.voice(request)
        request = self._with_known_speaker(request, voice, must_exist=number is not None)
        if self.method is None:
            self.method = self.loader.pitch_method(self.setup.f0_method)
        converter = self.converter
        if converter is None or voice.spec.config not in self.warmed:
            fresh = self._fresh_converter(voice, request, self.geometry)
            self.warmed.add(voice.spec.config)
            if converter is None:
                self.live = (voice, request)
                self.actions.put(lambda: self._first_voice(fresh))
                return True
        change = VoiceChange(number, request, converter.new_stream(voice, request.speaker, request.gain_db))
        self.actions.put(lambda: self._begin_change(change))
        return False

    def _with_known_speaker(self, request: VoiceRequest, voice: Voice, *, must_exist: bool) -> VoiceRequest:
        """Return the request; with the first speaker if the voice lacks the one of an earlier run. Raises ParamError."""
        if 0 <= request.speaker < voice.spec.speakers:
            return request
        lacks = f"{request.path}: has speakers 0..{voice.spec.speakers - 1}, not {request.speaker}"
        if must_exist:
            raise ParamError(lacks)
        self._log("warning", f"{lacks}; using the first")
        return replace(request, speaker=0)

    def _fresh_converter(self, voice: Voice, request: VoiceRequest, geometry: StreamGeometry) -> Converter:
        assert self.method is not None
        snapshot = Snapshot.from_values(self.segment.read_params())
        fresh = self.loader.converter(voice, self.method, snapshot, request, geometry)
        warm_up(fresh)
        return fresh

    def _first_voice(self, converter: Converter) -> None:
        self.converter = converter
        self.counters.voice_generation += 1

    def _use_f0_method(self, name: str) -> bool:
        """Load a pitch method, then hand it to the loop."""
        method = self.loader.pitch_method(name)
        method.estimate(np.zeros(method.context_frames * ENCODER_HOP_SAMPLES, np.float32))
        self.method = method
        self.actions.put(lambda: self.converter.use_pitch(method) if self.converter else None)
        return True

    def _prepare_sizes(self, setup: WorkerSetup) -> bool:
        """Make and warm up a converter of other sizes for the same voice; "resize" puts it to use."""
        geometry = setup.geometry
        self._prepared = Sizes(geometry, self._fresh_converter(*self.live, geometry) if self.live else None)
        return True

    def _take_sizes(self, number: int | None) -> None:
        """Let the loop go on with what was prepared, now that nothing is heard."""
        self.resized, self._prepared = self._prepared, None
        if self.resized is not None and self.resized.converter is not None:
            # Once more, on this thread: with its number of cores other code is generated, and nothing is heard meanwhile.
            warm_up(self.resized.converter)
        self._result(number, "latency", "" if self.resized is not None else "no sizes were prepared", None)

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


def needed_thread_count(converter: Converter) -> int:
    """Measure whether one core is enough for this voice; all of them otherwise.

    Threads wait for each other, and most on a machine that others use too: there two threads took three times as long as one
    for a small voice. A few blocks in time are proof, because others' work only ever adds to a block's.
    """
    cores = os.cpu_count() or 1
    silence_off = replace(converter.applied, gate=-90.0)
    geometry = converter.geometry
    noise = (0.1 * np.random.default_rng(1).standard_normal(geometry.block_samples)).astype(np.float32)
    enough_ms = ONE_CORE_SHARE * geometry.ms(geometry.block_samples)
    spent_ms: list[float] = []
    torch.set_num_threads(1)
    while len(spent_ms) < THREAD_TRIALS and sum(spent <= enough_ms for spent in spent_ms) < PROOF_BLOCKS:
        if len(spent_ms) == 2 and min(spent_ms) > HOPELESS * enough_ms:
            break  # a large voice: its start is not held up by measuring what is plain
        spent_ms.append(converter.process(noise, silence_off).timings.total_ms)
    converter.reset()
    return 1 if sum(spent <= enough_ms for spent in spent_ms) >= PROOF_BLOCKS else cores


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
    die_with_parent()
    # Ctrl-C and systemd reach the whole group; the control process says when to stop.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    channel = socket.socket(fileno=int(sys.argv[1]))
    message, segment_fd = receive_with_fd(channel)
    if message is None or segment_fd is None or message.get("command") != "setup":
        sys.exit(2)
    setup = WorkerSetup.from_json(message["setup"])
    with AudioSegment.attach(segment_fd) as segment:
        status = Worker(segment, channel, setup).run()
    sys.stdout.flush()
    os._exit(status)  # torch's threads may take seconds to wind down


if __name__ == "__main__":
    main()
