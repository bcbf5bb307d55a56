"""What the kernel grants the device thread, asked of the kernel."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rvcd.audio.device_supervisor import DeviceState, DeviceSupervisor
from rvcd.audio.scheduling import DEVICE_PRIORITY, Scheduling, promote, scheduling_of, try_out
from rvcd.audio.virtual import VirtualDevice, VirtualRequest
from rvcd.ipc.segment import AudioSegment
from tests.audio.conftest import RATE_HZ

UNPRIVILEGED = """
import os, resource
from rvcd.ipc.segment import AudioSegment
from rvcd.audio.scheduling import try_out
for limit in (resource.RLIMIT_RTPRIO, resource.RLIMIT_MEMLOCK, resource.RLIMIT_NICE):
    resource.setrlimit(limit, (0, 0))
if os.geteuid() == 0:
    os.setuid(65534)
grants = try_out()
print(grants.device.scheduling, grants.worker_nice, sep="; ")
print(grants.device.problem)
with AudioSegment.create(48000) as segment:
    print(segment.lock_memory())
"""
SPINNING = """
import hashlib, os, sys, threading, time
from rvcd.audio.scheduling import promote, scheduling_of
def spin():
    for _ in range(10_000):
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000)  # computes without the interpreter lock and never waits
thread = threading.Thread(target=spin, daemon=True)
thread.start()
promotion = promote(thread.native_id)
deadline_s = time.monotonic() + 60
while scheduling_of(thread.native_id).realtime and time.monotonic() < deadline_s:
    time.sleep(0.01)
print(promotion.problem or promotion.scheduling, flush=True)
print(scheduling_of(thread.native_id), flush=True)
os._exit(0)
"""


SYSTEM_ALSA = Path("/usr/share/alsa/alsa.conf")
ALSA = """
import sys, time
from rvcd.audio.device import PortAudioDevice
from rvcd.audio.portaudio_devices import DeviceRequest
from rvcd.audio.device_supervisor import DeviceSupervisor
from rvcd.ipc.segment import AudioSegment
from rvcd.errors import AudioDeviceError
with AudioSegment.create(48000) as segment:
    request = DeviceRequest(host_api="ALSA", input="nowhere", output="nowhere")
    supervisor = DeviceSupervisor(lambda: PortAudioDevice(request, segment), segment)
    supervisor.start()
    deadline_s, said = time.monotonic() + 60, []
    while time.monotonic() < deadline_s and not any("lost its" in text or "trying again" in text for text in said):
        supervisor.poll()
        said += [text for _, text in supervisor.drain_events()]
        time.sleep(0.01)
    print(*said, supervisor.scheduling, sep="\\n", flush=True)
    supervisor.stop()
"""


def lines_of(script: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, check=True, timeout=100
    )
    return done.stdout.splitlines()


def from_proc(thread_id: int) -> tuple[int, int]:
    """Return (real-time priority, policy number) as the kernel prints them."""
    fields = Path(f"/proc/self/task/{thread_id}/stat").read_text().rpartition(")")[2].split()
    return int(fields[37]), int(fields[38])


@pytest.fixture
def realtime() -> None:
    if not (try_out().device.scheduling or Scheduling("OTHER", 0, 0)).realtime:
        pytest.skip("this user may have no real-time class")


@pytest.fixture
def waiting_thread() -> Iterator[int]:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    yield thread.native_id or 0
    done.set()
    thread.join()


@pytest.fixture
def supervisor(segment: AudioSegment, request: pytest.FixtureRequest) -> Iterator[DeviceSupervisor]:
    """A supervisor over a virtual device, in real time unless the test's parameter says otherwise."""
    virtual = VirtualRequest(rate_hz=RATE_HZ, realtime=getattr(request, "param", True))
    made = DeviceSupervisor(lambda: VirtualDevice(virtual, segment), segment)
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("scheduling", "text", "is_realtime"),
    [
        (Scheduling("FIFO", 60, 0), "FIFO 60", True),
        (Scheduling("RR", 5, -3), "RR 5", True),
        (Scheduling("OTHER", 0, -11), "OTHER, nice -11", False),
        (Scheduling("DEADLINE", 0, 0), "DEADLINE", True),
    ],
)
def test_a_scheduling_says_what_matters_in_its_class(scheduling: Scheduling, text: str, is_realtime: bool) -> None:
    assert str(scheduling) == text
    assert scheduling.realtime is is_realtime


def test_a_thread_is_promoted_and_read_back_from_the_kernel(realtime: None, waiting_thread: int) -> None:
    assert scheduling_of(waiting_thread) == Scheduling("OTHER", 0, 0)
    promotion = promote(waiting_thread)
    assert promotion.problem == ""
    assert promotion.scheduling is not None
    assert from_proc(waiting_thread) == (promotion.scheduling.priority, os.SCHED_FIFO)
    assert 1 <= promotion.scheduling.priority <= DEVICE_PRIORITY
    # Whatever that thread starts is an ordinary thread again.
    assert os.sched_getscheduler(waiting_thread) & os.SCHED_RESET_ON_FORK


def test_a_thread_with_a_real_time_class_of_its_own_keeps_it(realtime: None, waiting_thread: int) -> None:
    os.sched_setscheduler(waiting_thread, os.SCHED_RR, os.sched_param(1))
    assert promote(waiting_thread).scheduling == Scheduling("RR", 1, 0)
    assert from_proc(waiting_thread) == (1, os.SCHED_RR)


def test_a_thread_that_has_ended_has_no_scheduling(wait_until) -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    task = Path(f"/proc/self/task/{thread.native_id}")
    assert wait_until(lambda: not task.exists(), 20)  # the kernel may take a moment longer than Python
    for thread_id in (thread.native_id or 0, 0, 1):  # 1 is a thread, but not ours
        assert scheduling_of(thread_id) is None
        assert promote(thread_id).scheduling is None


def test_without_the_limits_it_is_said_which_and_how_to_raise_them() -> None:
    got, realtime, memory = lines_of(UNPRIVILEGED)
    assert got == "OTHER, nice 0; 0"
    assert "the limit RTPRIO is 0" in realtime and "limits.conf" in realtime and "OTHER, nice 0" in realtime
    assert "the limit MEMLOCK is 0 kB" in memory and "limits.conf" in memory


def test_a_low_limit_is_used_in_full(realtime: None, waiting_thread: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = os.sched_setscheduler

    def limited(thread_id: int, policy: int, param: os.sched_param) -> None:
        if param.sched_priority > 1:
            raise PermissionError(1, "Operation not permitted")
        ask(thread_id, policy, param)

    monkeypatch.setattr(os, "sched_setscheduler", limited)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1, 1))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: None)
    promotion = promote(waiting_thread)
    assert (promotion.scheduling, promotion.problem) == (Scheduling("FIFO", 1, 0), "")
    assert from_proc(waiting_thread) == (1, os.SCHED_FIFO)


def test_a_thread_that_never_waits_loses_its_real_time_class_by_itself(realtime: None) -> None:
    before, after = lines_of(SPINNING)
    # On a machine of one processor nobody else comes to look before it is demoted.
    assert before.startswith("FIFO") or "lost its real-time priority" in before
    assert after == "OTHER, nice 0"


def test_portaudios_alsa_thread_is_promoted_and_one_that_goes_round_in_circles_is_demoted(realtime: None, tmp_path: Path) -> None:
    """ALSA's null device takes and gives sound at once, so that PortAudio's thread never waits."""
    if not SYSTEM_ALSA.exists():
        pytest.skip("ALSA's own configuration is not installed: apt install libasound2")
    nowhere = 'pcm.nowhere { type null hint { show on description "takes everything" } }'
    (tmp_path / "asound.conf").write_text(f"<{SYSTEM_ALSA}>\n{nowhere}\n")
    # No JACK server is to be asked or started.
    said = lines_of(ALSA, ALSA_CONFIG_PATH=str(tmp_path / "asound.conf"), JACK_NO_START_SERVER="1", JACK_DEFAULT_SERVER="none")
    if any("trying again" in text for text in said):
        pytest.skip(f"PortAudio has no ALSA here: {said}")
    assert any("lost its real-time priority (OTHER, nice 0)" in text for text in said)
    assert said[-1] == "OTHER, nice 0"


def test_the_guard_promotes_the_device_thread_and_reports_what_it_has(supervisor: DeviceSupervisor, wait_until) -> None:
    assert supervisor.scheduling is None
    granted = try_out().device
    supervisor.start()
    assert wait_until(lambda: supervisor.poll() is DeviceState.RUNNING, 20)
    assert wait_until(lambda: supervisor.poll() is DeviceState.RUNNING and supervisor.device.thread_id != 0, 20)
    supervisor.poll()
    assert supervisor.scheduling == granted.scheduling
    events = supervisor.drain_events()
    if granted.problem:
        assert ("warning", granted.problem) in events
    else:
        assert ("info", f"the device thread runs in real time: {granted.scheduling}") in events
        assert from_proc(supervisor.device.thread_id)[1] == os.SCHED_FIFO
    for _ in range(3):
        supervisor.poll()
    assert supervisor.drain_events() == []


@pytest.mark.parametrize("supervisor", [False], indirect=True)
def test_a_device_that_runs_as_fast_as_it_can_is_never_promoted(
    supervisor: DeviceSupervisor, segment: AudioSegment, wait_until
) -> None:
    segment.set_worker_ready(True)
    supervisor.start()
    assert wait_until(lambda: supervisor.poll() is DeviceState.RUNNING and supervisor.scheduling is not None, 20)
    supervisor.poll()
    assert supervisor.scheduling == Scheduling("OTHER", 0, 0)


def test_the_guard_says_when_the_thread_was_demoted(supervisor: DeviceSupervisor, realtime: None, wait_until) -> None:
    supervisor.start()
    assert wait_until(lambda: supervisor.poll() is DeviceState.RUNNING and supervisor.scheduling is not None, 20)
    supervisor.poll()
    supervisor.drain_events()
    os.sched_setscheduler(supervisor.device.thread_id, os.SCHED_OTHER, os.sched_param(0))
    supervisor.poll()
    supervisor.poll()
    ((level, text),) = supervisor.drain_events()
    assert level == "warning" and "lost its real-time priority (OTHER, nice 0)" in text
