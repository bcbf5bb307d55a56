"""Two streams over one callback: what the capture side takes, and what the output side makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rvcd.audio.two_devices import StreamEnd, chunk_s
from rvcd.ipc._native import ffi, lib
from rvcd.ipc.segment import AudioSegment

RATE_HZ, PERIOD, INPUT_OVERFLOW = 48000, 480, 2


class Pair:
    """Two sides called by hand, in the time of this machine."""

    def __init__(self) -> None:
        self.segment = AudioSegment.create(RATE_HZ)
        self.context = lib.rvcd_context_new(self.segment.hold(), 1, 2)
        lib.rvcd_context_claim(self.context)
        self.drift = lib.rvcd_drift_new(RATE_HZ, RATE_HZ, 4800)
        self.pair: Any = lib.rvcd_pair_new(self.context, 2)
        lib.rvcd_pair_set_drift(self.pair, self.drift)

    def capture(self, left: float, right: float, flags: int = 0) -> None:
        frames = np.tile(np.array([left, right], np.float32), (PERIOD, 1))
        assert lib.rvcd_pa_capture(ffi.from_buffer("float[]", frames), ffi.NULL, PERIOD, ffi.NULL, flags, self.pair) == 0

    def output(self, frames: int = PERIOD) -> np.ndarray:
        played = np.full((frames, 2), 99.0, np.float32)
        out = ffi.from_buffer("float[]", played, require_writable=True)
        assert lib.rvcd_pa_output(ffi.NULL, out, frames, ffi.NULL, 0, self.pair) == 0
        return played

    def close(self) -> None:
        lib.rvcd_pair_free(self.pair)
        lib.rvcd_drift_free(self.drift)
        lib.rvcd_context_free(self.context)
        self.segment.let_go()
        self.segment.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def test_before_the_clocks_are_known_the_output_runs_and_its_input_is_silence(pair: Pair) -> None:
    pair.capture(0.5, 0.5)
    assert not pair.output().any()
    assert pair.segment.device_position() == PERIOD
    newest = np.ones(PERIOD, np.float32)
    pair.segment.read_input(0, newest)
    assert not newest.any()


def test_a_callback_longer_than_any_buffer_is_filled_to_its_end(pair: Pair) -> None:
    assert not pair.output(20000).any()
    assert pair.segment.device_position() == 20000


def test_samples_that_are_no_number_become_silence_and_are_counted(pair: Pair) -> None:
    pair.segment.set_input_channel(2)
    pair.capture(float("nan"), float("inf"))
    pair.capture(float("nan"), 0.1)
    pair.output()
    assert pair.segment.counters().bad_input_samples == PERIOD, "only those of the chosen channel"


def test_an_overrun_of_the_capture_stream_is_counted_once(pair: Pair) -> None:
    pair.capture(0.0, 0.0, INPUT_OVERFLOW)
    pair.output()
    pair.output()
    assert pair.segment.counters().input_xruns == 1


def test_a_stream_hands_over_a_period_or_what_it_buffers_where_that_is_believable() -> None:
    end = StreamEnd(0, 1, 48000, 480, "low")
    assert chunk_s(0.05, end) == 0.05
    assert chunk_s(0.001, end) == 0.01
    assert chunk_s(90000.0, end) == 0.02
    assert chunk_s(-1.0, StreamEnd(0, 1, 48000, 4800, "low")) == 0.1
