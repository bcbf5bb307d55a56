"""The microphone that other programs list as "rvcd": made, found again, and removed, on PipeWire and on PulseAudio.

On PipeWire it is one lingering node, a null sink of the class Audio/Source/Virtual: what is linked to its input is what its
listeners hear. On PulseAudio it is a null sink and a source that repeats its monitor. All calls may take seconds.
"""

from __future__ import annotations

import enum
import os
import time
from dataclasses import dataclass
from pathlib import Path

from rvcd.audio import pulse_microphone
from rvcd.audio.pipewire_graph import Graph, GraphObject, is_marked, read_graph, run_tool
from rvcd.errors import AudioDeviceError
from rvcd.instance import microphone_label, microphone_node

MARK = "rvcd.microphone"
CONFIG_MARK = "# Written by `rvcd mic install`; `rvcd mic remove` deletes it."
SESSION_PRIORITY = 1
"""Real microphones have 1000 to 2500: the session manager never prefers ours as the default source."""
APPEARS_S = 3.0


class NoSoundServerError(AudioDeviceError):
    """Neither PipeWire nor PulseAudio answers."""


class SoundServer(enum.Enum):
    """Whose microphone it is."""

    PIPEWIRE = "PipeWire"
    PULSEAUDIO = "PulseAudio"


@dataclass(frozen=True)
class MicrophoneName:
    """node: what the server knows it by. label: what people read in their lists."""

    node: str = "rvcd-microphone"
    label: str = "rvcd"


@dataclass(frozen=True)
class MicrophoneTarget:
    """Where to send the voice: node is PipeWire's node.name, or the name of PulseAudio's sink."""

    server: SoundServer
    node: str
    name: MicrophoneName


@dataclass(frozen=True)
class MicrophoneStatus:
    """server: None where none answers, and then problem says so. listeners: programs that hear it now (PipeWire only)."""

    server: SoundServer | None
    present: bool
    listeners: int
    config_file: Path | None
    problem: str = ""


def microphone_name(setting: str = "auto", instance: str = "") -> MicrophoneName:
    """Return the names of an instance's microphone; setting "auto", or the label that the user wants."""
    return MicrophoneName(microphone_node(instance), microphone_label(instance) if setting == "auto" else setting)


def find_server() -> SoundServer:
    """Return the server that programs talk to. Raises AudioDeviceError where none answers.

    Where both run, as on Ubuntu 22.04, PipeWire has the video only: programs look for microphones in PulseAudio.
    """
    if pulse_microphone.is_running():
        return SoundServer.PULSEAUDIO
    if not _pipewire_socket().exists():
        raise NoSoundServerError(
            "no PipeWire or PulseAudio answers, so there can be no microphone: run\n"
            "`systemctl --user start pipewire`, as the user of the desktop, not as root"
        )
    read_graph()
    return SoundServer.PIPEWIRE


def ensure(name: MicrophoneName) -> MicrophoneTarget:
    """Make the microphone unless it is there. Raises AudioDeviceError: no server, or its name is another program's."""
    server = find_server()
    if server is SoundServer.PULSEAUDIO:
        return MicrophoneTarget(server, pulse_microphone.ensure(name.node, name.label), name)
    if _own_node(read_graph(), name) is None:
        run_tool("pw-cli", "create-node", "adapter", _properties(name, "true"))
        deadline_s = time.monotonic() + APPEARS_S
        while _own_node(read_graph(), name) is None:
            if time.monotonic() > deadline_s:
                raise AudioDeviceError(f"PipeWire did not make the microphone {name.label!r}: restart pipewire and wireplumber")
            time.sleep(0.1)
    return MicrophoneTarget(server, name.node, name)


def remove(name: MicrophoneName) -> bool:
    """Take the microphone away; return whether it was there. Raises AudioDeviceError."""
    if find_server() is SoundServer.PULSEAUDIO:
        return pulse_microphone.remove(name.node)
    node = _own_node(read_graph(), name)
    if node is not None:
        run_tool("pw-cli", "destroy", str(node.id))
    return node is not None


def status(name: MicrophoneName) -> MicrophoneStatus:
    """Say how things are; never raises AudioDeviceError."""
    file = config_file(name)
    kept = file if _is_ours(file) else None
    try:
        server = find_server()
        if server is SoundServer.PULSEAUDIO:
            return MicrophoneStatus(server, pulse_microphone.is_present(name.node), 0, kept)
        graph = read_graph()
        node = _own_node(graph, name)
    except AudioDeviceError as error:
        return MicrophoneStatus(None, False, 0, kept, str(error))
    listeners = {link.get("link.input.node") for link in graph.links(source=node)} if node else set()
    return MicrophoneStatus(server, node is not None, len(listeners), kept)


def own_node(graph: Graph, name: MicrophoneName) -> GraphObject | None:
    """Return the microphone's node without asking whose it is: for graphs of a microphone that ensure has looked at."""
    return next(iter(graph.nodes_named(name.node)), None)


def _own_node(graph: Graph, name: MicrophoneName) -> GraphObject | None:
    for node in graph.nodes_named(name.node):
        if not is_marked(node, MARK):
            raise AudioDeviceError(
                f"another program has a node called {name.node!r} in PipeWire: close that program,\n"
                f'or set audio.virtual_microphone = "off"'
            )
        return node
    return None


# ---- made by the server itself at its start ----


def config_file(name: MicrophoneName) -> Path:
    """Return the file that lets PipeWire make the microphone at its start."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "pipewire" / "pipewire.conf.d" / f"50-{name.node}.conf"


def write_config(name: MicrophoneName) -> Path:
    """Write that file, whole or not at all. Raises AudioDeviceError for a file that is not ours, OSError."""
    file = config_file(name)
    if file.exists() and not _is_ours(file):
        raise AudioDeviceError(f"{file} was not written by rvcd: move it away, then try again")
    file.parent.mkdir(parents=True, exist_ok=True)
    text = f"{CONFIG_MARK}\ncontext.objects = [\n  {{ factory = adapter args = {_properties(name, 'true')} }}\n]\n"
    part = file.with_suffix(".part")
    part.write_text(text, "utf-8")
    part.replace(file)
    return file


def remove_config(name: MicrophoneName) -> Path | None:
    """Delete that file if it is ours, and return which one it was. Raises OSError."""
    file = config_file(name)
    if not _is_ours(file):
        return None
    file.unlink()
    return file


def _is_ours(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(CONFIG_MARK)) == CONFIG_MARK.encode()
    except OSError:
        return False


def _properties(name: MicrophoneName, linger: str) -> str:
    return (
        "{ factory.name = support.null-audio-sink media.class = Audio/Source/Virtual "
        f'node.name = "{name.node}" node.description = "{name.label}" audio.position = [ MONO ] '
        f"object.linger = {linger} priority.session = {SESSION_PRIORITY} priority.driver = {SESSION_PRIORITY} {MARK} = true }}"
    )


def _pipewire_socket() -> Path:
    remote = os.environ.get("PIPEWIRE_REMOTE") or "pipewire-0"
    folder = os.environ.get("PIPEWIRE_RUNTIME_DIR") or os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return Path(folder) / remote
