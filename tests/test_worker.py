"""The worker's loop over a real segment and clock, with a converter that only delays: every sample can be accounted for."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from rvcd.audio.ring import AudioSegment
from rvcd.audio.virtual import VirtualDevice, VirtualRequest
from rvcd.engine.converter import Block
from rvcd.engine.stopwatch import Timings
from rvcd.geometry import StreamGeometry
from rvcd.params import PARAMS, Snapshot
from rvcd.protocol import WORKER_STATS
from rvcd.worker import EXIT_TOO_MANY_FAILURES, Worker, needed_thread_count
from rvcd.worker_protocol import WorkerSetup, receive

RATE_HZ = 48000
GEOMETRY = StreamGeometry.from_ms(rate_hz=RATE_HZ, block_ms=20, lookahead_ms=40, deadline_ms=20, context_ms=160)
SETUP = WorkerSetup(
    rate_hz=RATE_HZ, block_frames=2, lookahead_frames=4, context_frames=10, deadline_samples=960, encoder="", voice=None,
    f0_method="yin",
)  # fmt: skip


class DelayingConverter:
    """Returns the input lookahead_samples late, as a converter does; `before` may sleep or raise in a given block."""

    def __init__(self, before: Callable[[int], None] = lambda number: None) -> None:
        self.geometry, self.before = GEOMETRY, before
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


@contextlib.contextmanager
def working(converter: DelayingConverter, folder: Path, source: np.ndarray) -> Iterator[tuple[Worker, Callable[[], np.ndarray]]]:
    """Run the loop on a thread against a real-time virtual device; the second value ends it and returns what was heard."""
    soundfile.write(folder / "in.wav", source, RATE_HZ, subtype="FLOAT")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, AudioSegment.create(RATE_HZ) as segment:
        segment.set_latency_samples(GEOMETRY.latency_samples)
        segment.set_expect_output(True)
        segment.publish_params([p.default for p in PARAMS])
        worker = Worker(segment, theirs, SETUP)
        worker.converter = converter  # type: ignore[assignment]
        worker.listening = ours  # type: ignore[attr-defined]
        results: list[int] = []
        segment.write_output(worker._play_at(0), np.zeros(0, np.float32))
        loop = threading.Thread(target=lambda: results.append(worker._convert_blocks(0)))
        device = VirtualDevice(
            VirtualRequest(str(folder / "in.wav"), output=str(folder / "out.wav"), rate_hz=RATE_HZ, period_samples=256), segment
        )
        device.open()
        loop.start()
        device.start()

        def finish() -> np.ndarray:
            deadline = time.monotonic() + 30
            while not device.finished and time.monotonic() < deadline:
                time.sleep(0.02)
            device.stop()
            worker.running = False
            loop.join(5)
            worker.exit_status = results[0] if results else None  # type: ignore[attr-defined]
            return soundfile.read(folder / "out.wav", dtype="float32")[0]

        try:
            yield worker, finish
        finally:
            worker.running = False
            device.close()
            loop.join(5)


def noise(seconds: float) -> np.ndarray:
    return (0.5 * np.random.default_rng(1).uniform(-1, 1, round(RATE_HZ * seconds))).astype(np.float32)


def account_for(heard: np.ndarray, source: np.ndarray) -> tuple[int, int]:
    """Return (samples equal to the input `latency` ago, exact zeros); fades at the edges of silence are neither."""
    expected = np.concatenate((np.zeros(GEOMETRY.latency_samples, np.float32), source))[: len(heard)]
    expected = np.pad(expected, (0, len(heard) - len(expected)))
    same = np.abs(heard - expected) < 1e-6
    silent = heard == 0
    # What is neither is a fade: never louder than the sample that belongs there.
    assert (np.abs(heard[~same & ~silent]) <= 0.51).all()
    return int(same.sum()), int((silent & ~same).sum())


def test_output_sample_n_is_input_sample_n_minus_the_latency(tmp_path):
    source = noise(1.5)
    with working(DelayingConverter(), tmp_path, source) as (worker, finish):
        heard = finish()
    same, _ = account_for(heard, source)
    # On a stalled machine a block may be late; it may never be anywhere else.
    assert same > 0.9 * len(heard)
    assert worker.counters.failed_blocks == 0


def test_after_an_overload_the_latency_is_what_it_was_before(tmp_path):
    source = noise(3.0)

    def overload(number: int) -> None:
        if 20 <= number < 30:
            time.sleep(0.1)  # five times as long as a block

    converter = DelayingConverter(overload)
    with working(converter, tmp_path, source) as (worker, finish):
        heard = finish()
    same, silent = account_for(heard, source)
    assert worker.counters.late_blocks >= 5
    assert worker.counters.expired_samples > 0 and converter.absorbed > 0
    assert silent > 0.1 * RATE_HZ
    # Speech after the overload comes at the same delay: account_for compares at that delay only.
    last_second = heard[-RATE_HZ - GEOMETRY.latency_samples : -GEOMETRY.latency_samples]
    position = len(heard) - RATE_HZ - GEOMETRY.latency_samples - GEOMETRY.latency_samples
    wanted = source[position : position + len(last_second)]
    assert np.mean(np.abs(last_second[: len(wanted)] - wanted) < 1e-6) > 0.9
    assert same > 0.4 * len(heard)


def test_a_block_that_raises_is_silent_and_counted_and_the_next_one_is_heard(tmp_path):
    source = noise(1.5)

    def fail(number: int) -> None:
        if number in (20, 21):
            raise RuntimeError("a network failed")

    converter = DelayingConverter(fail)
    with working(converter, tmp_path, source) as (worker, finish):
        log = receive(worker.listening)  # type: ignore[attr-defined]
        heard = finish()
    assert worker.counters.failed_blocks == 2 and converter.recovered == 2
    assert log is not None and "a network failed" in log["text"]
    first = 19 * 960 + 2 * 960  # block 20 is heard a block and a deadline after its start
    assert not heard[first + 300 : first + 2 * 960 - 300].any()
    assert account_for(heard, source)[0] > 0.8 * len(heard)


def test_a_late_block_that_raises_is_counted_and_the_worker_goes_on(tmp_path):
    def stall(number: int) -> None:
        if number == 20:
            time.sleep(0.2)

    def fail_once() -> None:
        if converter.absorbed == 1:
            raise RuntimeError("no context")

    converter = DelayingConverter(stall)
    converter.absorbing = fail_once
    with working(converter, tmp_path, noise(1.5)) as (worker, finish):
        finish()
    assert worker.counters.failed_blocks == 1 and converter.recovered == 1
    assert worker.exit_status == 0  # type: ignore[attr-defined]


def test_ten_failures_in_a_row_end_the_worker(tmp_path):
    def fail(number: int) -> None:
        if number > 5:
            raise RuntimeError("broken")

    with working(DelayingConverter(fail), tmp_path, noise(1.0)) as (worker, finish):
        finish()
    assert worker.exit_status == EXIT_TOO_MANY_FAILURES  # type: ignore[attr-defined]
    assert worker.counters.failed_blocks == 10


def test_parameters_reach_the_converter_with_the_next_block(tmp_path):
    converter = DelayingConverter()
    values = [p.default for p in PARAMS]
    with working(converter, tmp_path, noise(1.0)) as (worker, finish):
        worker.segment.publish_params([7.0, *values[1:]])
        finish()
    assert converter.seen[-1] == Snapshot(pitch=7.0)


def test_telemetry_is_published_in_the_protocols_order(tmp_path):
    with working(DelayingConverter(), tmp_path, noise(0.5)) as (worker, finish):
        finish()
        stats = dict(zip(WORKER_STATS, worker.segment.read_worker_stats(), strict=False))
    assert stats["blocks"] == worker.counters.blocks > 10
    assert stats["f0_hz"] == pytest.approx(100.0) and stats["voiced"] == 1.0
    assert abs(time.monotonic_ns() - stats["heartbeat_ns"]) < 60e9


class TimedConverter:
    """Claims so many milliseconds a block for each number of threads."""

    def __init__(self, on_one_ms: float, on_all_ms: float) -> None:
        self.geometry, self.applied, self.blocks = GEOMETRY, Snapshot(), 0
        self.on_one_ms, self.on_all_ms = on_one_ms, on_all_ms

    def process(self, block: np.ndarray, snapshot: Snapshot) -> Block:
        self.blocks += 1
        spent_ms = self.on_one_ms if torch.get_num_threads() == 1 else self.on_all_ms
        return Block(np.zeros_like(block), 0.0, False, False, Timings(total_ms=spent_ms))

    def reset(self) -> None:
        pass


@pytest.mark.parametrize(("on_one_ms", "on_all_ms", "cores"), [(3.0, 4.0, 1), (30.0, 20.0, 4), (13.0, 14.0, 4), (8.0, 5.0, 1)])
def test_one_core_is_taken_where_it_is_enough_even_if_more_are_faster(on_one_ms, on_all_ms, cores, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    before = torch.get_num_threads()
    try:
        assert needed_thread_count(TimedConverter(on_one_ms, on_all_ms)) == cores
    finally:
        torch.set_num_threads(before)


def test_a_large_voices_start_is_not_held_up_by_timing_it_on_one_core(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    before, converter = torch.get_num_threads(), TimedConverter(100.0, 30.0)
    try:
        assert needed_thread_count(converter) == 4
    finally:
        torch.set_num_threads(before)
    assert converter.blocks == 2
