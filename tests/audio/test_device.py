"""Choosing devices from a list, and real sound through a JACK server on the dummy driver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from rvcd.audio.device import PortAudioDevice
from rvcd.audio.device_supervisor import DeviceState, DeviceSupervisor
from rvcd.audio.portaudio import check_version
from rvcd.audio.portaudio_devices import DeviceInfo, DeviceRequest, believable_ms, choose_devices, has_two_clocks, list_devices
from rvcd.errors import AudioDeviceError
from rvcd.ipc.segment import AudioSegment
from tests.audio.conftest import RATE_HZ, EchoWorker, JackServer
from tests.audio.jack_loop import JackLoop

NOISE = np.random.default_rng(4).uniform(-0.5, 0.5, 2**18)
ALSA, JACK = "ALSA", "JACK Audio Connection Kit"
DEVICES = [
    DeviceInfo(0, "HDA Intel: Analog", ALSA, 2, 2, 48000, 8.0, 8.0),
    DeviceInfo(1, "USB Microphone", ALSA, 1, 0, 48000, 8.0, 0.0),
    DeviceInfo(2, "USB Speaker", ALSA, 0, 2, 48000, 0.0, 8.0),
    DeviceInfo(3, "system", JACK, 2, 2, 48000, 5.0, 5.0),
]


def chosen(defaults: tuple[int, int] = (0, 0), **request: str) -> tuple[str, str]:
    ends = choose_devices(DEVICES, defaults, DeviceRequest(**request))
    return tuple(end.name if end else "none" for end in ends)


def test_devices_are_found_by_name_part_number_or_default() -> None:
    assert chosen(input="microphone", output="speaker") == ("USB Microphone", "USB Speaker")
    assert chosen(input="1", output="2") == ("USB Microphone", "USB Speaker")
    assert chosen() == ("HDA Intel: Analog", "HDA Intel: Analog")
    assert chosen(defaults=(3, 3), input="USB Mic") == ("USB Microphone", "HDA Intel: Analog")
    assert chosen(host_api="jack") == ("system", "system")
    assert chosen(input="system", output="") == ("system", "none")
    assert chosen(input="", output="usb") == ("none", "USB Speaker")
    assert chosen(input="microphone", output="system") == ("USB Microphone", "system")


def test_two_devices_have_two_clocks_unless_one_server_drives_both() -> None:
    analog, microphone, speaker, system = DEVICES
    other_client = replace(system, index=4, name="player")
    assert has_two_clocks(microphone, speaker) and has_two_clocks(microphone, system)
    assert not has_two_clocks(analog, analog)
    assert not has_two_clocks(system, other_client)
    assert not has_two_clocks(None, speaker) and not has_two_clocks(microphone, None)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"input": "USB Micorphone"}, r"not found: did you mean \[1\] 'USB Microphone'"),
        ({"output": "zzzzzz"}, "not found: there is .*HDA Intel"),
        ({"input": "2"}, "input device '2' was not found"),
        ({"host_api": "CoreAudio"}, "choose from ALSA, JACK"),
        ({"input": "", "output": ""}, "neither an input nor an output"),
    ],
)
def test_a_wrong_device_is_refused_in_one_sentence(request_: dict[str, str], words: str) -> None:
    with pytest.raises(AudioDeviceError, match=words) as caught:
        chosen(**request_)
    assert "\n" not in str(caught.value)


def test_a_name_that_fits_several_devices_is_refused_with_their_numbers() -> None:
    with pytest.raises(AudioDeviceError, match=r"fits \[1\].*\[0\]"):
        choose_devices([DEVICES[1], DeviceInfo(0, "USB Headset", ALSA, 1, 1, 48000, 8, 8)], (0, 0), DeviceRequest(input="usb"))


def test_without_any_device_the_virtual_one_is_suggested() -> None:
    with pytest.raises(AudioDeviceError, match="virtual device"):
        choose_devices([], (-1, -1), DeviceRequest())


@pytest.mark.parametrize("version", ["0.4.9", "0.6.0", "1.0", "unknown"])
def test_an_unknown_sounddevice_is_refused(version: str) -> None:
    with pytest.raises(AudioDeviceError, match="pip install"):
        check_version(version)


def test_a_missing_portaudio_is_said_with_the_package_to_install(tmp_path) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    script = (
        "from rvcd.audio.portaudio_devices import list_devices\n"
        "try: list_devices()\nexcept Exception as e: print(type(e).__name__, e)"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.stdout.startswith("AudioDeviceError PortAudio is not installed: run `sudo apt install libportaudio2`")


# ---- JACK ----


def portaudio_or_skip() -> None:
    try:
        list_devices()
    except AudioDeviceError as error:
        pytest.skip(str(error))


def opened(segment: AudioSegment, **request: object) -> PortAudioDevice:
    device = PortAudioDevice(DeviceRequest(host_api="JACK", **request), segment)
    device.open()
    device.start()
    return device


def test_bypass_through_jack_is_delayed_by_exactly_the_latency(jack_server: JackServer, segment: AudioSegment) -> None:
    portaudio_or_skip()
    latency = 4800
    segment.set_latency_samples(latency)
    segment.set_bypass(True)
    device = opened(segment)
    assert device.period_samples == jack_server.period_samples  # the server's, whatever was asked for
    assert "system" in device.description
    with JackLoop(jack_server.name, NOISE) as loop:
        loop.until(lambda: loop.is_delayed_by(latency).sum() >= 20, "the delay that was asked for")
        right = loop.is_delayed_by(latency)
        assert right[np.argmax(right) :].all(), "from the first period of it on, every sample came through"
        for other in (latency - loop.period, latency - 1, latency + 1, latency + loop.period):
            assert not loop.is_delayed_by(other).any()
    device.stop()
    device.close()


def test_a_worker_is_heard_through_jack_with_the_same_delay(jack_server: JackServer, segment: AudioSegment) -> None:
    portaudio_or_skip()
    latency = 9600
    segment.set_latency_samples(latency)
    device = opened(segment)
    with EchoWorker(segment, block=960), JackLoop(jack_server.name, NOISE) as loop:
        # What a busy machine brings too late is silence, and not counted here.
        loop.until(lambda: loop.is_delayed_by(latency, gain=-0.5).sum() >= 20, "the worker's sound, at the same delay")
        assert not loop.is_delayed_by(latency, gain=1.0).any()
    device.stop()
    device.close()


def test_jack_errors_say_what_would_work(jack_server: JackServer) -> None:
    portaudio_or_skip()
    with AudioSegment.create(44100) as segment:
        device = PortAudioDevice(DeviceRequest(host_api="JACK", rate_hz=44100), segment)
        with pytest.raises(AudioDeviceError, match="cannot run at 44100 Hz: use 48000 Hz"):
            device.open()
        device.close()
    with AudioSegment.create(RATE_HZ) as segment:
        device = PortAudioDevice(DeviceRequest(host_api="JACK", input="systen"), segment)
        with pytest.raises(AudioDeviceError, match=r"did you mean .*'system'"):
            device.open()
        device.close()
        device = PortAudioDevice(DeviceRequest(host_api="JACK", input_channel=3), segment)
        with pytest.raises(AudioDeviceError, match="'system' has 2"):
            device.open()
        device.close()


def test_input_and_output_alone_are_opened_too(jack_server: JackServer, segment: AudioSegment, wait_until) -> None:
    portaudio_or_skip()
    for request in ({"output": ""}, {"input": ""}):
        before = segment.device_position()
        device = opened(segment, **request)
        assert wait_until(lambda before=before: segment.device_position() > before + 4096, 20)
        device.stop()
        device.close()


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGKILL])
def test_a_jack_server_that_dies_is_lost_and_found_again(
    jack_server: JackServer, segment: AudioSegment, wait_until, with_signal: int
) -> None:
    portaudio_or_skip()
    supervisor = DeviceSupervisor(lambda: PortAudioDevice(DeviceRequest(host_api="JACK"), segment), segment)
    supervisor.start()
    assert wait_until(lambda: supervisor.poll() is DeviceState.RUNNING, 30)
    jack_server.stop(with_signal)
    assert wait_until(lambda: supervisor.poll() is DeviceState.LOST, 30)
    position = segment.device_position()
    jack_server.start()
    assert wait_until(lambda: supervisor.poll() is DeviceState.RUNNING, 40)
    assert supervisor.reopened == 1
    assert wait_until(lambda: segment.device_position() > position + 4096, 20)
    ports = subprocess.run(["jack_lsp", "-s", jack_server.name], capture_output=True, text=True, check=True, timeout=20).stdout
    assert "rvcd:in_0" in ports
    assert supervisor.stop()


def test_a_server_that_died_unnoticed_does_not_hold_up_the_end(
    jack_server: JackServer, segment: AudioSegment, wait_until
) -> None:
    portaudio_or_skip()
    supervisor = DeviceSupervisor(lambda: PortAudioDevice(DeviceRequest(host_api="JACK"), segment), segment)
    supervisor.start()
    assert wait_until(lambda: supervisor.poll() is DeviceState.RUNNING, 30)
    jack_server.stop(signal.SIGKILL)
    supervisor.stop()  # comes back


@pytest.mark.parametrize(
    ("reported_s", "expected_ms"), [(0.0, 0.0), (0.0053, 5.3), (178957.1, 5.0), (-1.0, 5.0), (float("nan"), 5.0)]
)
def test_an_absurd_latency_counts_as_one_period(reported_s, expected_ms):
    assert believable_ms(reported_s, 0.005) == pytest.approx(expected_ms)
