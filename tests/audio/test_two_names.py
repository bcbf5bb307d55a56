"""Two daemons with names on one sound server: each has its ports and its microphone, and neither hears the other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rvcd.audio import microphone, microphone_keeper, pulse_microphone
from rvcd.audio.configured import device_factory
from rvcd.audio.microphone import microphone_name
from rvcd.audio.microphone_keeper import MicrophoneKeeper
from rvcd.audio.pipewire_graph import Graph, read_graph, run_tool
from rvcd.audio.portaudio import LIBRARY
from rvcd.config.settings import parse_config
from rvcd.errors import AudioDeviceError
from rvcd.ipc.segment import AudioSegment
from tests.audio.conftest import JackServer
from tests.audio.test_microphone import PrivatePipeWire, make_real_microphone, private_home, server
from tests.daemon_process import CONVERTING, NamedDaemon, until_the_block_ends
from tests.waiting import HANG_S, eventually

__all__ = ["private_home", "server"]
CONFIG = '[voices]\nvoice = "test-buzz"\n[latency]\npreset = "safe"\n'
STREAM_NAMES = ("PULSE_PROP_OVERRIDE_application.name", "PIPEWIRE_ALSA")
JOINS = """
import sys
from rvcd.audio.jack import server_answers
sys.stdin.readline()
print(sum(not server_answers() for _ in range(25)))
"""


def test_of_daemons_that_look_for_the_server_at_once_none_takes_it_for_missing(server: PrivatePipeWire) -> None:
    words = [sys.executable, "-c", JOINS]
    lookers = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for looker in lookers:
        assert looker.stdin is not None
        looker.stdin.write("go\n")
        looker.stdin.flush()
    assert [looker.communicate(timeout=HANG_S)[0] for looker in lookers] == ["0\n"] * 3


@pytest.fixture
def pair(server: PrivatePipeWire, private_home: Path) -> Iterator[tuple[NamedDaemon, NamedDaemon]]:
    make_real_microphone()
    deep, high = (NamedDaemon(private_home, name, CONFIG) for name in ("deep", "high"))
    with until_the_block_ends(deep), until_the_block_ends(high):
        yield deep, high


def links() -> set[tuple[str, str]]:
    """Return which node is connected to which, by their names."""
    graph = read_graph()
    names = {str(node.id): node.get("node.name") for node in graph.of_kind("Node")}
    ends = [(link.get("link.output.node"), link.get("link.input.node")) for link in graph.links()]
    return {(names.get(source, "?"), names.get(sink, "?")) for source, sink in ends}


def test_each_hears_the_real_microphone_and_speaks_into_its_own(pair: tuple[NamedDaemon, NamedDaemon]) -> None:
    own = {("rvcd-deep", "rvcd-deep-microphone"), ("rvcd-high", "rvcd-high-microphone")}
    real = {("real-microphone", "rvcd-deep"), ("real-microphone", "rvcd-high")}
    eventually(lambda: links() == own | real, "the links")
    for daemon in pair:
        daemon.osc.until(lambda stats: stats.state in CONVERTING)

    # Without it one of the two microphones of rvcd is the server's default source, and the only kind there is.
    (node,) = read_graph().nodes_named("real-microphone")
    run_tool("pw-cli", "destroy", str(node.id))
    for daemon in pair:
        daemon.osc.until(lambda stats: stats.state == "no-device")
    assert links() == own

    make_real_microphone()
    eventually(lambda: links() == own | real, "the links, again")
    for daemon in pair:
        daemon.osc.until(lambda stats: stats.state in CONVERTING)
        assert "rvcd's own microphone was connected" not in daemon.log


def test_a_stream_that_was_given_another_rvcd_s_microphone_is_taken_off_it_once_and_a_person_may_put_it_back(
    server: PrivatePipeWire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Graph] = []

    def look() -> Graph:
        looks.append(read_graph())
        return looks[-1]

    monkeypatch.setattr(microphone_keeper, "read_graph", look)
    ours, others = microphone_name(instance="high"), microphone_name(instance="deep")
    microphone.ensure(others)
    recorder = subprocess.Popen(["pw-record", "--target", others.node, str(tmp_path / "heard.wav")])
    connected = (others.node, "pw-record")
    eventually(lambda: connected in links(), "the link that the session manager makes")
    keeper = MicrophoneKeeper(ours, wanted=True, pid=recorder.pid)
    keeper.start()
    try:
        eventually(lambda: connected not in links(), "the end of the link")
        eventually(lambda: any("the microphone of another rvcd" in text for _, text in keeper.drain_events()), "a word of it")
        (source,), (sink,) = (read_graph().nodes_named(name) for name in connected)
        for port in zip(read_graph().ports(source, "out") * 2, read_graph().ports(sink, "in"), strict=False):
            run_tool("pw-link", *(str(end.id) for end in port))
        before = len(looks)
        eventually(lambda: len(looks) > before + 3, "some looks of the keeper")
        assert connected in links()
    finally:
        keeper.stop()
        recorder.terminate()
        recorder.wait(HANG_S)


def test_on_jackd_portaudio_s_client_and_that_of_jack_s_own_api_have_the_daemon_s_name(
    jack_server: JackServer, segment: AudioSegment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIBRARY, "jack_client_name", "rvcd")
    for variable in STREAM_NAMES:
        monkeypatch.setenv(variable, "")  # so that what is set is taken back
    for audio in ({"backend": "portaudio", "host_api": "JACK"}, {"backend": "jack"}):
        settings = parse_config({"audio": audio}, Path("rvcd.toml"), "deep")
        for name in ("rvcd-deep", "rvcd"):
            device = device_factory(settings, audio["backend"], segment, name=name)()
            device.open()
            device.start()
            try:
                ports = subprocess.run(["jack_lsp", "-s", jack_server.name], capture_output=True, text=True, check=True).stdout
            finally:
                device.stop()
                device.close()
            assert {port.split(":")[0] for port in ports.splitlines()} == {"system", name}


def test_streams_of_a_name_have_it_where_a_server_would_give_them_another_daemon_s_volume(
    segment: AudioSegment, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulse, pipewire = STREAM_NAMES
    monkeypatch.setattr(LIBRARY, "jack_client_name", "rvcd")
    for variable in STREAM_NAMES:
        monkeypatch.setenv(variable, "")  # so that what is set is taken back
        monkeypatch.delenv(variable)
    settings = parse_config({}, Path("rvcd.toml"))
    device_factory(settings, "portaudio", segment)
    assert pulse not in os.environ and pipewire not in os.environ, "the daemon without a name is called as ever"
    device_factory(settings, "portaudio", segment, name="rvcd-deep")
    assert os.environ[pulse] == "rvcd-deep"
    assert os.environ[pipewire] == '{ application.name = "rvcd-deep" node.name = "rvcd-deep" }'


@pytest.mark.parametrize(
    "default, sources, taken",
    [
        ("usb", ["usb", "rvcd-microphone"], None),
        ("rvcd-microphone", ["rvcd-microphone", "speaker.monitor", "rvcd-deep-microphone", "usb"], "usb"),
        ("rvcd-deep-microphone-sink.monitor", ["rvcd-deep-microphone-sink.monitor", "rvcd-high-microphone", "usb"], "usb"),
        ("rvcd-deep-microphone", ["rvcd-deep-microphone", "rvcd-high-microphone", "speaker.monitor"], ""),
    ],
)
def test_on_pulseaudio_no_microphone_of_any_rvcd_is_taken_for_the_default_one(
    monkeypatch: pytest.MonkeyPatch, default: str, sources: list[str], taken: str | None
) -> None:
    def told(*command: str) -> str:
        if command[1] == "info":
            return f"Server Name: pulseaudio\nDefault Sink: speaker\nDefault Source: {default}\n"
        return "".join(f"{number}\t{name}\tmodule\n" for number, name in enumerate(sources))

    monkeypatch.setattr(pulse_microphone, "run_tool", told)
    if taken == "":
        with pytest.raises(AudioDeviceError, match="the only microphone is rvcd's own"):
            pulse_microphone.other_source()
    else:
        assert pulse_microphone.other_source() == taken
