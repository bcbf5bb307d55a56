"""The monitor on real sound servers of this test alone: it plays where the user hears it, and never into rvcd's microphone."""

from __future__ import annotations

import glob
from pathlib import Path

import pytest

from rvcd.audio import pulse_microphone
from rvcd.audio.jack import PIPEWIRE_FOLDERS
from rvcd.audio.pipewire_default import pipewire_devices
from rvcd.audio.pipewire_graph import run_tool
from rvcd.errors import AudioDeviceError
from tests.audio.test_microphone import PrivatePipeWire, make_real_microphone, private_home, server, wait_until
from tests.audio.test_pulse import pulse
from tests.daemon_process import CONVERTING, running
from tests.waiting import eventually

__all__ = ["private_home", "pulse", "server"]
"""Fixtures of other files."""


def make_sink(name: str, priority: int) -> None:
    run_tool(
        "pw-cli", "create-node", "adapter",
        f"{{ factory.name = support.null-audio-sink media.class = Audio/Sink node.name = {name} node.description = {name} "
        f"audio.position = [ FL FR ] object.linger = true priority.session = {priority} priority.driver = {priority} }}",
    )  # fmt: skip


def links() -> str:
    return run_tool("pw-link", "-l")


def is_linked(links: str, source: str, sink: str) -> bool:
    """Say whether pw-link lists a link from one port to the other."""
    current = ""
    for line in links.splitlines():
        if not line.startswith(" "):
            current = line.strip()
        elif line.strip() == f"|-> {sink}" and current == source:
            return True
    return False


def test_on_pipewire_it_plays_on_the_default_sink_while_others_hear_the_microphone(
    server: PrivatePipeWire, tmp_path: Path
) -> None:
    if not [found for folder in PIPEWIRE_FOLDERS for found in glob.glob(f"{folder}/libjack.so.0")]:
        pytest.skip("PipeWire's libjack is not installed: apt install pipewire-jack")
    make_real_microphone()
    make_sink("headphones", 1500)
    make_sink("hdmi", 900)
    wait_until(lambda: '"headphones"' in run_tool("pw-metadata", "0", "default.audio.sink"))
    config = '[audio.monitor]\ndevice = "default"\n'
    with running(tmp_path, config) as daemon:
        stats = daemon.osc.until(lambda s: s.monitor_state == "open" and s.state in CONVERTING)
        assert stats.monitor_problem == ""
        eventually(lambda: is_linked(links(), "rvcd:monitor_1", "headphones:playback_FL"), "the monitor's link")
        assert is_linked(links(), "rvcd:monitor_2", "headphones:playback_FR")
        eventually(lambda: is_linked(links(), "rvcd:out_left", "rvcd-microphone:input_MONO"), "the microphone's link")
        assert not is_linked(links(), "rvcd:monitor_1", "rvcd-microphone:input_MONO")
        devices = pipewire_devices("output")
        assert devices is not None and devices.microphones == {"rvcd"}
    with running(tmp_path, '[audio.monitor]\ndevice = "rvcd"\n') as daemon:
        told = daemon.osc.until(lambda s: s.monitor_problem != "" and s.state in CONVERTING)
        assert "'rvcd' is not there" in told.monitor_problem and told.monitor_state == "waiting"
        assert not is_linked(links(), "rvcd:monitor_1", "rvcd-microphone:input_MONO")


@pytest.fixture
def microphone_of_pulse(pulse: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A PulseAudio with the sink cable and rvcd's microphone, reached by this process."""
    for name in ("PULSE_SERVER", "XDG_RUNTIME_DIR", "HOME"):
        monkeypatch.setenv(name, pulse[name])
    pulse_microphone.ensure("rvcd-microphone", "rvcd")
    return pulse


def test_on_pulseaudio_a_part_of_a_sinks_name_is_enough_and_the_microphone_is_never_meant(
    microphone_of_pulse: dict[str, str],
) -> None:
    assert pulse_microphone.listening_sink("default") == "cable"
    assert pulse_microphone.listening_sink("CAB") == "cable"
    assert pulse_microphone.listening_sink("usb") == ""
    run_tool("pactl", "set-default-sink", "rvcd-microphone-sink")
    assert pulse_microphone.listening_sink("pulse") == "cable"
    with pytest.raises(AudioDeviceError, match="is rvcd's own microphone"):
        pulse_microphone.listening_sink("rvcd-mic")
    cable = next(row for row in run_tool("pactl", "list", "short", "modules").splitlines() if "sink_name=cable" in row)
    run_tool("pactl", "unload-module", cable.split("\t")[0])
    with pytest.raises(AudioDeviceError, match="the only output is rvcd's own microphone"):
        pulse_microphone.listening_sink("default")


def test_on_pulseaudio_it_plays_on_its_sink_and_the_voice_into_the_microphone(
    microphone_of_pulse: dict[str, str], tmp_path: Path
) -> None:
    config = """
[audio]
backend = "portaudio"
host_api = "ALSA"
input = "pulse"
period_samples = 1024
[audio.monitor]
device = "cable"
source = "microphone"
"""
    environment = {**microphone_of_pulse, "PULSE_SOURCE": "cable.monitor"}
    environment.pop("PULSE_SINK")
    with running(tmp_path, config, environment) as daemon:
        daemon.osc.until(lambda s: s.monitor_state == "open")

        def sinks() -> dict[str, str]:
            """Which process plays on which sink."""
            names = {row.split("\t")[0]: row.split("\t")[1] for row in run_tool("pactl", "list", "short", "sinks").splitlines()}
            found: dict[str, str] = {}
            sink = ""
            for line in run_tool("pactl", "list", "sink-inputs").splitlines():
                if line.strip().startswith("Sink: "):
                    sink = names.get(line.split(": ")[1].strip(), "")
                elif "application.process.id" in line:
                    found[line.split('"')[1]] = sink
            return found

        def as_wanted() -> bool:
            assert daemon.process is not None
            playing = sinks()
            others = [sink for pid, sink in playing.items() if pid != str(daemon.process.pid)]
            return playing.get(str(daemon.process.pid)) == "rvcd-microphone-sink" and others == ["cable"]

        eventually(as_wanted, "voice and monitor on their sinks")
