"""The callback waits for no page: its memory is there before it is needed, and stays."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from rvcd.audio.device_supervisor import DeviceState, DeviceSupervisor
from rvcd.audio.virtual import VirtualDevice, VirtualRequest
from rvcd.ipc.segment import AudioSegment
from tests.audio.conftest import RATE_HZ


def locked_bytes(segment: AudioSegment) -> int:
    """Return how many bytes of the segment's mapping are locked, as the kernel counts them."""
    inode = Path(f"/proc/self/fd/{segment.fd}").stat().st_ino
    locked, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            ours = "rvcd-audio" in line and line.split()[4] == str(inode)
        elif ours and line.startswith("Locked:"):
            locked += 1024 * int(line.split()[1])
    return locked


def faults(thread_id: int) -> int:
    """Return how many page faults a thread of this process has met."""
    fields = Path(f"/proc/self/task/{thread_id}/stat").read_text().rpartition(")")[2].split()
    return int(fields[7]) + int(fields[9])


def test_the_guard_locks_the_segment_or_says_why_not(segment: AudioSegment, wait_until) -> None:
    assert locked_bytes(segment) == 0
    supervisor = DeviceSupervisor(lambda: VirtualDevice(VirtualRequest(rate_hz=RATE_HZ), segment), segment)
    supervisor.start()
    assert wait_until(lambda: supervisor.poll() is DeviceState.RUNNING, 20)
    refused = [text for level, text in supervisor.drain_events() if level == "warning" and "MEMLOCK" in text]
    assert supervisor.stop()
    assert locked_bytes(segment) == (0 if refused else segment.size_bytes)


@pytest.mark.parametrize("capture", [False, True])
def test_a_whole_round_of_the_rings_costs_no_more_page_faults_than_the_start_of_a_thread(
    tmp_path: Path, segment: AudioSegment, wait_until, capture: bool
) -> None:
    """One round touches the 768 pages of the rings and 256 of the capture. A few more are granted to the thread's own stack."""
    segment.write_output(0, np.full(segment.out_capacity_samples, 0.25, np.float32))
    segment.set_worker_ready(True)
    request = VirtualRequest(
        input="tone:440", output=str(tmp_path / "out.wav") if capture else "", realtime=False, rate_hz=RATE_HZ
    )
    device = VirtualDevice(request, segment)
    device.open()
    device.start()
    assert wait_until(lambda: segment.device_position() >= segment.out_capacity_samples, 20)
    met = faults(device.thread_id)
    device.stop()
    device.close()
    assert met < 32
