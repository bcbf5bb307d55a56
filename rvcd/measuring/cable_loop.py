"""The way through a cable from the configured output to the configured input, with rvcd's own device code and no daemon."""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rvcd.audio.device_supervisor import AudioDevice
from rvcd.ipc.segment import AudioSegment, ReadStatus
from rvcd.measuring.loop import LoopError

AHEAD_S = 0.3
MORE_S = 10.0
SETTLE_S = 5.0
"""PulseAudio's queues take so long until they stay as they are (audio/_split.c)."""


class DeviceMaker(Protocol):
    """Makes the configured device, unopened."""

    def __call__(self) -> AudioDevice: ...


class CableLoop:
    """See loop.Loop. Opens the device at once. Raises RvcdError as the device does.

    What is sent is written into the output ring and comes back in the input ring, whose positions are the same samples of
    the device: so the delay between them is the device's, both ways, and the cable's.
    """

    def __init__(self, make_device: DeviceMaker, segment: AudioSegment) -> None:
        self._segment = segment
        self.rate_hz = segment.rate_hz
        self.device = make_device()
        try:
            self.device.open()
            self.device.start()
        except BaseException:
            self.device.close()
            raise
        self.ends_ms = (0.0, 0.0)
        self.period_samples = self.device.period_samples
        self.description = f"the cable from output to input of {self.device.description}"

    def take_over(self, sound_frames: int, record_s: float) -> None:
        time.sleep(SETTLE_S)

    def send(self, sound: NDArray[np.float32], record_s: float) -> NDArray[np.float32]:
        segment = self._segment
        start = segment.device_position() + round(AHEAD_S * self.rate_hz)
        segment.write_output(start, np.ascontiguousarray(sound, np.float32))
        recorded = np.empty(round(record_s * self.rate_hz), np.float32)
        if not segment.wait_input(start + len(recorded), record_s + MORE_S):
            raise LoopError(f"{self.device.description} has stopped calling: is it connected, is its server alive?")
        if segment.read_input(start, recorded) is not ReadStatus.OK:
            raise LoopError("this machine is too busy to measure: end other programs and try again")
        return recorded

    def close(self) -> None:
        self.device.close()
