"""The monitor's ports under JACK: what is heard there, where they are connected, and that the main output never knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rvcd.audio.device_supervisor import DeviceState, DeviceSupervisor
from rvcd.audio.jack import JackDevice, JackRequest
from rvcd.audio.pipewire_default import PipeWireDevices
from rvcd.audio.portaudio_devices import DeviceInfo
from rvcd.cli.checks.device import device_findings
from rvcd.cli.checks.finding import Level
from rvcd.cli.checks.probes import Probes
from rvcd.config.settings import Audio, Monitor, Settings, VirtualAudio
from rvcd.formats.voice_header import read_voice_spec
from rvcd.ipc.segment import AudioSegment
from tests.audio.conftest import EchoWorker, JackServer, lsp, running_jack_server
from tests.daemon_process import running
from tests.waiting import eventually

LATENCY_SAMPLES = 9600
GAIN = -0.5
NOISE = 0.5 * np.random.default_rng(0).uniform(-1, 1, 100_000)


@pytest.fixture
def segment() -> Iterator[AudioSegment]:
    with AudioSegment.create(48000) as made:
        made.set_latency_samples(LATENCY_SAMPLES)
        yield made


@pytest.fixture
def device(segment: AudioSegment, jack_server: JackServer) -> Iterator[JackDevice]:
    made = JackDevice(JackRequest(output="", monitor="default"), segment)
    made.open()
    made.start()
    yield made
    made.close()


class Ears:
    """Plays noise into rvcd and records its outputs, cycle by cycle; see jack_loop for why there are two clients."""

    def __init__(self, server: JackServer, *ports: str) -> None:
        jack = pytest.importorskip("jack", reason="JACK-Client is not installed: make test", exc_type=OSError)
        self.player = jack.Client("player", servername=server.name, no_start_server=True)
        self.recorder = jack.Client("recorder", servername=server.name, no_start_server=True)
        self._out = self.player.outports.register("out")
        self._ins = {port: self.recorder.inports.register(port) for port in ports}
        self._played = 0
        self._first: dict[int, int] = {}
        self.heard: list[tuple[int, dict[str, np.ndarray]]] = []
        self.player.set_process_callback(self._play)
        self.recorder.set_process_callback(self._record)

    def __enter__(self) -> Ears:
        self.player.activate()
        self.recorder.activate()
        for other in self.player.get_all_connections("rvcd:in"):
            self.player.disconnect(other, "rvcd:in")
        self.player.connect(self._out, "rvcd:in")
        for name, port in self._ins.items():
            self.recorder.connect(f"rvcd:{name}", port)
        return self

    def __exit__(self, *_: object) -> None:
        for client in (self.player, self.recorder):
            client.deactivate()
            client.close()

    def _samples(self, start: int, count: int) -> np.ndarray:
        return NOISE[np.arange(start, start + count) % len(NOISE)]

    def _play(self, count: int) -> None:
        self._out.get_array()[:] = self._samples(self._played, count)
        self._first[self.player.last_frame_time] = self._played
        self._played += count

    def _record(self, count: int) -> None:
        played = self._first.pop(self.recorder.last_frame_time, None)
        if played is not None:
            self.heard.append((played, {name: port.get_array().copy() for name, port in self._ins.items()}))

    def is_delayed_by(self, delay: int, gain: float) -> Callable[[int, np.ndarray], bool]:
        return lambda at, data: at >= delay and bool(np.abs(data - gain * self._samples(at - delay, len(data))).max() < 1e-5)

    def contains_what_is_played(self, at: int, data: np.ndarray) -> bool:
        """Whether a period contains what was played in its own cycle, at whatever level."""
        raw = self._samples(at, len(data))
        return bool(abs(np.dot(raw, data)) > 0.5 * np.linalg.norm(raw) * np.linalg.norm(data)) and bool(data.any())

    def count(self, port: str, fits: Callable[[int, np.ndarray], Any]) -> int:
        return sum(bool(fits(at, data[port])) for at, data in list(self.heard))


def is_silent(_at: int, data: np.ndarray) -> bool:
    return not data.any()


def test_its_ports_are_there_only_where_it_is_wanted_and_are_connected_to_the_servers_output(
    device: JackDevice, segment: AudioSegment, jack_server: JackServer
) -> None:
    connections = lsp(jack_server, "-c")
    assert "rvcd:monitor_1\n   system:playback_1" in connections and "rvcd:monitor_2\n   system:playback_2" in connections
    assert device.monitor_open and device.monitor_problem == "" and device.notice == ""
    with AudioSegment.create(48000) as other:
        without = JackDevice(JackRequest(name="plain"), other)
        without.open()
        assert "plain:monitor_1" not in lsp(jack_server) and "plain:out_left" in lsp(jack_server)
        without.close()


def test_the_converted_monitor_is_the_main_output_in_the_same_cycle(
    device: JackDevice, segment: AudioSegment, jack_server: JackServer
) -> None:
    segment.set_monitor(1.0, microphone=False)
    with EchoWorker(segment, gain=GAIN), Ears(jack_server, "out_left", "monitor_1", "monitor_2") as ears:
        eventually(lambda: ears.count("monitor_2", ears.is_delayed_by(LATENCY_SAMPLES, GAIN)) > 20, "the converted voice")
        settled = list(ears.heard)[20:]
        assert all(np.array_equal(data["out_left"], data["monitor_1"]) for _, data in settled)
        assert all(np.array_equal(data["monitor_1"], data["monitor_2"]) for _, data in settled)


def test_the_microphone_is_heard_undelayed_on_the_monitor_while_the_main_output_is_mute(
    device: JackDevice, segment: AudioSegment, jack_server: JackServer
) -> None:
    segment.set_mute(True)
    segment.set_monitor(0.5, microphone=True)
    with EchoWorker(segment, gain=GAIN), Ears(jack_server, "out_left", "monitor_1") as ears:
        eventually(lambda: ears.count("monitor_1", ears.is_delayed_by(0, 0.5)) > 20, "the raw voice on the monitor")
        ears.heard.clear()
        segment.set_mute(False)
        eventually(lambda: ears.count("out_left", ears.is_delayed_by(LATENCY_SAMPLES, GAIN)) > 20, "the converted voice")
        assert ears.count("out_left", ears.contains_what_is_played) == 0, "nothing of the raw voice is on the main output"


def test_the_graph_is_told_how_late_the_monitor_is(device: JackDevice, segment: AudioSegment, jack_server: JackServer) -> None:
    def says(samples: int) -> bool:
        return f"port capture latency = [ {samples} {samples} ]" in lsp(jack_server, "-l").split("rvcd:monitor_1")[1]

    eventually(lambda: says(LATENCY_SAMPLES + 1024), "the stream's latency and a period")
    segment.set_monitor(1.0, microphone=True)
    eventually(lambda: says(1024), "the period alone")
    assert f"[ {LATENCY_SAMPLES + 1024} " in lsp(jack_server, "-l").split("rvcd:out_left")[1].split("rvcd:")[0]


def test_a_device_that_is_missing_is_said_and_the_main_device_runs(segment: AudioSegment, jack_server: JackServer) -> None:
    supervisor = DeviceSupervisor(lambda: JackDevice(JackRequest(monitor="headphones"), segment), segment)
    supervisor.start()
    eventually(lambda: supervisor.poll() is DeviceState.RUNNING)
    device = supervisor.device
    assert isinstance(device, JackDevice)
    eventually(lambda: "audio.monitor.device 'headphones' is not there" in device.monitor_problem)
    assert not device.monitor_open and supervisor.notice == ""
    jack = pytest.importorskip("jack", reason="JACK-Client is not installed: make test", exc_type=OSError)
    client = jack.Client("headphones", servername=jack_server.name, no_start_server=True)
    for name in ("playback_1", "playback_2"):
        client.inports.register(name)
    client.activate()
    eventually(lambda: device.monitor_open and device.monitor_problem == "", "the connection")
    client.close()
    eventually(lambda: "is gone" in device.monitor_problem and not device.monitor_open)
    assert supervisor.poll() is DeviceState.RUNNING and supervisor.notice == ""
    assert supervisor.stop()


def test_one_device_for_both_outputs_is_said(segment: AudioSegment, jack_server: JackServer) -> None:
    device = JackDevice(JackRequest(monitor="system"), segment)
    device.open()
    device.start()
    try:
        eventually(lambda: "are one device (system:playback_1, system:playback_2)" in device.monitor_problem)
        assert device.monitor_open
    finally:
        device.close()


def test_rvcds_own_microphone_is_never_taken_on_pipewire() -> None:
    devices = PipeWireDevices(microphones=frozenset({"rvcd", "stage voice"}))
    assert all(map(devices.has_microphone, ("rvcd-51:input_MONO", "stage voice:input_MONO", "rvcd deep:input_MONO")))
    assert not any(map(devices.has_microphone, ("rvcdeep:playback_1", "USB:playback_FL", "rvcd-live:playback_FL")))


def test_the_daemon_plays_it_steers_it_and_resumes_it(tmp_path: Path) -> None:
    config = '[audio]\noutput = ""\n[audio.monitor]\ndevice = "default"\nsource = "microphone"\ngain_db = -6.0\n'
    with running_jack_server(48000, 512) as server:
        with running(tmp_path, config, {"JACK_DEFAULT_SERVER": server.name}) as daemon:
            stats = daemon.osc.until(lambda s: s.monitor_state == "open")
            assert (stats.monitor_source, stats.monitor_mute, stats.monitor_problem) == ("microphone", 0, "")
            assert daemon.osc.ask("/rvc/monitor").params == [-6.0]
            with Ears(server, "monitor_1") as ears:
                half = 10 ** (-6.0 / 20)
                eventually(lambda: ears.count("monitor_1", ears.is_delayed_by(0, half)) > 5, "the microphone")
                assert daemon.osc.until(lambda s: s.monitor_peak_dbfs > -20).monitor_peak_dbfs == pytest.approx(-12.0, abs=1.0)
                daemon.osc.send("/rvc/panic")
                daemon.osc.settle()
                ears.heard.clear()
                eventually(lambda: ears.count("monitor_1", is_silent) > 20, "silence in panic")
                daemon.osc.send("/rvc/panic/clear")
                eventually(lambda: ears.count("monitor_1", ears.is_delayed_by(0, half)) > 5, "the microphone again")
                daemon.osc.send("/rvc/mute", 1)
                daemon.osc.settle()
                ears.heard.clear()
                eventually(lambda: ears.count("monitor_1", ears.is_delayed_by(0, half)) > 5, "the microphone while muted")
                assert daemon.osc.ask("/rvc/monitor/source", "converted").params == ["converted"]
                daemon.osc.settle()
                ears.heard.clear()
                eventually(lambda: ears.count("monitor_1", is_silent) > 20, "what goes out, which is muted")
            assert daemon.osc.ask("/rvc/monitor/mute", 1).params == [1]
            assert daemon.osc.ask("/rvc/monitor", -60.0).params == [-60.0]
        assert daemon.log.count("the monitor plays on") == 1
        with running(tmp_path, config, {"JACK_DEFAULT_SERVER": server.name}) as daemon:
            stats = daemon.osc.until(lambda s: s.monitor_state == "open")
            assert (stats.monitor_source, stats.monitor_mute) == ("converted", 1)
            assert daemon.osc.ask("/rvc/monitor").params == [-60.0]


def test_check_names_its_ports_or_what_is_missing_which_is_no_failure(jack_server: JackServer) -> None:
    probes = Probes(list, None, lambda *_: None, read_voice_spec, None, hashes=False)

    def found(device: str) -> dict[str, Level]:
        settings = Settings(audio=Audio(monitor=Monitor(device=device)))
        return {finding.text: finding.level for finding in device_findings(settings, probes, daemon_runs=False)}

    assert found("default")["audio.monitor.device: system:playback_1, system:playback_2"] is Level.OK
    missing = {text: level for text, level in found("headphones").items() if "headphones" in text}
    assert len(missing) == 1 and set(missing.values()) == {Level.NOTE}
    assert not [text for text in found("") if "monitor" in text]


def test_check_names_its_card_or_what_is_missing() -> None:
    cards = [
        DeviceInfo(0, "USB (hw:0,0)", "ALSA", 1, 2, 48000, 5.0, 5.0),
        DeviceInfo(1, "HDMI (hw:1,0)", "ALSA", 0, 2, 48000, 5.0, 5.0),
    ]
    probes = Probes(lambda: cards, None, lambda *_: None, read_voice_spec, None, hashes=False)

    def found(device: str) -> list[tuple[Level, str]]:
        settings = Settings(audio=Audio(backend="portaudio", monitor=Monitor(device=device)))
        findings = device_findings(settings, probes, daemon_runs=False)
        return [(finding.level, finding.text) for finding in findings if "audio.monitor.device" in finding.text]

    assert found("hdmi") == [(Level.OK, "audio.monitor.device: [1] HDMI (hw:1,0) (ALSA)")]
    assert found("default") == [(Level.OK, "audio.monitor.device: the system's default")]
    assert found("") == []
    ((level, text),) = found("headphones")
    assert level is Level.NOTE and "'headphones' was not found" in text


def test_check_says_that_a_device_faster_than_time_has_no_monitor() -> None:
    probes = Probes(list, None, lambda *_: None, read_voice_spec, None, hashes=False)
    for realtime in (True, False):
        audio = Audio(backend="virtual", virtual=VirtualAudio(realtime=realtime), monitor=Monitor(device="default"))
        said = [f for f in device_findings(Settings(audio=audio), probes, daemon_runs=False) if "no monitor plays" in f.text]
        assert [finding.level for finding in said] == ([] if realtime else [Level.NOTE])
