"""A Python thread that holds the interpreter lock must cost the callback nothing."""

from __future__ import annotations

import ctypes

import numpy as np

from rvcd.audio.virtual import VirtualDevice, VirtualRequest
from rvcd.ipc import _native
from rvcd.ipc._native import ffi
from rvcd.ipc.segment import AudioSegment
from tests.audio.conftest import RATE_HZ

HELD_S = 0.5
LIMIT_S = 60.0


def wait_with_the_lock_held(segment: AudioSegment, position: int) -> bool:
    """Wait inside C for the device to come to a position. PyDLL keeps the lock during the call: no Python thread runs."""
    wait = ctypes.PyDLL(_native.__file__).rvcd_wait_input
    wait.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64]
    return bool(wait(int(ffi.cast("uintptr_t", segment.hold())), position, int(LIMIT_S * 1e9)))


def test_the_callback_goes_on_for_as_long_as_another_thread_holds_the_interpreter_lock(segment: AudioSegment) -> None:
    """A callback that needed the lock even once would stand still until the wait gives up."""
    segment.write_output(0, np.full(segment.out_capacity_samples, 0.25, np.float32))
    segment.set_expect_output(True)
    device = VirtualDevice(VirtualRequest(rate_hz=RATE_HZ, period_samples=256), segment)
    device.open()
    device.start()
    try:
        for part in (1, 2):  # the first callback, too
            assert wait_with_the_lock_held(segment, int(part * HELD_S * RATE_HZ))
        assert segment.counters().late_samples == 0
    finally:
        device.stop()
        device.close()
        segment.let_go()
        segment.let_go()
