"""The rings against a model, alone and between two real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.audio.virtual import VirtualDevice, VirtualRequest
from rvcd.ipc.segment import AudioSegment, ReadStatus, WriteResult
from tests.audio.conftest import HandDriven
from tests.waiting import HANG_S, eventually

CAPACITY = 8192
LOW_RATE_HZ = 8000  # short ramps: rise and mute 40, fall 16, crossfade 80 samples
RISE, FALL, MUTE = 40, 16, 40


class OutputModel:
    """What the out-ring must do, one sample at a time, over a plain list of absolute positions."""

    def __init__(self) -> None:
        self.samples: dict[int, float] = {}
        self.written = 0
        self.position = 0
        self.late = self.expired = self.overflow = 0
        self.envelope = self.master = np.float32(0)
        self.held = np.float32(0)

    def write(self, position: int, values: np.ndarray) -> WriteResult:
        written = expired = overflow = 0
        for p in range(self.written, min(position, self.position + CAPACITY)):
            self.samples.setdefault(p, 0.0)
        stored = []
        for p, value in enumerate(values, position):
            if p >= self.position + CAPACITY:
                overflow += 1
            elif p < self.position:
                expired += 1
            else:
                self.samples[p] = float(value)
                written += 1
                stored.append(p)
        if stored:
            self.written = max(self.written, stored[-1] + 1)
        else:
            for p in [p for p in self.samples if p >= self.written]:
                del self.samples[p]  # nothing was published, so no gap either
        return WriteResult(written, expired, overflow)

    def process(self, count: int) -> list[float]:
        available = min(count, max(0, self.written - self.position))
        self.late += count - available
        fall_from = max(0, available - FALL) if available < count else count
        played = []
        for i in range(count):
            if i < available:
                self.held = np.float32(self.samples[self.position + i])
            step = -np.float32(1 / FALL) if i >= fall_from else np.float32(1 / RISE)
            self.envelope = np.float32(min(1, max(0, self.envelope + step)))
            self.master = np.float32(min(1, self.master + np.float32(1 / MUTE)))
            eased = self.master * self.master * (3 - 2 * self.master)
            played.append(float(self.held * self.envelope * eased))
        self.position += count
        return played


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(-300, 600), st.integers(0, 500)),
            st.tuples(st.just("far"), st.integers(CAPACITY - 300, CAPACITY + 300), st.integers(1, 400)),
            st.tuples(st.just("append"), st.just(0), st.integers(1, 700)),
            st.tuples(st.just("process"), st.just(0), st.integers(1, 600)),
        ),
        min_size=5,
        max_size=40,
    )
)
def test_every_played_sample_is_the_models_or_counted_silence(actions: list[tuple[str, int, int]]) -> None:
    model = OutputModel()
    values = np.random.default_rng(1).uniform(-0.9, 0.9, 200_000).astype(np.float32)
    with AudioSegment.create(LOW_RATE_HZ, in_capacity_samples=CAPACITY, out_capacity_samples=CAPACITY) as segment:
        segment.set_expect_output(True)
        device = HandDriven(segment)
        expired = overflow = 0
        for action, offset, count in actions:
            if action == "process":
                np.testing.assert_allclose(device.process(np.zeros(count)), model.process(count), atol=2e-6)
                continue
            position = model.written if action == "append" else max(0, model.position + offset)
            chunk = values[position : position + count]
            result = segment.write_output(position, chunk)
            if count == 0:
                model.written = max(model.written, position) if position >= model.position else model.written
                for p in range(model.position, model.written):
                    model.samples.setdefault(p, 0.0)
                continue
            assert result == model.write(position, chunk)
            assert result.written + result.expired + result.overflow == count
            expired += result.expired
            overflow += result.overflow
            assert segment.output_fill_samples() == max(0, model.written - model.position)
        counters = segment.counters()
        assert (counters.late_samples, counters.expired_samples, counters.overflow_samples) == (model.late, expired, overflow)
        device.close()


@settings(max_examples=60, deadline=None)
@given(
    periods=st.lists(st.integers(1, 5000), min_size=1, max_size=12),
    reads=st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, CAPACITY)), min_size=1, max_size=12),
)
def test_reading_input_or_tap_gives_the_samples_or_says_why_not(periods: list[int], reads: list[tuple[int, int]]) -> None:
    total = sum(periods)
    sound = np.random.default_rng(2).uniform(-1, 1, total).astype(np.float32)
    with AudioSegment.create(LOW_RATE_HZ, in_capacity_samples=CAPACITY, out_capacity_samples=CAPACITY) as segment:
        segment.set_latency_samples(100)
        segment.set_bypass(True)  # so that something is played
        device = HandDriven(segment)
        played, done = np.empty(0, np.float32), 0
        for period in periods:
            played = np.append(played, device.process(sound[done : done + period]))
            done += period
        assert segment.device_position() == total
        for position, count in reads:
            for read, expected in ((segment.read_input, sound), (segment.read_tap, played)):
                out = np.full(count, 7.0, np.float32)
                status = read(position, out)
                if position + count > total:
                    assert status is ReadStatus.NOT_YET
                elif position + CAPACITY < total:
                    assert status is ReadStatus.LAPPED
                else:
                    assert status is ReadStatus.OK
                    np.testing.assert_array_equal(out, expected[position : position + count])
        device.close()


READER = """
import json, sys, time
import numpy as np
from rvcd.ipc.segment import AudioSegment, ReadStatus
segment = AudioSegment.attach(int(sys.argv[1]))
capacity = segment.in_capacity_samples
read = {"in-ring": segment.read_input, "tap": segment.read_tap}[sys.argv[2]]
seen = {status.name: 0 for status in ReadStatus}
wrong = 0
block = np.empty(1500, np.float32)
segment.set_worker_ready(True)
while segment.worker_ready() and min(seen["OK"], seen["LAPPED"]) < 300:
    # On the very edge of what is about to be overwritten.
    position = max(0, segment.device_position() - capacity + seen["OK"] % 4000)
    status = read(position, block)
    seen[status.name] += 1
    if status is ReadStatus.OK:
        wrong += int((block != (np.arange(position, position + 1500) % 1000003 / 1048576).astype(np.float32)).sum())
segment.set_worker_ready(False)
print(json.dumps({**seen, "wrong": wrong}))
"""


@pytest.mark.parametrize("ring", ["in-ring", "tap"])
def test_a_reader_in_another_process_is_never_given_overwritten_samples(ring: str) -> None:
    """Every sample tells its position, so an overwritten one cannot hide; in the tap too, because bypass plays the input."""
    with AudioSegment.create(48000, in_capacity_samples=CAPACITY, out_capacity_samples=CAPACITY) as segment:
        segment.set_bypass(True)
        device = HandDriven(segment)
        position = 40_000
        device.process(np.arange(position) / 1048576)  # the bypass fades in, and what the ring holds of that is gone again
        reader = subprocess.Popen(
            [sys.executable, "-c", READER, str(segment.fd), ring], pass_fds=[segment.fd], stdout=subprocess.PIPE, text=True
        )
        eventually(segment.worker_ready)
        deadline_s = time.monotonic() + HANG_S
        while segment.worker_ready() and time.monotonic() < deadline_s:  # until the reader has seen enough
            for _ in range(20):
                device.process(np.arange(position, position + 256) % 1000003 / 1048576)
                position += 256
        segment.set_worker_ready(False)
        seen = json.loads(reader.communicate(timeout=HANG_S)[0])
        device.close()
    assert seen["wrong"] == 0
    assert seen["OK"] > 0
    assert seen["LAPPED"] > 0


ECHO = """
import sys
import numpy as np
from rvcd.ipc.segment import AudioSegment, ReadStatus
segment = AudioSegment.attach(int(sys.argv[1]))
latency, size = segment.latency_samples(), 480
block = np.empty(size, np.float32)
position = segment.device_position()
segment.write_output(position + latency, np.empty(0, np.float32))  # the silence before the first block
segment.set_worker_ready(True)
while segment.worker_ready():
    if segment.wait_input(position + size, 0.05):
        if segment.read_input(position, block) is ReadStatus.OK:
            segment.write_output(position + latency, (-0.5 * block).astype(np.float32))
        position += size
"""


@pytest.mark.parametrize("realtime", [True, False], ids=["realtime", "fast"])
def test_two_processes_pass_every_sample_on_or_count_it(tmp_path, wait_until, realtime: bool) -> None:
    latency = 4800
    sound = np.random.default_rng(3).uniform(-0.9, 0.9, 72_000).astype(np.float32)
    source, sink = tmp_path / "in.wav", tmp_path / "out.wav"
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(source, sound, 48000, subtype="FLOAT")
    with AudioSegment.create(48000) as segment:
        segment.set_latency_samples(latency)
        request = VirtualRequest(input=str(source), output=str(sink), realtime=realtime, period_samples=256, stall_limit_s=300)
        device = VirtualDevice(request, segment)
        worker = subprocess.Popen([sys.executable, "-c", ECHO, str(segment.fd)], pass_fds=[segment.fd])
        try:
            assert wait_until(segment.worker_ready, 30)
            segment.set_expect_output(True)
            device.open()
            device.start()
            assert wait_until(lambda: device.finished, 60)
            counters, stalls = segment.counters(), device.stalls
            device.stop()
        finally:
            segment.set_worker_ready(False)
            worker.wait(HANG_S)
            device.close()
    played, rate_hz = soundfile.read(sink, dtype="float32")
    expected = np.concatenate([np.zeros(latency, np.float32), -0.5 * sound])
    assert rate_hz == 48000
    assert len(played) == len(expected)
    wrong = int((np.abs(played - expected) > 1e-7).sum())
    if realtime:
        # Late samples are counted, and around each run of them the voice fades: 2 ms out, 5 ms in.
        assert wrong <= counters.late_samples + counters.late_events * (96 + 240)
    else:
        assert (wrong, counters.late_samples, counters.expired_samples, stalls) == (0, 0, 0, 0)


def test_a_write_across_a_gap_plays_silence_in_between(segment: AudioSegment) -> None:
    device = HandDriven(segment)
    segment.write_output(0, np.full(1000, 0.5, np.float32))
    segment.write_output(1500, np.full(500, 0.5, np.float32))
    played = device.process(np.zeros(1900))
    assert not played[1000:1500].any()
    np.testing.assert_array_equal(played[1500:1900], np.full(400, 0.5, np.float32))
    assert segment.counters().gap_samples == 500
    device.close()


def test_an_empty_write_fills_up_with_silence_uncounted(segment: AudioSegment) -> None:
    segment.write_output(4800, np.empty(0, np.float32))
    assert segment.output_fill_samples() == 4800
    assert segment.counters().gap_samples == 0


def test_samples_of_another_type_or_shape_are_refused(segment: AudioSegment) -> None:
    for samples in (np.zeros(4), np.zeros((4, 1), np.float32), np.zeros(8, np.float32)[::2]):
        with pytest.raises(TypeError, match="1-D float32"):
            segment.write_output(0, samples)


def test_waiting_for_input_ends_at_the_limit_or_when_it_is_there(segment: AudioSegment) -> None:
    device = HandDriven(segment)
    started_s = time.monotonic()
    assert not segment.wait_input(100, 0.05)
    assert time.monotonic() - started_s >= 0.05
    device.process(np.zeros(100))
    assert segment.wait_input(100, 0.0)
    device.close()
