"""The segment as a thing: creating, attaching, vectors that survive a killed writer."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from rvcd.errors import AudioDeviceError
from rvcd.geometry import LIVE_MAX_BLOCK_MS, LIVE_MAX_LOOKAHEAD_MS, StreamGeometry
from rvcd.ipc._native import lib
from rvcd.ipc.segment import MAX_VALUES, AudioSegment, ReadStatus
from tests.audio.conftest import HandDriven
from tests.waiting import HANG_S

PUBLISHER = """
import sys
from rvcd.ipc.segment import AudioSegment
segment = AudioSegment.attach(int(sys.argv[1]))
vectors = [[float(n)] * 64 for n in range(1000)]
segment.set_worker_ready(True)
while True:
    for vector in vectors:
        segment.publish_params(vector)
"""


def test_another_process_sees_the_same_segment() -> None:
    script = (
        "import sys; from rvcd.ipc.segment import AudioSegment as A; s = A.attach(int(sys.argv[1]));"
        "print(s.rate_hz, s.latency_samples(), *s.read_params()); s.publish_worker_stats([4.0, 5.5])"
    )
    with AudioSegment.create(44100) as segment:
        segment.set_latency_samples(777)
        segment.publish_params([1.0, -2.5])
        assert segment.read_worker_stats() == ()
        done = subprocess.run(
            [sys.executable, "-c", script, str(segment.fd)],
            pass_fds=[segment.fd], capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert done.stdout.split() == ["44100", "777", "1.0", "-2.5"]
        assert segment.read_worker_stats() == (4.0, 5.5)


@pytest.mark.parametrize("capacity", [0, 1000, 4096, 10_000, 2**31])
def test_odd_ring_sizes_are_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match="powers of two"):
        AudioSegment.create(48000, in_capacity_samples=capacity)


def test_a_foreign_file_is_refused_in_one_sentence(tmp_path) -> None:
    (tmp_path / "other").write_bytes(b"x" * 9000)
    for content in (b"x" * 9000, b"short", b""):
        (tmp_path / "other").write_bytes(content)
        descriptor = os.open(tmp_path / "other", os.O_RDWR)
        with pytest.raises(AudioDeviceError, match=r"not an rvcd audio segment.*rvcd run"):
            AudioSegment.attach(descriptor)
        os.close(descriptor)


def test_a_segment_of_another_version_is_refused() -> None:
    with AudioSegment.create(48000) as segment:
        os.pwrite(segment.fd, (99).to_bytes(4, "little"), 8)
        with pytest.raises(AudioDeviceError, match=r"layout 99 .* restart rvcd"):
            AudioSegment.attach(os.dup(segment.fd))


def test_a_segment_with_a_wrong_size_in_its_header_is_refused() -> None:
    with AudioSegment.create(48000) as segment:
        os.pwrite(segment.fd, (2**40).to_bytes(8, "little"), 24)
        with pytest.raises(AudioDeviceError, match="disagree"):
            AudioSegment.attach(os.dup(segment.fd))


def test_a_segment_with_the_tap_elsewhere_is_refused() -> None:
    with AudioSegment.create(48000) as segment:
        offset = 4096 + 2 * 4 * 2**18  # header, in-ring, out-ring
        header = os.pread(segment.fd, 64, 0)
        at = header.index(offset.to_bytes(8, "little"))
        os.pwrite(segment.fd, (offset + 4096).to_bytes(8, "little"), at)
        with pytest.raises(AudioDeviceError, match="disagree"):
            AudioSegment.attach(os.dup(segment.fd))


@pytest.mark.parametrize("rate_hz", [8000, 44100, 48000, 96000, 192000])
def test_input_and_tap_remember_five_seconds_at_every_rate(rate_hz: int) -> None:
    with AudioSegment.create(rate_hz) as segment:
        assert segment.in_capacity_samples >= 5 * rate_hz
        # The last sample of the tap lies inside the memory, and nothing of the out-ring is under it.
        segment.write_output(0, np.full(segment.out_capacity_samples, 0.5, np.float32))
        tapped = np.full(segment.in_capacity_samples, 7.0, np.float32)
        device = HandDriven(segment)
        segment.silence_until(segment.in_capacity_samples)
        device.process(np.full(segment.in_capacity_samples, 0.5))
        assert segment.read_tap(0, tapped) is ReadStatus.OK
        assert not tapped.any()
        device.close()


@pytest.mark.parametrize("rate_hz", [8000, 44100, 48000, 88200, 96000, 176400, 192000])
def test_the_longest_stream_a_configuration_allows_loses_nothing_at_any_rate(rate_hz: int) -> None:
    """Block by block, every answer a whole latency ahead of the device, as the worker gives it."""
    geometry = StreamGeometry.from_ms(
        rate_hz=rate_hz, block_ms=LIVE_MAX_BLOCK_MS, lookahead_ms=LIVE_MAX_LOOKAHEAD_MS, deadline_ms=LIVE_MAX_BLOCK_MS,
        context_ms=2000,
    )  # fmt: skip
    latency, block = geometry.latency_samples, geometry.block_samples
    sound = np.random.default_rng(3).uniform(-0.9, 0.9, 7 * block).astype(np.float32)
    heard = np.empty(block, np.float32)
    with AudioSegment.create(rate_hz) as segment:
        segment.set_latency_samples(latency)
        segment.write_output(latency, np.empty(0, np.float32))
        segment.set_expect_output(True)
        device = HandDriven(segment)
        played = np.empty(0, np.float32)
        for start in range(0, len(sound), block):
            played = np.append(played, device.process(sound[start : start + block]))
            assert segment.read_input(start, heard) is ReadStatus.OK
            assert segment.write_output(start + latency, -0.5 * heard).written == block
        counters = segment.counters()
        assert (counters.late_samples, counters.overflow_samples, counters.gap_samples) == (0, 0, 0)
        settled = rate_hz // 100
        assert not played[:latency].any()
        np.testing.assert_array_equal(played[latency + settled :], -0.5 * sound[settled : len(sound) - latency])
        # What bypass and a recorder look for is there, for a whole block more.
        end = segment.device_position()
        assert segment.read_input(end - latency - block, heard) is ReadStatus.OK
        assert segment.read_tap(end - latency - block, heard) is ReadStatus.OK
        device.close()


@pytest.mark.parametrize("capacities", [(2**14, 2**13), (2**13, 2**14)])
def test_a_latency_that_either_ring_is_too_short_for_is_refused(capacities: tuple[int, int]) -> None:
    with AudioSegment.create(48000, in_capacity_samples=capacities[0], out_capacity_samples=capacities[1]) as segment:
        limit = min(capacities[0] - 4096, capacities[1])
        segment.set_latency_samples(limit)
        with pytest.raises(ValueError, match=f"not in 0..{limit}"):
            segment.set_latency_samples(limit + 1)


def test_two_threads_that_read_different_vectors_at_once_never_get_each_others(
    segment: AudioSegment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cffi lets the interpreter lock go while C copies: a second read may begin and end before the first is unpacked."""

    class Interrupted:
        def __init__(self) -> None:
            self.busy = False

        def __getattr__(self, name: str) -> object:
            return getattr(lib, name)

        def rvcd_snapshot(self, *arguments: object) -> int:
            count = lib.rvcd_snapshot(*arguments)
            if not self.busy:
                self.busy = True
                assert segment.read_worker_stats() == (2.0,) * 64
                self.busy = False
            return count

    segment.publish_params([1.0] * 64)
    segment.publish_worker_stats([2.0] * 64)
    monkeypatch.setattr("rvcd.ipc.segment.lib", Interrupted())
    assert segment.read_params() == (1.0,) * 64


def test_a_read_longer_than_the_ring_is_refused() -> None:
    with AudioSegment.create(48000) as segment:
        for read in (segment.read_input, segment.read_tap):
            with pytest.raises(ValueError, match="262144"):
                read(0, np.empty(2**18 + 1, np.float32))


def test_nobody_can_shrink_the_segment() -> None:
    with AudioSegment.create(48000) as segment, pytest.raises(OSError):
        os.ftruncate(segment.fd, 0)


def test_a_closed_segment_says_so_and_may_be_closed_again() -> None:
    segment = AudioSegment.create(48000)
    segment.close()
    segment.close()
    with pytest.raises(ValueError, match="closed"):
        segment.device_position()


def test_more_values_than_fit_are_refused(segment: AudioSegment) -> None:
    with pytest.raises(ValueError, match=str(MAX_VALUES)):
        segment.publish_params([0.0] * (MAX_VALUES + 1))


def sequence_offset(segment: AudioSegment) -> int:
    """Find the params' sequence number from outside: publishing the same values again changes nothing else."""
    segment.publish_params([1.0, 2.0])
    before = os.pread(segment.fd, 4096, 0)
    segment.publish_params([1.0, 2.0])
    after = os.pread(segment.fd, 4096, 0)
    changed = [i for i in range(4096) if before[i] != after[i]]
    assert len({i // 8 for i in changed}) == 1
    return changed[0] // 8 * 8


def test_a_writer_killed_half_way_leaves_the_last_whole_values_and_the_next_one_recovers(segment: AudioSegment) -> None:
    offset = sequence_offset(segment)
    assert segment.read_params() == (1.0, 2.0)
    number = int.from_bytes(os.pread(segment.fd, 8, offset), "little")
    os.pwrite(segment.fd, (number + 1).to_bytes(8, "little"), offset)  # as a killed writer leaves it
    assert segment.read_params() == (1.0, 2.0)  # and does not wait for the end of what will never be written
    with AudioSegment.attach(os.dup(segment.fd)) as newcomer:
        assert newcomer.read_params() == ()  # it never read a whole copy
        newcomer.publish_params([3.0, 4.0, 5.0])
        assert segment.read_params() == newcomer.read_params() == (3.0, 4.0, 5.0)


def test_writers_killed_at_random_never_leave_a_torn_vector(segment: AudioSegment) -> None:
    chance = random.Random(7)
    for _ in range(6):
        segment.set_worker_ready(False)
        writer = subprocess.Popen([sys.executable, "-c", PUBLISHER, str(segment.fd)], pass_fds=[segment.fd])
        deadline_s = time.monotonic() + HANG_S
        while not segment.worker_ready() and time.monotonic() < deadline_s:
            assert len(set(segment.read_params())) <= 1
        kill_at_s = time.monotonic() + chance.uniform(0.01, 0.05)
        while time.monotonic() < kill_at_s:
            assert len(set(segment.read_params())) <= 1
        writer.send_signal(signal.SIGKILL)
        writer.wait(HANG_S)
        for _ in range(20):
            values = segment.read_params()
            assert len(values) in (0, 64)
            assert len(set(values)) <= 1
    segment.publish_params([9.0])
    assert segment.read_params() == (9.0,)


def test_the_audio_modules_start_fast_and_without_numpy_or_sounddevice() -> None:
    script = (
        "import sys; import rvcd.ipc.segment, rvcd.audio.device, rvcd.audio.device_supervisor, rvcd.audio.virtual;"
        "import rvcd.audio.files;"
        "s = rvcd.ipc.segment.AudioSegment.create(48000); s.publish_params([1.0]); s.counters();"
        "print([m for m in ('numpy', 'sounddevice', 'soundfile', 'soxr', 'torch', 'logging', 'queue', 'asyncio', 'socket')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
