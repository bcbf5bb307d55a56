"""DeviceSupervisor over fake devices: opening, dying, hanging, coming back."""

from __future__ import annotations

import re
import threading
import time

import pytest

from rvcd.audio.device_supervisor import DeviceState, DeviceSupervisor
from rvcd.audio.virtual import VirtualDevice, VirtualRequest
from rvcd.errors import AudioDeviceError
from rvcd.ipc.segment import AudioSegment
from tests.audio.conftest import RATE_HZ


class FakeDevice(VirtualDevice):
    """A virtual device whose server can be told to fail, die or hang."""

    fail = ""
    hang: threading.Event | None = None
    abandoned = 0

    def open(self) -> None:
        if FakeDevice.hang is not None:
            FakeDevice.hang.wait()
        if FakeDevice.fail:
            raise AudioDeviceError(FakeDevice.fail)
        super().open()

    def die(self) -> None:
        super().stop()

    def abandon(self) -> None:
        FakeDevice.abandoned += 1


@pytest.fixture(autouse=True)
def _healthy_fakes():
    yield
    if FakeDevice.hang is not None:
        FakeDevice.hang.set()
    FakeDevice.fail, FakeDevice.hang, FakeDevice.abandoned = "", None, 0


def make_guard(segment: AudioSegment, **options: float) -> DeviceSupervisor:
    supervisor = DeviceSupervisor(lambda: FakeDevice(VirtualRequest(rate_hz=RATE_HZ), segment), segment, **options)
    supervisor.start()
    return supervisor


def told(supervisor: DeviceSupervisor) -> list[str]:
    """Return the levels of what was said of the device; of its priority and its memory this user's limits decide."""
    return [level for level, text in supervisor.drain_events() if not re.search("real time:|real-time|MEMLOCK", text)]


def test_a_device_is_opened_without_blocking_and_stopped_in_order(segment: AudioSegment, wait_until) -> None:
    supervisor = make_guard(segment)
    assert supervisor.state is DeviceState.OPENING
    assert wait_until(lambda: supervisor.poll() is DeviceState.RUNNING, 20)
    assert told(supervisor) == ["info"]
    assert told(supervisor) == []
    assert wait_until(lambda: segment.device_position() > 0, 20)
    assert supervisor.stop()
    position = segment.device_position()
    time.sleep(0.05)
    assert segment.device_position() == position


def test_a_device_that_stops_calling_is_lost_and_brought_back(segment: AudioSegment, wait_until) -> None:
    supervisor = make_guard(segment)
    assert wait_until(lambda: supervisor.poll() is DeviceState.RUNNING, 20)
    supervisor.device.die()
    assert wait_until(lambda: supervisor.poll() is DeviceState.LOST, 20)
    assert "stopped calling" in supervisor.reason
    assert wait_until(lambda: supervisor.poll() is DeviceState.RUNNING, 20)
    assert supervisor.reopened == 1
    assert told(supervisor) == ["info", "warning", "info"]
    assert supervisor.stop()


def test_a_device_that_cannot_be_opened_is_tried_again_and_said_once(segment: AudioSegment, wait_until) -> None:
    FakeDevice.fail = "no such microphone"
    supervisor = make_guard(segment)
    assert wait_until(lambda: supervisor.poll() is DeviceState.FAILED, 20)
    assert supervisor.reason == "no such microphone"
    end_s = time.monotonic() + 0.8
    while time.monotonic() < end_s:
        supervisor.poll()
        time.sleep(0.02)
    assert told(supervisor) == ["error"]
    FakeDevice.fail = ""
    assert wait_until(lambda: supervisor.poll() is DeviceState.RUNNING, 20)
    assert supervisor.stop()


def test_polling_never_blocks_on_a_hanging_server_and_the_hang_is_left_behind(segment: AudioSegment, wait_until) -> None:
    FakeDevice.hang = threading.Event()
    supervisor = make_guard(segment, open_limit_s=0.3)
    # The server hangs until it is let go below: a poll that waited for it would never come back.
    assert wait_until(lambda: supervisor.poll() is DeviceState.FAILED, 60)
    assert "has not answered" in supervisor.reason
    assert FakeDevice.abandoned == 1
    hanging, FakeDevice.hang = FakeDevice.hang, None
    assert wait_until(lambda: supervisor.poll() is DeviceState.RUNNING, 20)
    hanging.set()  # it wakes too late, and must not take the segment from the device that runs now
    time.sleep(0.2)
    position = segment.device_position()
    assert wait_until(lambda: segment.device_position() > position + 2400, 20)
    assert supervisor.poll() is DeviceState.RUNNING
    assert supervisor.reopened == 0
    assert supervisor.stop()


def test_stopping_a_hanging_device_gives_up_in_time(segment: AudioSegment) -> None:
    FakeDevice.hang = threading.Event()
    supervisor = make_guard(segment)
    assert not supervisor.stop(timeout_s=0.2)  # it hangs until the test is over
    assert FakeDevice.abandoned == 1
