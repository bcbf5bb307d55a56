"""Keeps the microphone alive while rvcd runs, and rvcd connected to it, from a thread of its own.

The sound server may be restarted, the node destroyed, the link cut: each is looked for and mended within LOOK_S. Our own
microphone is never left connected to our own input, and a loop through a loudspeaker's monitor is said once.
"""

from __future__ import annotations

import os
import threading
from collections import deque

from rvcd.audio import microphone, pulse_microphone
from rvcd.audio.microphone import MicrophoneName, MicrophoneTarget, NoSoundServerError, SoundServer
from rvcd.audio.pipewire_graph import Graph, GraphObject, read_graph, run_tool
from rvcd.errors import AudioDeviceError
from rvcd.instance import is_microphone_node

LOOK_S = 1.0
STOP_LIMIT_S = 3.0


class MicrophoneKeeper:
    """prepare belongs to the device's opening, in its thread; start, stop and drain_events to the owner. All are short but
    prepare, which waits for the sound server."""

    def __init__(self, name: MicrophoneName, *, wanted: bool, pid: int = 0, default_input: bool = True) -> None:
        """wanted: it was asked for by name, so a missing server is a warning. pid: whose ports are meant, 0 = this process's.

        default_input: no input is named, so that another rvcd's microphone at ours is not what anybody wanted.
        """
        self.name = name
        self._wanted = wanted
        self._pid = pid or os.getpid()
        self._default_input = default_input
        self._stop = threading.Event()
        self._events: deque[tuple[str, str]] = deque(maxlen=100)
        self._problem = ""
        self._target: MicrophoneTarget | None = None
        self._serial = ""  # of the node that _ensure has looked at
        self._was_there = False
        self._said_loop = False
        self._taken_over: set[str] = set()
        self._heard: set[str] = set()  # inputs that have been connected to something: what comes later is a person's work
        self._owned: dict[str, bool] = {}  # by object.serial, which a server never gives out twice
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="rvcd-microphone", daemon=True)

    def start(self) -> None:
        """Begin to look after it."""
        self._thread.start()

    def stop(self) -> None:
        """End looking after it; the microphone itself stays, so that programs keep it over a restart of rvcd."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_LIMIT_S)

    def drain_events(self) -> list[tuple[str, str]]:
        """Return what happened since the last call: (level, sentence)."""
        events = []
        while self._events:
            events.append(self._events.popleft())
        return events

    def prepare(self) -> MicrophoneTarget | None:
        """Make the microphone before a device is opened, and steer PulseAudio's plugin to it. None: there is no microphone."""
        with self._lock:
            target = self._ensure()
            if target is not None and target.server is SoundServer.PULSEAUDIO:
                # ALSA's plugin reads these at each opening.
                os.environ["PULSE_SINK"] = target.node
                source = pulse_microphone.other_source()
                if source is not None:  # an input that a person named by PULSE_SOURCE is kept
                    os.environ.setdefault("PULSE_SOURCE", source)
            return target

    def _keep(self) -> None:
        while not self._stop.wait(LOOK_S):
            with self._lock:
                try:
                    self._look()
                except AudioDeviceError as error:
                    self._fail(error)

    def _look(self) -> None:
        """Make what is missing; where nothing is, this costs one call of the server's tool (two on PulseAudio)."""
        if self._target is None:
            self._ensure()
        elif self._target.server is SoundServer.PULSEAUDIO:
            if not pulse_microphone.is_present(self.name.node):
                self._ensure()
        else:
            graph = read_graph()
            node = microphone.own_node(graph, self.name)
            if node is not None and node.get("object.serial") == self._serial:
                self._connect(graph, node)
                return
            self._ensure()
            if self._target is not None:
                graph = read_graph()
                node = microphone.own_node(graph, self.name)
                if node is not None:
                    self._serial = node.get("object.serial")
                    self._connect(graph, node)

    def _ensure(self) -> MicrophoneTarget | None:
        try:
            self._target = microphone.ensure(self.name)
        except AudioDeviceError as error:
            self._fail(error)
            return None
        if not self._was_there:
            self._say("info", f"{self._target.server.value} has the microphone {self.name.label!r}")
        self._was_there, self._problem = True, ""
        return self._target

    def _fail(self, error: AudioDeviceError) -> None:
        self._was_there, self._target, self._serial = False, None, ""
        self._owned.clear()  # a new server counts from 1 again
        self._taken_over.clear()
        self._heard.clear()
        if str(error) != self._problem:
            self._problem = str(error)
            expected = isinstance(error, NoSoundServerError) and not self._wanted  # with JACK or ALSA alone there is none
            text = f"no microphone {self.name.label!r} for other programs: {' '.join(self._problem.split())}"
            self._say("info" if expected else "warning", text)

    def _connect(self, graph: Graph, target: GraphObject) -> None:
        """Link our output to the microphone, and cut the microphone from our input."""
        own = [node for node in graph.of_kind("Node") if self._is_own(graph, node)]
        changed = False
        for node in own:
            for link in graph.links(source=target, sink=node):
                run_tool("pw-link", "-d", str(link.id))
                self._say_loop("rvcd's own microphone was connected to its input and has been disconnected")
            changed |= self._leave_others(graph, node, target)
            changed |= self._link(graph, node, target)
        if not changed:  # else the graph is another one by now
            self._look_for_monitor(graph, own)

    def _leave_others(self, graph: Graph, node: GraphObject, target: GraphObject) -> bool:
        """Cut another rvcd's microphone from a stream of ours that was given it as the default one; say whether it was.

        Ports of a JACK client are left alone: what those are connected to is chosen in jack.py.
        """
        serial = node.get("object.serial")
        if not self._default_input or not node.get("media.class").startswith("Stream/Input") or serial in self._heard:
            return False
        others = [n for n in graph.of_kind("Node") if n.id != target.id and is_microphone_node(n.get("node.name"))]
        links = graph.links(sink=node)
        if links:
            self._heard.add(serial)
        cut = [link for other in others for link in graph.links(source=other, sink=node)]
        for link in cut:
            run_tool("pw-link", "-d", str(link.id))
            self._say_loop("the microphone of another rvcd was connected to the input and has been disconnected")
        return bool(cut)

    def _is_own(self, graph: Graph, node: GraphObject) -> bool:
        """Say whether a node is of our process: its client is, or, through pipewire-pulse, its own properties say so."""
        serial = node.get("object.serial")
        if serial not in self._owned:
            client = next((c for c in graph.of_kind("Client") if str(c.id) == node.get("client.id")), None)
            own = client is not None and client.get("pipewire.sec.pid") == str(self._pid)
            if not own and node.get("media.class").startswith("Stream/"):
                own = f'application.process.id = "{self._pid}"' in run_tool("pw-cli", "info", str(node.id))
            self._owned[serial] = own
        return self._owned[serial]

    def _link(self, graph: Graph, node: GraphObject, target: GraphObject) -> bool:
        """Connect a node of ours to the microphone; return whether anything had to be changed."""
        outputs, inputs = voice_ports(graph, node), graph.ports(target, "in")
        if not outputs or not inputs:
            return False
        changed = False
        own_ports = {str(port.id) for port in outputs}
        key = f"{node.get('object.serial')}"
        if key not in self._taken_over:  # what was connected by default is undone once; what a person connects later stays
            self._taken_over.add(key)
            for link in graph.links(source=node):
                if link.get("link.input.node") != str(target.id) and link.get("link.output.port") in own_ports:
                    run_tool("pw-link", "-d", str(link.id))
                    changed = True
        if not graph.links(source=node, sink=target):
            run_tool("pw-link", str(outputs[0].id), str(inputs[0].id))  # one of two equal channels: both would be 6 dB louder
            changed = True
        return changed

    def _look_for_monitor(self, graph: Graph, own: list[GraphObject]) -> None:
        heard_at = {link.get("link.input.node") for node in own for link in graph.links(source=node)}
        for node in own:
            for link in graph.links(sink=node):
                if link.get("link.output.node") in heard_at:
                    self._say_loop("rvcd's input is the monitor of its own output")

    def _say_loop(self, what: str) -> None:
        if not self._said_loop:
            self._said_loop = True
            self._say("warning", f"{what}: name your real microphone in audio.input")

    def _say(self, level: str, text: str) -> None:
        self._events.append((level, text))


def voice_ports(graph: Graph, node: GraphObject) -> list[GraphObject]:
    """Return the ports on which a node of ours sends the converted voice.

    The stream of our input has outputs, too: its monitor repeats the raw voice, and must never reach a listener.
    """
    if node.get("media.class").startswith("Stream/Input"):
        return []
    return [
        port
        for port in graph.ports(node, "out")
        if port.get("port.monitor") != "true" and port.get("port.name").startswith("out")
    ]
