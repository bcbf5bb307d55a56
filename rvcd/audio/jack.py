"""A JACK server, jackd's or PipeWire's, through JACK's own API: see _jack.c for the callbacks.

libjack is looked for at run time; there are two on many machines, and each reaches its own server alone. No server is ever
started. Everything here may hang on a frozen server: DeviceSupervisor calls it from a thread of its own, and what has to be
looked at again and again has one here.
"""

from __future__ import annotations

import contextlib
import glob
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvcd.audio.patchbay import Choice, Graph, Link, Side, choose, client_of
from rvcd.audio.pipewire_default import PipeWireDevices, pipewire_devices
from rvcd.errors import AudioDeviceError
from rvcd.ipc._native import ffi, lib
from rvcd.ipc.segment import AudioSegment

LIBRARY_VARIABLE = "RVCD_LIBJACK"
PIPEWIRE_FOLDERS = ("/usr/lib/*/pipewire-*/jack", "/usr/lib64/pipewire-*/jack", "/usr/lib/pipewire-*/jack")
LOOK_S = 0.25
FIRST_CALLBACK_S = 3.0
CHECK_NAME = "rvcd check"
"""No daemon is called so: a name holds no space."""
PIPEWIRE = "PipeWire"
JOIN_TRIES, JOIN_AGAIN_S = 6, 0.05
"""PipeWire's libjack may refuse one of two clients that join at once: it takes the other's coming for an error of its own."""
MONITOR_PORTS = ("monitor_1", "monitor_2")
MOST_PORTS = 6

_libraries: dict[str, Any] = {}
_libraries_lock = threading.Lock()


@dataclass(frozen=True)
class JackRequest:
    """Which ports to connect to, and how."""

    input: str = "default"
    """default: the server's own source; a part of a client's or port's name; "": none."""
    output: str = "default"
    input_channel: int = 1
    """From 1; 0 averages the first two."""
    name: str = "rvcd"
    """The client's name in the graph."""
    output_is_kept: bool = False
    """Somebody else connects the output (the keeper of the microphone): nothing of it is made, missed or remembered here."""
    monitor: str = ""
    """Where the monitor's two ports go, as output; "": there are no such ports."""


class Memory:
    """What the user connected by hand, from one life of a device to the next."""

    def __init__(
        self,
        links: dict[tuple[str, str], frozenset[Link]] | None = None,
        save: Callable[[dict[str, Side]], None] = lambda sides: None,
    ) -> None:
        self.links, self._save = dict(links or {}), save

    def keep(self, sides: dict[str, Side]) -> None:
        """Remember the sides' links; written only when they have changed."""
        found = {(kind, side.wanted): side.by_hand for kind, side in sides.items() if side.by_hand}
        if found != self.links:
            self.links = found
            self._save(sides)


NAME_WAIT_S, NAME_LOOK_S = 3.0, 0.1
_LEAVING: set[str] = set()
"""Names of clients of this process that were given up on a frozen server and have not left it yet."""


def library_paths() -> list[str]:
    """Return the libjacks to try, in order: the environment's alone, or the system's and then PipeWire's own."""
    if chosen := os.environ.get(LIBRARY_VARIABLE):
        return [chosen]
    found = [path for folder in PIPEWIRE_FOLDERS for path in sorted(glob.glob(f"{folder}/libjack.so.0"))]
    return ["libjack.so.0", *found]


def _library(path: str) -> Any:
    with _libraries_lock:
        if path not in _libraries:
            _libraries[path] = lib.rvcd_jack_load(path.encode())
        return _libraries[path]


def join(name: str, in_ports: int = 1, *, has_monitor: bool = False) -> tuple[Any, bool]:
    """Return (client, whether it is PipeWire's) of the first server that answers, or (NULL, False)."""
    for path in library_paths():
        library = _library(path)
        if library == ffi.NULL:
            continue
        is_pipewire = bool(lib.rvcd_jack_is_pipewire(library))
        if is_pipewire and not _pipewire_listens():
            continue  # its libjack would start threads to find that out
        for attempt in range(JOIN_TRIES if is_pipewire else 1):
            if attempt:
                time.sleep(JOIN_AGAIN_S * attempt)
            client = lib.rvcd_jack_open(library, name.encode(), in_ports, int(has_monitor))
            if client != ffi.NULL:
                return client, is_pipewire
    return ffi.NULL, False


def _pipewire_listens() -> bool:
    remote = os.environ.get("PIPEWIRE_REMOTE") or "pipewire-0"
    folder = os.environ.get("PIPEWIRE_RUNTIME_DIR") or os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return bool(lib.rvcd_jack_listens(os.fsencode(os.path.join(folder, remote))))


def server_answers() -> bool:
    """Say whether a JACK or PipeWire server runs here that lets this process in."""
    client, _ = join(CHECK_NAME)
    if client == ffi.NULL:
        return False
    lib.rvcd_jack_close(client)
    return True


def pipewire_answers() -> bool:
    """Say whether the server that a client would join is PipeWire."""
    client, is_pipewire = join(CHECK_NAME)
    if client == ffi.NULL:
        return False
    lib.rvcd_jack_close(client)
    return bool(is_pipewire)


@dataclass(frozen=True)
class Survey:
    """What a client would find now."""

    server: str
    rate_hz: int
    period_samples: int
    sides: dict[str, tuple[tuple[str, ...], str]]
    """By input, output and monitor: the ports it would be connected to, and what is wrong where there are none."""


def survey(request: JackRequest, segment: AudioSegment) -> Survey | None:
    """Look at the running server without taking part in it; None where none answers. segment: of any rate."""
    client, is_pipewire = join(CHECK_NAME)
    if client == ffi.NULL:
        return None
    device = JackDevice(request, segment)
    device._client, device._server, device._own_name = client, PIPEWIRE if is_pipewire else "JACK", CHECK_NAME
    device._sides = {
        "input": Side("input", ("in", "in_right"), request.input, request.input_channel),
        "output": Side("output", ("out_left", "out_right"), request.output),
        **({"monitor": Side("monitor", MONITOR_PORTS, request.monitor)} if request.monitor else {}),
    }
    sides = {}
    try:
        for kind, side in device._sides.items():
            choice = choose(side, device._graph(side)) if side.wanted else Choice()
            sides[kind] = tuple(other for _, other in choice.links), choice.problem
        return Survey(device._server, int(lib.rvcd_jack_rate_hz(client)), int(lib.rvcd_jack_period(client)), sides)
    finally:
        device.close()


class JackDevice:
    """One client of a JACK server; see device_supervisor.AudioDevice for the methods' contract."""

    def __init__(
        self,
        request: JackRequest,
        segment: AudioSegment,
        memory: Memory | None = None,
        on_rate: Callable[[int], None] = lambda rate_hz: None,
    ) -> None:
        """on_rate: told the server's rate where it is not the segment's."""
        self._request, self._segment, self._on_rate = request, segment, on_rate
        self._memory = memory if memory is not None else Memory()
        self._client: Any = ffi.NULL
        self._context: Any = ffi.NULL
        self._server = ""
        self._own_name = request.name
        self._sides: dict[str, Side] = {}
        self._period_samples = 0
        self._latency_samples = (0, 0)
        self._gone = ""
        self._notice = ""
        self._monitor_problem = ""
        self._devices: dict[str, tuple[list[str], PipeWireDevices]] = {}
        """By side: the devices' ports when PipeWire was asked about them last, and the answer."""
        self._looker: threading.Thread | None = None
        self._ending = threading.Event()

    @property
    def rate_hz(self) -> int:
        """Samples per second."""
        return self._segment.rate_hz

    @property
    def period_samples(self) -> int:
        """The server's period of this moment."""
        return self._period_samples

    @property
    def input_latency_ms(self) -> float:
        """What the graph says of the way from the source to our port."""
        return 1000.0 * self._latency_samples[0] / self.rate_hz

    @property
    def output_latency_ms(self) -> float:
        """What the graph says of the way from our port to the ear."""
        return 1000.0 * self._latency_samples[1] / self.rate_hz

    @property
    def settled_latency_ms(self) -> float:
        """0: what the graph says holds at any moment."""
        return 0.0

    @property
    def description(self) -> str:
        """One line for people."""
        return f"{self._server or 'JACK'}: {self._own_name}, {self.rate_hz} Hz" + (f"; {self._notice}" if self._notice else "")

    @property
    def realtime(self) -> bool:
        """True: a server keeps the pace of time."""
        return True

    @property
    def gone(self) -> str:
        """Why this client must be opened anew, "" while it is well."""
        return self._gone

    @property
    def notice(self) -> str:
        """What is missing although the client runs: an input or output that is not there."""
        return self._notice

    @property
    def monitor_open(self) -> bool:
        """Whether the monitor's ports are connected to something."""
        side = self._sides.get("monitor")
        return side is not None and side.connected

    @property
    def monitor_problem(self) -> str:
        """What is wrong with the monitor, "" where nothing is or where none is wanted. The main voice goes on without it."""
        return self._monitor_problem

    @property
    def thread_id(self) -> int:
        """The kernel's number of the thread that makes the callbacks; 0 before the first one and once closed."""
        context = self._context
        return int(lib.rvcd_context_thread_id(context)) if context != ffi.NULL else 0

    def open(self) -> None:
        """Join the server. Raises AudioDeviceError where none answers or its rate is another."""
        request = self._request
        if not request.input and not request.output:
            raise AudioDeviceError("audio device: neither an input nor an output is named: name one, or use default")
        in_ports = 2 if request.input_channel == 0 else 1
        self._server = PIPEWIRE if self._join_as_named(in_ports) else "JACK"
        server_hz = int(lib.rvcd_jack_rate_hz(self._client))
        if server_hz != self._segment.rate_hz:
            self._close_client()
            self._on_rate(server_hz)
            raise AudioDeviceError(f"the {self._server} server runs at {server_hz} Hz, the stream at {self._segment.rate_hz} Hz")
        self._period_samples = int(lib.rvcd_jack_period(self._client))
        self._segment.set_input_channel(1 if in_ports == 1 else 0)
        self._context = lib.rvcd_context_new(self._segment.hold(), in_ports, 1)
        own = [self._port_name(index).partition(":")[2] for index in range(in_ports + 2)]
        self._sides = {
            "input": Side("input", tuple(own[:in_ports]), request.input, request.input_channel),
            "output": Side("output", tuple(own[in_ports:]), request.output),
        }
        if request.monitor:
            self._sides["monitor"] = Side("monitor", MONITOR_PORTS, request.monitor)
        if request.output_is_kept:
            del self._sides["output"]
        for kind, side in self._sides.items():
            side.by_hand = self._memory.links.get((kind, side.wanted), frozenset())

    def _join_as_named(self, in_ports: int) -> bool:
        """Join the server, and say whether it is PipeWire.

        While a predecessor of this process is leaving a server that was frozen, its name is taken and the server gives us another
        one: the name, and with it the user's connections, is waited for.
        """
        name, deadline_s = self._request.name, time.monotonic() + NAME_WAIT_S
        while True:
            self._client, is_pipewire = join(name, in_ports, has_monitor=bool(self._request.monitor))
            if self._client == ffi.NULL:
                raise AudioDeviceError("no JACK or PipeWire server answers: start one, or set audio.backend")
            self._own_name = ffi.string(lib.rvcd_jack_name(self._client)).decode(errors="replace")
            if self._own_name == name or name not in _LEAVING or time.monotonic() >= deadline_s:
                return is_pipewire
            self._close_client()
            time.sleep(NAME_LOOK_S)

    def start(self) -> None:
        """Let the server call, connect the ports, and wait a moment for the first call. Raises AudioDeviceError."""
        if lib.rvcd_context_claim(self._context) != 0:
            raise AudioDeviceError(f"{self.description} does not start: the last callback of its predecessor has not ended")
        before = self._segment.counters().callbacks
        if lib.rvcd_jack_start(self._client, self._context, self._segment.hold()) != 0:
            self._segment.let_go()
            raise AudioDeviceError(f"{self.description} does not start: the server refuses the client")
        self._segment.let_go()  # the context holds it
        self._look()
        self._looker = threading.Thread(target=self._look_again_and_again, name="rvcd-jack", daemon=True)
        self._looker.start()
        deadline_s = time.monotonic() + FIRST_CALLBACK_S
        while self._segment.counters().callbacks == before and time.monotonic() < deadline_s:
            time.sleep(0.005)

    def stop(self) -> None:
        """Nothing: close leaves the graph in good order."""

    def close(self) -> None:
        """Leave the server; may be called twice. Waits for as long as the server is frozen."""
        self._ending.set()
        if self._looker is not None:
            self._looker.join()
            self._looker = None
        self._close_client()
        if self._context != ffi.NULL:
            context, self._context = self._context, ffi.NULL
            lib.rvcd_context_free(context)
            self._segment.let_go()

    def abandon(self) -> None:
        """Leave it to the call that hangs, which ends the client as soon as the server answers."""
        _LEAVING.add(self._own_name)
        self._ending.set()

    def _close_client(self) -> None:
        if self._client != ffi.NULL:
            client, self._client = self._client, ffi.NULL
            lib.rvcd_jack_close(client)
            _LEAVING.discard(self._own_name)

    # ---- looking

    def _look_again_and_again(self) -> None:
        while not self._ending.wait(LOOK_S):
            self._look()

    def _look(self) -> None:
        """Follow what the server and the user have changed, and make the links that are due."""
        client, segment = self._client, self._segment
        self._period_samples = int(lib.rvcd_jack_period(client))
        server_hz = int(lib.rvcd_jack_rate_hz(client))
        if lib.rvcd_jack_is_gone(client):
            self._gone = f"the {self._server} server has ended"
        elif server_hz != segment.rate_hz:
            self._gone = f"the {self._server} server has changed to {server_hz} Hz"
        if self._gone:
            return
        lib.rvcd_jack_report_latency(client)
        self._latency_samples = int(lib.rvcd_jack_input_latency(client)), int(lib.rvcd_jack_output_latency(client))
        problems = []
        if lib.rvcd_jack_is_freewheeling(client):
            problems.append("the JACK server is freewheeling, faster than any voice can be converted: silent until it ends")
        for kind, side in self._sides.items():
            graph = self._graph(side)
            links = side.look(graph)
            side.made([link for link in links if self._connect(kind, link)])
            if side.problem and kind != "monitor":
                problems.append(side.problem)
        self._monitor_problem = self._look_at_monitor()
        self._memory.keep(self._sides)
        self._notice = "; ".join(problems)

    def _look_at_monitor(self) -> str:
        side, output = self._sides.get("monitor"), self._sides.get("output")
        if side is None:
            return ""
        if not side.problem and output is not None and side.others & output.others:
            return (
                f"audio.monitor.device and audio.output are one device ({', '.join(sorted(side.others & output.others))}): the "
                "voice is heard twice there; name another one, or switch the monitor off"
            )
        return side.problem

    def _graph(self, side: Side) -> Graph:
        outputs = int(side.kind == "input")
        port_changes = int(lib.rvcd_jack_port_changes(self._client))
        mine = f"{self._own_name}:"
        ports, physical = (
            tuple(name for name in self._names(lib.rvcd_jack_ports(self._client, outputs, only)) if not name.startswith(mine))
            for only in (0, 1)
        )
        if self._server == PIPEWIRE:
            # A virtual microphone is no hardware there; a player's ports have other names than a device's.
            device_port = ":capture_" if outputs else ":playback_"
            found = [name for name in ports if device_port in name]
            if found and (side.wanted.lower() == "default" or side.kind == "monitor"):
                devices = self._pipewire_devices(side, found)
                if devices is None:  # what is not known must not be heard, nor hear us: nothing is chosen until it is
                    found = []
                    if side.kind == "monitor":
                        ports = tuple(name for name in ports if name in side.others)
                else:
                    found = [name for name in found if not devices.has_microphone(name)]
                    found.sort(key=lambda name: client_of(name) != devices.default)  # the others keep their order
                    if side.kind == "monitor":  # in a microphone of rvcd's, others would hear it
                        ports = tuple(name for name in ports if not devices.has_microphone(name))
            physical = tuple(found)
        links: set[Link] = set()
        for index in range(MOST_PORTS):
            name = self._port_name(index).partition(":")[2]
            if name in side.own:
                links.update((name, other) for other in self._names(lib.rvcd_jack_connections(self._client, index)))
        return Graph(ports, physical, frozenset(links), port_changes)

    def _pipewire_devices(self, side: Side, ports: list[str]) -> PipeWireDevices | None:
        """Return what PipeWire says of a side's devices, None while it does not answer.

        Asked again when their ports change, not four times a second.
        """
        asked, devices = self._devices.get(side.kind, ([], PipeWireDevices()))
        if asked == ports:
            return devices
        answer = pipewire_devices("input" if side.kind == "input" else "output")
        if answer is not None:
            self._devices[side.kind] = list(ports), answer
        return answer

    def _connect(self, kind: str, link: Link) -> bool:
        own, other = f"{self._own_name}:{link[0]}", link[1]
        source, sink = (other, own) if kind == "input" else (own, other)
        return bool(lib.rvcd_jack_connect(self._client, source.encode(), sink.encode()) == 0)

    def _port_name(self, index: int) -> str:
        return str(ffi.string(lib.rvcd_jack_port_name(self._client, index)).decode(errors="replace"))

    def _names(self, listed: Any) -> list[str]:
        names: list[str] = []
        if listed == ffi.NULL:
            return names
        with contextlib.suppress(UnicodeDecodeError):
            while listed[len(names)] != ffi.NULL:
                names.append(ffi.string(listed[len(names)]).decode())
        lib.rvcd_jack_free_list(self._client, listed)
        return names


def remembered(path: Path) -> Memory:
    """Return the memory that is kept in a file; one that cannot be read counts as empty."""
    import json

    from rvcd.audio.patchbay import from_document, to_document

    links: dict[tuple[str, str], frozenset[Link]] = {}
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if path.stat().st_size < 2**20:
            links = from_document(json.loads(path.read_text(encoding="utf-8")))

    def save(sides: dict[str, Side]) -> None:
        temporary = path.with_name(f".{path.name}.new")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary.write_text(json.dumps(to_document(sides), indent=2), encoding="utf-8")
            os.replace(temporary, path)

    return Memory(links, save)
