"""rvcd as a client of a JACK server, without PortAudio."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rvcd.audio.device_supervisor import DeviceState, DeviceSupervisor
from rvcd.audio.jack import JackDevice, JackRequest, remembered
from rvcd.cli.checks.device import device_findings
from rvcd.cli.checks.probes import Probes
from rvcd.config.settings import Settings
from rvcd.formats.voice_header import read_voice_spec
from rvcd.ipc.segment import AudioSegment
from tests.audio.conftest import HandDriven, JackServer, lsp, running_jack_server
from tests.audio.jack_loop import JackLoop
from tests.daemon_process import CONVERTING, running
from tests.waiting import HANG_S, eventually

LATENCY_SAMPLES = 9600
NOISE = 0.5 * np.random.default_rng(0).uniform(-1, 1, 100_000)


@pytest.fixture
def segment() -> Iterator[AudioSegment]:
    with AudioSegment.create(48000) as made:
        made.set_latency_samples(LATENCY_SAMPLES)
        made.set_bypass(True)
        yield made


@pytest.fixture
def device(segment: AudioSegment, jack_server: JackServer) -> Iterator[JackDevice]:
    made = JackDevice(JackRequest(), segment)
    made.open()
    made.start()
    yield made
    made.close()


def test_it_is_connected_to_the_hardware_and_delays_by_what_it_says(device: JackDevice, jack_server: JackServer) -> None:
    connections = lsp(jack_server, "-c")
    assert "rvcd:in\n   system:capture_1" in connections
    assert "rvcd:out_left\n   system:playback_1" in connections and "rvcd:out_right\n   system:playback_2" in connections
    with JackLoop(jack_server.name, NOISE) as loop:
        loop.until(lambda: loop.is_delayed_by(LATENCY_SAMPLES).sum() > 20)
        assert not loop.is_delayed_by(LATENCY_SAMPLES + loop.period).any()


def test_the_period_is_followed_and_the_latency_is_the_graphs(device: JackDevice, jack_server: JackServer) -> None:
    for period in (256, 2048, 64):
        subprocess.run(["jack_bufsize", "-s", jack_server.name, str(period)], check=False, capture_output=True)
        subprocess.run(["jack_bufsize", str(period)], check=False, capture_output=True)
        eventually(lambda period=period: device.period_samples == period, "the period")
        eventually(lambda period=period: abs(device.input_latency_ms - 1000 * period / 48000) < 0.01, "the latency")


def test_the_graph_is_told_the_streams_latency(device: JackDevice, segment: AudioSegment, jack_server: JackServer) -> None:
    def told() -> bool:
        total = segment.latency_samples() + 1024  # and a period of the server's
        return f"port capture latency = [ {total} {total} ]" in lsp(jack_server, "-l").split("rvcd:out_left")[1]

    eventually(told, "the latency in the graph")
    segment.set_latency_samples(2 * LATENCY_SAMPLES)
    eventually(told, "the new latency in the graph")


def test_another_rate_is_told_before_anything_sounds(jack_server: JackServer) -> None:
    rates: list[int] = []
    with AudioSegment.create(44100) as other:
        device = JackDevice(JackRequest(), other, on_rate=rates.append)
        with pytest.raises(Exception, match="runs at 48000 Hz, the stream at 44100 Hz"):
            device.open()
        device.close()
    assert rates == [48000]


@pytest.mark.parametrize(("rate_hz", "period"), [(44100, 16), (96000, 8192), (192000, 512), (88200, 100)])
def test_any_rate_and_period_of_a_server_carries_sound(rate_hz: int, period: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_jack_server(rate_hz, period) as server, AudioSegment.create(rate_hz) as segment:
        monkeypatch.setenv("JACK_DEFAULT_SERVER", server.name)
        device = JackDevice(JackRequest(input_channel=0), segment)
        device.open()
        device.start()
        try:
            position = segment.device_position()
            eventually(lambda: segment.device_position() > position + 4 * period)
            assert device.period_samples == period
        finally:
            device.close()


def latency_ms(supervisor: DeviceSupervisor) -> float:
    return supervisor.device.input_latency_ms if supervisor.device is not None else 0.0


def resources() -> tuple[int, int, int]:
    maps = Path("/proc/self/maps").read_text()
    return len(os.listdir("/proc/self/fd")), threading.active_count(), maps.count("libjack")


@pytest.mark.soak
def test_ten_deaths_of_the_server_leave_nothing_behind(segment: AudioSegment, jack_server: JackServer) -> None:
    supervisor = DeviceSupervisor(lambda: JackDevice(JackRequest(), segment), segment)
    supervisor.start()
    eventually(lambda: supervisor.poll() is DeviceState.RUNNING)
    found = []
    for _ in range(10):
        jack_server.stop(signal.SIGKILL)
        eventually(lambda: supervisor.poll() is DeviceState.LOST)
        jack_server.start()
        eventually(lambda: supervisor.poll() is DeviceState.RUNNING)
        eventually(lambda: latency_ms(supervisor) > 0)
        found.append((*resources(), latency_ms(supervisor)))
    assert supervisor.stop()
    assert found[-1] == found[1]


def test_a_server_frozen_for_two_seconds_leaves_one_client(segment: AudioSegment, jack_server: JackServer) -> None:
    supervisor = DeviceSupervisor(lambda: JackDevice(JackRequest(), segment), segment)
    supervisor.start()
    eventually(lambda: supervisor.poll() is DeviceState.RUNNING)
    assert jack_server._process is not None
    jack_server._process.send_signal(signal.SIGSTOP)
    threading.Event().wait(2.0)
    supervisor.poll()
    jack_server._process.send_signal(signal.SIGCONT)
    eventually(lambda: supervisor.poll() is DeviceState.RUNNING and "system:capture_1" in lsp(jack_server, "-c"))
    position = segment.device_position()
    eventually(lambda: segment.device_position() > position + 4096)
    assert {line.split(":")[0] for line in lsp(jack_server).splitlines()} == {"system", "rvcd"}
    assert supervisor.stop()


def test_after_a_freeze_that_the_client_was_given_up_in_the_next_one_has_its_name(
    segment: AudioSegment, jack_server: JackServer
) -> None:
    first = JackDevice(JackRequest(), segment)
    first.open()
    first.start()
    assert jack_server._process is not None
    jack_server._process.send_signal(signal.SIGSTOP)
    leaving = threading.Thread(target=first.close)
    leaving.start()
    first.abandon()
    second = JackDevice(JackRequest(), segment)
    joining = threading.Thread(target=second.open)
    joining.start()
    threading.Event().wait(0.5)
    jack_server._process.send_signal(signal.SIGCONT)
    joining.join(HANG_S)
    leaving.join(HANG_S)
    try:
        assert second.description == "JACK: rvcd, 48000 Hz"
    finally:
        second.close()


def test_the_users_connections_come_back_with_the_next_start(
    segment: AudioSegment, jack_server: JackServer, tmp_path: Path
) -> None:
    def start() -> JackDevice:
        device = JackDevice(JackRequest(), segment, remembered(tmp_path / "connections.json"))
        device.open()
        device.start()
        return device

    device = start()
    subprocess.run(["jack_connect", "-s", jack_server.name, "system:capture_2", "rvcd:in"], check=True)
    eventually(lambda: (tmp_path / "connections.json").exists(), "the file")
    device.close()
    device = start()
    try:
        eventually(lambda: "rvcd:in\n   system:capture_1\n   system:capture_2" in lsp(jack_server, "-c"))
    finally:
        device.close()


def test_an_absurd_sample_is_cut_and_counted(segment: AudioSegment) -> None:
    segment.set_latency_samples(0)
    hand = HandDriven(segment)
    hand.process(np.array([1e30, -1e30, np.nan, 8.0, 0.5], np.float32))
    read = np.empty(5, np.float32)
    segment.read_input(0, read)
    hand.close()
    assert read.tolist() == [8.0, -8.0, 0.0, 8.0, 0.5]
    assert segment.counters().bad_input_samples == 3


def test_while_the_server_freewheels_nothing_sounds_and_it_is_said(
    device: JackDevice, segment: AudioSegment, jack_server: JackServer
) -> None:
    jack = pytest.importorskip("jack", reason="JACK-Client is not installed: make test", exc_type=OSError)
    client = jack.Client("renderer", servername=jack_server.name, no_start_server=True)
    try:
        client.activate()
        client.set_freewheel(True)
        eventually(lambda: "freewheeling" in device.notice)
        position = segment.device_position()
        threading.Event().wait(0.2)
        assert segment.device_position() == position
        client.set_freewheel(False)
        eventually(lambda: device.notice == "")
        eventually(lambda: segment.device_position() > position)
    finally:
        client.close()


def test_the_daemon_takes_the_servers_rate_and_publishes_the_graphs_latency(tmp_path: Path) -> None:
    with (
        running_jack_server(44100, 512) as server,
        running(tmp_path, '[audio]\nbackend = "jack"\n', {"JACK_DEFAULT_SERVER": server.name}) as daemon,
    ):
        stats = daemon.osc.until(lambda s: s.rate_hz == 44100 and s.state in CONVERTING and s.latency_device_in_ms > 0)
        period_ms = 1000 * 512 / 44100
        assert stats.latency_device_in_ms == pytest.approx(period_ms, abs=0.01)
        assert stats.latency_device_out_ms == pytest.approx(period_ms, abs=0.01)


def test_a_named_input_that_is_missing_is_waited_for_and_said(tmp_path: Path) -> None:
    with (
        running_jack_server(48000, 512) as server,
        running(tmp_path, '[audio]\ninput = "usb"\n', {"JACK_DEFAULT_SERVER": server.name}) as daemon,
    ):
        assert "'usb' is not there" in daemon.osc.until(lambda s: s.state == "no-device").device
        jack = pytest.importorskip("jack", reason="JACK-Client is not installed: make test", exc_type=OSError)
        client = jack.Client("usb_mic", servername=server.name, no_start_server=True)
        port = client.outports.register("capture")
        client.set_process_callback(lambda frames: None)
        client.activate()
        daemon.osc.until(lambda s: s.state in CONVERTING)
        assert [other.name for other in client.get_all_connections(port)] == ["rvcd:in"]
        client.close()
        assert "is gone" in daemon.osc.until(lambda s: s.state == "no-device" and "is gone" in s.device).device


def test_check_names_the_ports(jack_server: JackServer) -> None:
    probes = Probes(list, None, lambda *_: None, read_voice_spec, None, hashes=False)
    found = {finding.text for finding in device_findings(Settings(), probes, daemon_runs=False)}
    assert "audio.input: system:capture_1" in found
    assert "audio.output: system:playback_1, system:playback_2" in found
