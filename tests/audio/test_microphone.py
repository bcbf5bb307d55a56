"""The microphone for other programs: on a private PipeWire, and as far as it goes without one."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rvcd.audio import microphone
from rvcd.audio.configured import microphone_keeper
from rvcd.audio.microphone import MicrophoneName, SoundServer, microphone_name
from rvcd.audio.microphone_keeper import MicrophoneKeeper, voice_ports
from rvcd.audio.pipewire_graph import parse_graph, read_graph, run_tool
from rvcd.config.settings import parse_config
from rvcd.errors import AudioDeviceError, ConfigError

TOOLS = ("pipewire", "wireplumber", "dbus-run-session", "pw-cli", "pw-link", "pw-play", "pw-record", "wpctl")
WAIT_S = 30.0
OURS, REAL = microphone_name(), MicrophoneName("real-microphone", "USB microphone")
A_GRAPH = """
  id 41, type PipeWire:Interface:Node/3
     object.serial = "43"
     node.name = "rvcd-microphone"
     media.class = "Audio/Source/Virtual"
  id 53, type PipeWire:Interface:Node/3
     client.id = "47"
     media.class = "Stream/Input/Audio"
  id 54, type PipeWire:Interface:Port/3
     node.id = "53"
     port.name = "monitor_MONO"
     port.direction = "out"
     port.monitor = "true"
  id 55, type PipeWire:Interface:Node/3
     media.class = "Stream/Output/Audio"
  id 56, type PipeWire:Interface:Port/3
     node.id = "55"
     port.id = "1"
     port.name = "output_FR"
     port.direction = "out"
  id 57, type PipeWire:Interface:Port/3
     node.id = "55"
     port.id = "0"
     port.name = "output_FL"
     port.direction = "out"
"""


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline_s, "it did not become true in time"
        time.sleep(0.1)


class PrivatePipeWire:
    """A server of this test alone."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self._start("pipewire")
        wait_until(answers)
        self._start("dbus-run-session", "--", "wireplumber")
        wait_until(lambda: "WirePlumber" in run_tool("pw-cli", "ls", "Client"))

    def _start(self, *command: str) -> None:
        self._processes.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        )

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(WAIT_S)
        self._processes.clear()


def answers() -> bool:
    try:
        read_graph()
    except AudioDeviceError:
        return False
    return True


@pytest.fixture
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    for name, folder in (("XDG_RUNTIME_DIR", runtime), ("XDG_CONFIG_HOME", tmp_path / "config"), ("HOME", tmp_path)):
        monkeypatch.setenv(name, str(folder))
    for name in ("PIPEWIRE_REMOTE", "PIPEWIRE_RUNTIME_DIR", "PULSE_SERVER", "PULSE_RUNTIME_PATH", "PULSE_SINK", "PULSE_SOURCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def server(private_home: Path) -> Iterator[PrivatePipeWire]:
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)} (make test installs them where it may)")
    private = PrivatePipeWire()
    try:
        private.start()
        yield private
    finally:
        private.stop()


def make_real_microphone() -> None:
    run_tool(
        "pw-cli", "create-node", "adapter",
        "{ factory.name = support.null-audio-sink media.class = Audio/Source/Virtual node.name = real-microphone "
        'node.description = "USB microphone" audio.position = [ MONO ] object.linger = true priority.session = 2009 }',
    )  # fmt: skip


def test_the_monitor_of_our_input_is_never_taken_for_the_converted_voice() -> None:
    graph = parse_graph(A_GRAPH)
    ports = [[port.get("port.name") for port in voice_ports(graph, node)] for node in graph.of_kind("Node")]
    assert ports == [[], [], ["output_FL", "output_FR"]]


def test_each_instance_has_a_microphone_of_its_own() -> None:
    assert (microphone_name().node, microphone_name().label) == ("rvcd-microphone", "rvcd")
    assert (microphone_name(instance="Anna").node, microphone_name(instance="Anna").label) == (
        "rvcd-Anna-microphone",
        "rvcd Anna",
    )
    assert microphone_name("My voice") == MicrophoneName("rvcd-microphone", "My voice")


@pytest.mark.parametrize("audio", [{"virtual_microphone": "off"}, {"output": "USB"}])
def test_where_the_voice_goes_elsewhere_no_microphone_is_made(audio: dict[str, str]) -> None:
    assert microphone_keeper(parse_config({"audio": audio}, Path("rvcd.toml")), "portaudio") is None
    assert microphone_keeper(parse_config({}, Path("rvcd.toml")), "virtual") is None
    assert microphone_keeper(parse_config({}, Path("rvcd.toml")), "portaudio") is not None


@pytest.mark.parametrize("name", ["", 'a"b', "a}b", "x" * 41, "two\nlines"])
def test_a_name_that_no_server_could_hold_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no name for a microphone"):
        parse_config({"audio": {"virtual_microphone": name}}, Path("rvcd.toml"))


def test_without_a_server_one_sentence_says_so(private_home: Path) -> None:
    with pytest.raises(AudioDeviceError, match="systemctl --user start pipewire"):
        microphone.ensure(OURS)
    found = microphone.status(OURS)
    assert (found.server, found.present) == (None, False)


def test_a_file_that_is_not_ours_is_neither_overwritten_nor_deleted(private_home: Path) -> None:
    file = microphone.config_file(OURS)
    file.parent.mkdir(parents=True)
    file.write_text("# mine\n")
    with pytest.raises(AudioDeviceError, match="was not written by rvcd"):
        microphone.write_config(OURS)
    assert microphone.remove_config(OURS) is None
    assert file.read_text() == "# mine\n"


def test_the_microphone_is_made_once_and_removed_and_the_default_source_stays(server: PrivatePipeWire) -> None:
    make_real_microphone()
    wait_until(lambda: "real-microphone" in run_tool("wpctl", "inspect", "@DEFAULT_AUDIO_SOURCE@"))
    for _ in range(2):
        assert microphone.ensure(OURS).server is SoundServer.PIPEWIRE
    assert len(read_graph().nodes_named("rvcd-microphone")) == 1
    assert microphone.status(OURS).present
    assert "real-microphone" in run_tool("wpctl", "inspect", "@DEFAULT_AUDIO_SOURCE@")
    assert (microphone.remove(OURS), microphone.remove(OURS)) == (True, False)


def test_a_name_that_another_program_has_is_left_to_it(server: PrivatePipeWire) -> None:
    make_real_microphone()
    wait_until(lambda: bool(read_graph().nodes_named("real-microphone")))
    for act in (microphone.ensure, microphone.remove):
        with pytest.raises(AudioDeviceError, match="another program has a node called 'real-microphone'"):
            act(REAL)
    assert read_graph().nodes_named("real-microphone")


def test_the_server_makes_an_installed_microphone_at_its_start(server: PrivatePipeWire) -> None:
    microphone.write_config(OURS)
    server.stop()
    server.start()
    wait_until(lambda: microphone.status(OURS).present)
    assert microphone.remove_config(OURS) == microphone.config_file(OURS)


def test_the_keeper_brings_microphone_and_sound_back_when_the_server_was_restarted(
    server: PrivatePipeWire, tmp_path: Path
) -> None:
    sound, heard = tmp_path / "sound.wav", tmp_path / "heard.wav"
    soundfile.write(sound, 0.3 * np.sin(2 * np.pi * 440 * np.arange(48_000 * 120) / 48_000), 48_000)
    for _ in range(2):
        player = subprocess.Popen(["pw-play", "-P", "{ node.autoconnect = false }", "--target", "0", str(sound)])
        keeper = MicrophoneKeeper(OURS, wanted=True, pid=player.pid)
        keeper.start()
        try:
            wait_until(lambda: any(graph_has_voice()))
            recorder = subprocess.Popen(["pw-record", "--target", "rvcd-microphone", "--channels", "1", str(heard)])
            wait_until(lambda: heard.exists() and heard.stat().st_size > 200_000)
            recorder.terminate()
            recorder.wait(WAIT_S)
        finally:
            keeper.stop()
            player.terminate()
            player.wait(WAIT_S)
        samples, _ = soundfile.read(heard)
        assert 0.2 < np.abs(samples[len(samples) // 2 :]).max() < 0.4  # one of two equal channels, not their sum
        heard.unlink()
        server.stop()
        server.start()


def graph_has_voice() -> list[bool]:
    graph = read_graph()
    return [bool(graph.links(sink=node)) for node in graph.nodes_named("rvcd-microphone")]


def test_a_tool_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "PATH", "/nonexistent")
    with pytest.raises(AudioDeviceError, match="sudo apt install pipewire-bin"):
        run_tool("pw-cli", "ls")
