"""The virtual device: its clock, its sources, its file."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from rvcd.audio.files import AtomicAudioWriter
from rvcd.audio.virtual import VirtualDevice, VirtualRequest
from rvcd.errors import AudioDeviceError, AudioFileError
from rvcd.ipc.segment import AudioSegment
from tests.audio.conftest import RATE_HZ, EchoWorker

soundfile = pytest.importorskip("soundfile")


def test_fast_runs_in_lockstep_with_the_worker_and_loses_nothing(tmp_path, segment: AudioSegment, wait_until) -> None:
    latency = 2400
    sound = np.random.default_rng(1).uniform(-0.9, 0.9, 10 * RATE_HZ).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", sound, RATE_HZ, subtype="FLOAT")
    segment.set_latency_samples(latency)
    request = VirtualRequest(
        input=str(tmp_path / "in.wav"), output=str(tmp_path / "out.wav"), realtime=False, period_samples=333, stall_limit_s=300
    )
    device = VirtualDevice(request, segment)
    device.open()
    device.start()
    time.sleep(0.1)
    assert segment.device_position() == 0  # it waits for the worker
    with EchoWorker(segment, block=960):
        assert wait_until(lambda: device.finished, 60)
        device.stop()
    assert device.stalls == 0
    device.close()
    played, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert len(played) == len(sound) + latency
    assert not played[:latency].any()
    np.testing.assert_array_equal(played[latency + 240 :], -0.5 * sound[240:])


def test_fast_goes_on_with_silence_when_the_worker_stays_away(tmp_path, segment: AudioSegment, wait_until) -> None:
    segment.set_worker_ready(True)
    segment.set_latency_samples(480)
    device = VirtualDevice(VirtualRequest(input="tone:440", realtime=False, stall_limit_s=0.2), segment)
    device.open()
    device.start()
    assert wait_until(lambda: device.stalls >= 1, 20)
    assert wait_until(lambda: segment.device_position() > 9600, 20)
    assert segment.take_peaks()[1] == 0.0
    device.stop()
    device.close()


def test_real_time_keeps_the_pace_of_a_card(segment: AudioSegment, wait_until) -> None:
    device = VirtualDevice(VirtualRequest(input="null", period_samples=240), segment)
    device.open()
    started_s = time.monotonic()
    device.start()
    assert wait_until(lambda: segment.device_position() >= 0.5 * RATE_HZ)
    position, passed_s = segment.device_position(), time.monotonic() - started_s
    assert position <= passed_s * RATE_HZ + 240  # never ahead of time
    assert wait_until(lambda: segment.device_position() >= 0.5 * RATE_HZ, 60)  # and it comes there, on any machine
    device.stop()
    device.close()


def test_a_tone_has_its_frequency_and_level(segment: AudioSegment, wait_until) -> None:
    device = VirtualDevice(VirtualRequest(input="tone:1000"), segment)
    device.open()
    device.start()
    assert wait_until(lambda: segment.device_position() >= 9600, 20)
    device.stop()
    device.close()
    heard = np.empty(4800, np.float32)
    segment.read_input(0, heard)
    np.testing.assert_allclose(heard, 0.25 * np.sin(2 * np.pi * 1000 * np.arange(4800) / RATE_HZ), atol=1e-6)


def test_a_looped_file_repeats_and_never_finishes(tmp_path, segment: AudioSegment, wait_until) -> None:
    sound = np.linspace(-0.5, 0.5, 1001, dtype=np.float32)
    soundfile.write(tmp_path / "in.wav", sound, RATE_HZ, subtype="FLOAT")
    device = VirtualDevice(VirtualRequest(input=str(tmp_path / "in.wav"), loop=True), segment)
    device.open()
    device.start()
    assert wait_until(lambda: segment.device_position() >= 3003, 20)
    assert not device.finished
    device.stop()
    device.close()
    heard = np.empty(3003, np.float32)
    segment.read_input(0, heard)
    np.testing.assert_array_equal(heard, np.tile(sound, 3))


def test_a_file_of_another_rate_is_resampled_and_silence_follows_it(tmp_path, segment: AudioSegment, wait_until) -> None:
    stereo = np.tile(0.5 * np.sin(2 * np.pi * 500 * np.arange(4410) / 44100), (2, 1)).T
    soundfile.write(tmp_path / "in.flac", stereo, 44100)
    device = VirtualDevice(VirtualRequest(input=str(tmp_path / "in.flac")), segment)
    device.open()
    device.start()
    assert wait_until(lambda: segment.device_position() >= 9600, 20)
    assert device.finished
    device.stop()
    device.close()
    heard = np.empty(9600, np.float32)
    segment.read_input(0, heard)
    np.testing.assert_allclose(heard[500:4300], 0.5 * np.sin(2 * np.pi * 500 * np.arange(500, 4300) / RATE_HZ), atol=2e-3)
    assert not heard[4800:].any()


@pytest.mark.parametrize("tone", ["tone:", "tone:x", "tone:0", "tone:24000", "tone:nan"])
def test_a_wrong_tone_is_refused_in_one_sentence(segment: AudioSegment, tone: str) -> None:
    with pytest.raises(AudioDeviceError, match="for example tone:440"):
        VirtualDevice(VirtualRequest(input=tone), segment).open()


def test_wrong_files_and_periods_are_refused_in_one_sentence(tmp_path, segment: AudioSegment) -> None:
    with pytest.raises(AudioFileError, match="no such file"):
        VirtualDevice(VirtualRequest(input=str(tmp_path / "none.wav")), segment).open()
    with pytest.raises(AudioFileError, match="cannot be written"):
        VirtualDevice(VirtualRequest(output=str(tmp_path / "none" / "out.wav")), segment).open()
    with pytest.raises(AudioDeviceError, match="period of 5000"):
        VirtualDevice(VirtualRequest(period_samples=5000), segment)


def test_an_unfinished_recording_leaves_no_file(tmp_path, segment: AudioSegment) -> None:
    device = VirtualDevice(VirtualRequest(input="tone:440", output=str(tmp_path / "out.wav")), segment)
    device.open()
    device.start()
    device.close()
    assert list(tmp_path.iterdir()) == []


def test_positions_go_on_when_the_device_is_opened_again(segment: AudioSegment, wait_until) -> None:
    for _ in range(2):
        before = segment.device_position()
        device = VirtualDevice(VirtualRequest(), segment)
        device.open()
        device.start()
        assert wait_until(lambda before=before: segment.device_position() > before + 480, 20)
        device.stop()
        device.close()
    assert before > 0


def test_a_segment_closed_under_a_device_stays_mapped() -> None:
    segment = AudioSegment.create(RATE_HZ)
    device = VirtualDevice(VirtualRequest(input="tone:440"), segment)
    device.open()
    device.start()
    segment.close()
    time.sleep(0.05)
    device.stop()
    device.close()


def test_what_a_slow_disk_cost_the_file_is_said_when_it_is_finished(
    tmp_path, segment: AudioSegment, wait_until, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_answers = threading.Event()

    class SlowDisk(AtomicAudioWriter):
        def write(self, samples: np.ndarray) -> None:
            disk_answers.wait(60)
            super().write(samples)

    monkeypatch.setattr("rvcd.audio.virtual.CAPTURE_SAMPLES", 8192)
    monkeypatch.setattr("rvcd.audio.virtual.AtomicAudioWriter", SlowDisk)
    device = VirtualDevice(VirtualRequest(output=str(tmp_path / "out.wav")), segment)
    device.open()
    device.start()
    assert wait_until(lambda: segment.device_position() > 3 * 8192, 60)
    disk_answers.set()
    with pytest.raises(AudioFileError, match=r"out\.wav: \d+\.\d\d s are missing: the disk was too slow"):
        device.stop()
    device.close()
    assert (tmp_path / "out.wav").exists()
