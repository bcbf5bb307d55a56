"""A Python thread that holds the interpreter lock must cost the callback nothing."""

from __future__ import annotations

import ctypes
import threading
import time

import numpy as np
import pytest

from rvcd.audio.ring import AudioSegment, CallbackCounters
from rvcd.audio.virtual import VirtualDevice, VirtualRequest
from tests.audio.conftest import RATE_HZ

HOLD_S = 0.25
RUN_S = 1.5


def hold_by_sleeping_inside_c() -> None:
    """PyDLL keeps the lock during the call: no other Python thread runs for HOLD_S."""
    ctypes.PyDLL(None).usleep(int(HOLD_S * 1e6))


def hold_by_computing() -> None:
    """One power of big integers is one C call that never gives the lock away."""
    started_s = time.monotonic()
    pow(3, 450_000)
    assert time.monotonic() - started_s < 10


def measure(hold) -> tuple[CallbackCounters, float]:
    """Run the clock for RUN_S with all output delivered in advance; return (its counters, the longest hold in seconds)."""
    longest_s = 0.0
    with AudioSegment.create(RATE_HZ) as segment:
        segment.write_output(0, np.full(int((RUN_S + 3) * RATE_HZ), 0.25, np.float32))
        segment.set_expect_output(True)
        device = VirtualDevice(VirtualRequest(rate_hz=RATE_HZ, period_samples=256), segment)
        device.open()
        device.start()
        end_s = time.monotonic() + RUN_S
        stop = threading.Event()

        def holder() -> None:
            nonlocal longest_s
            while not stop.is_set():
                started_s = time.monotonic()
                hold()
                longest_s = max(longest_s, time.monotonic() - started_s)

        thread = threading.Thread(target=holder)
        thread.start()
        time.sleep(max(0.0, end_s - time.monotonic()))
        counters = segment.counters()
        stop.set()
        thread.join()
        device.stop()
        device.close()
    return counters, longest_s


@pytest.mark.parametrize("hold", [hold_by_sleeping_inside_c, hold_by_computing])
def test_a_thread_holding_the_interpreter_lock_costs_the_callback_nothing(hold) -> None:
    baseline, _ = measure(lambda: time.sleep(0.01))
    held, longest_s = measure(hold)
    # A callback that needed the lock would wait for a whole hold, again and again. The machine's own stalls are allowed.
    allowed_ns = max(0.5 * HOLD_S * 1e9, 3 * baseline.gap_max_ns)
    if hold is hold_by_sleeping_inside_c:
        assert longest_s >= HOLD_S
        assert held.gap_max_ns < allowed_ns
    # Only stalls of more than 0.25 s lose samples; every period that is due is played.
    assert held.late_samples == 0
    assert held.device_position > 0.8 * RUN_S * RATE_HZ
