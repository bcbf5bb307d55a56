"""A Python thread that holds the interpreter lock must cost the callback nothing."""

from __future__ import annotations

import ctypes

from rvcd.audio.ring import AudioSegment
from rvcd.audio.virtual import VirtualDevice, VirtualRequest
from tests.audio.conftest import RATE_HZ
from tests.waiting import eventually

HOLD_S = 0.25
PERIOD = 256
MANY_PERIODS = 15
"""More than can slip in around a hold: to read the position, this thread gives the lock away for a moment before and after."""


def test_a_thread_that_holds_the_interpreter_lock_does_not_hold_up_the_callback() -> None:
    libc = ctypes.PyDLL(None)  # whose calls keep the lock: no Python code of any other thread runs meanwhile
    with AudioSegment.create(RATE_HZ) as segment:
        device = VirtualDevice(VirtualRequest(rate_hz=RATE_HZ, period_samples=PERIOD), segment)
        device.open()
        device.start()

        def played_during_a_hold() -> int:
            before = segment.device_position()
            libc.usleep(int(HOLD_S * 1e6))
            return segment.device_position() - before

        # On a busy machine the thread of the callback may get no time during one hold, but one that needed the lock never would.
        eventually(lambda: played_during_a_hold() >= MANY_PERIODS * PERIOD, "the callback during a hold")
        device.stop()
        device.close()
