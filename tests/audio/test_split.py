"""One device out of two streams: the delay is what is said of it, whatever queues up on either side. Time is invented here."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.ipc._native import ffi, lib
from rvcd.ipc.segment import AudioSegment

RATE_HZ = 48000
CYCLE = 1 << 18
STEP_S = 0.001
TOLERANCE_S = 0.0035
"""What _split.c tolerates, and half a sample of rounding on each side."""


class Server:
    """A sound server and a process with two threads beside it, in time that is counted in steps.

    Its microphone gives every sample its own number; so what is heard tells how old it is. A server's clock may be fast by
    drift_ppm for the microphone. out_buffer_samples: what the playback keeps queued.
    """

    def __init__(self, period: int, out_buffer_samples: int, drift_ppm: float = 0.0, backlog_s: float = 0.0) -> None:
        self.segment = AudioSegment.create(RATE_HZ)
        self.segment.set_bypass(True)
        self.context = lib.rvcd_context_new(self.segment.hold(), 1, 1)
        lib.rvcd_context_claim(self.context)
        self.split = lib.rvcd_split_new(self.context, RATE_HZ, 1, period)
        self.period, self.out_buffer = period, out_buffer_samples
        self.in_rate_hz = RATE_HZ * (1 + drift_ppm / 1e6)
        self.now_s, self.taken = 10.0, 0
        self.born_s = self.now_s - backlog_s
        self.heard_until_s = self.now_s
        self.ages: list[tuple[float, float]] = []
        """(when, how old) of what was heard."""

    def close(self) -> None:
        lib.rvcd_split_free(self.split)
        lib.rvcd_context_free(self.context)
        self.segment.let_go()
        self.segment.close()

    def run(self, seconds: float, *, capture: bool = True, playback: bool = True) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            if capture:
                self._capture()
            if playback:
                self._play()

    def _capture(self) -> None:
        while (self.now_s - self.born_s) * self.in_rate_hz - self.taken >= self.period:
            numbers = np.arange(self.taken, self.taken + self.period)
            samples = ((numbers % CYCLE) / CYCLE).astype(np.float32)
            age_s = self.now_s - (self.born_s + self.taken / self.in_rate_hz)
            lib.rvcd_split_take(self.split, ffi.from_buffer("float[]", samples), self.period, age_s, round(self.now_s * 1e9))
            self.taken += self.period

    def _play(self) -> None:
        self.heard_until_s = max(self.heard_until_s, self.now_s)  # it had run empty
        while (self.heard_until_s - self.now_s) * RATE_HZ + self.period <= self.out_buffer:
            played = np.empty(self.period, np.float32)
            delay_s = self.heard_until_s - self.now_s
            cells = ffi.from_buffer("float[]", played, require_writable=True)
            lib.rvcd_split_give(self.split, cells, self.period, delay_s, 0, round(self.now_s * 1e9))
            if played[-1] > 0:
                number = round(float(played[-1]) * CYCLE)
                newest = int((self.now_s - self.born_s) * self.in_rate_hz)
                number += (newest - number) // CYCLE * CYCLE
                heard_s = self.heard_until_s + (self.period - 1) / RATE_HZ
                self.ages.append((self.now_s, heard_s - (self.born_s + number / self.in_rate_hz)))
            self.heard_until_s += self.period / RATE_HZ

    @property
    def state(self) -> tuple[float, float]:
        """Return (latency, part of it behind the callback), seconds; 0 until it is settled."""
        state = ffi.new("rvcd_split_state *")
        lib.rvcd_split_read(self.split, state)
        return state.latency_ns / 1e9, state.out_ns / 1e9

    def ages_since(self, when_s: float) -> np.ndarray:
        return np.array([age for when, age in self.ages if when >= when_s])


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(period=256, out_buffer_samples=2048)
    yield made
    made.close()


def settled(server: Server) -> float:
    server.run(4.0)
    assert server.state[0] > 0
    return server.state[0]


def test_what_is_heard_is_as_old_as_is_said(server: Server) -> None:
    latency_s = settled(server)
    begun_s = server.now_s
    server.run(3.0)
    assert server.state[0] == latency_s
    assert np.abs(server.ages_since(begun_s) - latency_s).max() < TOLERANCE_S
    assert server.segment.counters().stale_samples == server.segment.counters().absent_samples == 0


def test_a_process_that_stood_still_leaves_no_delay_and_what_was_dropped_is_counted(server: Server) -> None:
    latency_s = settled(server)
    server.run(0.4, capture=False, playback=False)
    server.run(0.6)
    begun_s = server.now_s
    server.run(2.0)
    assert server.state[0] == latency_s
    assert np.abs(server.ages_since(begun_s) - latency_s).max() < TOLERANCE_S
    assert server.segment.counters().stale_samples == pytest.approx(0.4 * RATE_HZ, abs=0.1 * RATE_HZ)


def test_what_queued_up_before_the_start_is_no_delay() -> None:
    server = Server(period=1024, out_buffer_samples=3072, backlog_s=1.0)
    try:
        assert settled(server) < 0.150
    finally:
        server.close()


def test_a_playback_queue_that_grows_takes_from_the_microphone_s(server: Server) -> None:
    latency_s = settled(server)
    server.out_buffer += 192  # 4 ms: PulseAudio gives its clients more after an underrun
    server.run(1.5)
    begun_s = server.now_s
    server.run(1.0)
    assert np.abs(server.ages_since(begun_s) - latency_s).max() < TOLERANCE_S


def test_a_latency_that_cannot_be_held_is_settled_anew(server: Server) -> None:
    latency_s = settled(server)
    server.out_buffer += 4800
    server.run(9.0)
    assert server.state[0] > latency_s + 0.05
    begun_s, missing = server.now_s, server.segment.counters().absent_samples
    assert missing > 0
    server.run(2.0)
    assert np.abs(server.ages_since(begun_s) - server.state[0]).max() < TOLERANCE_S
    assert server.segment.counters().absent_samples == missing


@pytest.mark.parametrize("word", [math.nan, math.inf, 1e9, -1e9])
def test_of_a_server_that_says_nothing_believable_of_its_queues_our_own_is_held(server: Server, word: float) -> None:
    samples, played = np.full(256, 0.5, np.float32), np.empty(256, np.float32)
    cells = ffi.from_buffer("float[]", played, require_writable=True)
    for period in range(1000):
        now_ns = 10**9 + period * 256 * 10**9 // RATE_HZ
        lib.rvcd_split_take(server.split, ffi.from_buffer("float[]", samples), 256, word, now_ns)
        lib.rvcd_split_give(server.split, cells, 256, word, 0, now_ns)
        assert np.abs(played).max() <= 0.5
    assert (played == 0.5).all() and 0.005 < server.state[0] < 0.05 and server.state[1] == 0.0


@settings(max_examples=15, deadline=None)
@given(
    period=st.sampled_from([64, 256, 480, 1024]),
    periods=st.integers(2, 6),
    drift_ppm=st.floats(-300, 300),
    still_s=st.lists(st.floats(0.02, 1.5), max_size=3),
)
def test_whatever_happens_the_delay_comes_back_to_what_is_said(
    period: int, periods: int, drift_ppm: float, still_s: list[float]
) -> None:
    server = Server(period, period * periods, drift_ppm, backlog_s=0.3)
    try:
        server.run(9.0)
        for pause_s in still_s:
            server.run(pause_s, capture=False, playback=False)
            server.run(2.5)
        begun_s = server.now_s
        server.run(1.0)
        latency_s = server.state[0]
        assert latency_s > 0 and np.abs(server.ages_since(begun_s) - latency_s).max() < TOLERANCE_S + 300e-6
    finally:
        server.close()
