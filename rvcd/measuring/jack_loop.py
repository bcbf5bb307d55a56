"""The way through a running rvcd by its own ports, on JACK and on PipeWire's JACK: libjack by ctypes, callbacks in C.

Nobody hears anything: rvcd's ports are taken off what they are connected to, and connected again afterwards.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rvcd.ipc._native import ffi, lib
from rvcd.measuring.loop import LoopError

LIBRARIES = ("libjack.so.0", "/usr/lib/*/pipewire-*/jack/libjack.so.0", "/usr/lib*/pipewire-*/jack/libjack.so.0")
"""jackd's or whatever the system has as such; PipeWire's own, for those who start rvcd with pw-jack."""
NO_START_SERVER = 0x01
IS_INPUT, IS_OUTPUT = 0x1, 0x2
AUDIO = b"32 bit float mono audio"
PLAYER, RECORDER = b"latency-player", b"latency-recorder"
CAPTURE, PLAYBACK = 0, 1
"""jack_latency_callback_mode_t: how far a port is from where sound comes in, and from where it goes out."""
PORT = re.compile(rb".*:(in|out)(_[a-z0-9]+)?")
"""A port of rvcd's, by itself or by PortAudio: on PipeWire, the microphone's node has the same client's name as rvcd."""
CONNECT_S = 3.0
MORE_S = 20.0


class LatencyRange(ctypes.Structure):
    """jack_latency_range_t, frames."""

    _fields_ = (("min", ctypes.c_uint32), ("max", ctypes.c_uint32))


class Jack:
    """One libjack with its types declared."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        pointer, text, names = ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)
        signatures: Sequence[tuple[str, Any, list[Any]]] = (
            ("jack_client_open", pointer, [text, ctypes.c_int, ctypes.POINTER(ctypes.c_int)]),
            ("jack_client_close", ctypes.c_int, [pointer]),
            ("jack_activate", ctypes.c_int, [pointer]),
            ("jack_deactivate", ctypes.c_int, [pointer]),
            ("jack_get_sample_rate", ctypes.c_uint32, [pointer]),
            ("jack_get_buffer_size", ctypes.c_uint32, [pointer]),
            ("jack_set_process_callback", ctypes.c_int, [pointer, pointer, pointer]),
            ("jack_port_register", pointer, [pointer, text, text, ctypes.c_ulong, ctypes.c_ulong]),
            ("jack_port_name", text, [pointer]),
            ("jack_port_by_name", pointer, [pointer, text]),
            ("jack_get_ports", names, [pointer, text, text, ctypes.c_ulong]),
            ("jack_port_get_all_connections", names, [pointer, pointer]),
            ("jack_connect", ctypes.c_int, [pointer, text, text]),
            ("jack_disconnect", ctypes.c_int, [pointer, text, text]),
            ("jack_port_get_latency_range", None, [pointer, ctypes.c_int, ctypes.POINTER(LatencyRange)]),
            ("jack_free", None, [pointer]),
            ("jack_set_error_function", None, [pointer]),
            ("jack_set_info_function", None, [pointer]),
        )
        for name, result, arguments in signatures:
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        self.library = library

    def take_names(self, found: Any) -> list[bytes]:
        """Return the texts of a list that libjack gave, and give it back."""
        names: list[bytes] = []
        while found and found[len(names)]:
            names.append(found[len(names)])
        if found:
            self.library.jack_free(found)
        return names

    def address(self, name: str) -> Any:
        return ffi.cast("void *", ctypes.cast(getattr(self.library, name), ctypes.c_void_p).value)


def open_jack_loop(client: str) -> JackLoop:
    """Return the way through the ports of the JACK client of this name (or one that begins so). Raises LoopError."""
    answered = False
    for path in [found for pattern in LIBRARIES for found in ([pattern] if "/" not in pattern else sorted(glob.glob(pattern)))]:
        try:
            jack = Jack(path)
        except (OSError, AttributeError):
            continue
        handle = jack.library.jack_client_open(PLAYER, NO_START_SERVER, None)
        if not handle:
            continue
        answered = True
        try:
            ports = _ports_of(jack, handle, client)
        except LoopError:
            jack.library.jack_client_close(handle)
            continue
        return JackLoop(jack, handle, *ports)
    if answered:
        raise LoopError(f"no JACK client called '{client}' has inputs and outputs: is it rvcd's server, or name it with --client")
    raise LoopError("no JACK or PipeWire server answers: start it, or measure with a cable (--cable)")


def _ports_of(jack: Jack, handle: Any, client: str) -> tuple[list[bytes], list[bytes]]:
    """Return the audio inputs and outputs of the first client whose name is this or begins so."""
    library = jack.library
    sides = [
        [name for name in jack.take_names(library.jack_get_ports(handle, None, AUDIO, flag)) if PORT.fullmatch(name)]
        for flag in (IS_INPUT, IS_OUTPUT)
    ]
    owners = {name.split(b":")[0] for names in sides for name in names}
    wanted = client.encode()
    for owner in sorted(owners, key=lambda name: (name != wanted, name)):
        inputs, outputs = ([name for name in names if name.split(b":")[0] == owner] for names in sides)
        if owner.startswith(wanted) and inputs and outputs:
            return inputs, outputs
    raise LoopError(f"no JACK client called '{client}'")


class JackLoop:
    """See loop.Loop. The handle is the player's client."""

    def __init__(self, jack: Jack, player: Any, inputs: list[bytes], outputs: list[bytes]) -> None:
        self._jack, self._player, self._recorder = jack, player, None
        self._inputs, self._outputs = inputs, outputs
        self._probe = ffi.NULL
        self.ends_ms = (0.0, 0.0)
        self._kept: list[tuple[bytes, bytes]] = []
        library = jack.library
        self.rate_hz = int(library.jack_get_sample_rate(player))
        self.period_samples = int(library.jack_get_buffer_size(player))
        self.description = f"the ports of the JACK client {inputs[0].split(b':')[0].decode('utf-8', 'replace')}"
        self._recorder = library.jack_client_open(RECORDER, NO_START_SERVER, None)
        if not self._recorder:
            library.jack_client_close(player)
            raise LoopError("the JACK server takes no second client: close some of its programs")
        self._out = library.jack_port_register(player, b"out", AUDIO, IS_OUTPUT, 0)
        self._in = library.jack_port_register(self._recorder, b"in", AUDIO, IS_INPUT, 0)

    def take_over(self, sound_frames: int, record_s: float) -> None:
        jack, library = self._jack, self._jack.library
        self._probe = probe = lib.rvcd_probe_new(sound_frames, round(record_s * self.rate_hz))
        if probe == ffi.NULL:
            raise MemoryError
        addresses = [ffi.cast("void *", value) for value in (self._player, self._out, self._recorder, self._in)]
        lib.rvcd_probe_use_jack(probe, jack.address("jack_port_get_buffer"), jack.address("jack_last_frame_time"), *addresses)
        argument = int(ffi.cast("uintptr_t", probe))
        for client, callback in ((self._player, "rvcd_probe_play"), (self._recorder, "rvcd_probe_listen")):
            function = int(ffi.cast("uintptr_t", ffi.addressof(lib, callback)))
            library.jack_set_process_callback(client, function, argument)
            if library.jack_activate(client) != 0:
                raise LoopError("the JACK server does not start the measuring client: restart it")
        self._patch()

    def send(self, sound: NDArray[np.float32], record_s: float) -> NDArray[np.float32]:
        frames, probe = round(record_s * self.rate_hz), self._probe
        ffi.memmove(lib.rvcd_probe_sound(probe), np.ascontiguousarray(sound, np.float32), 4 * len(sound))
        lib.rvcd_probe_arm(probe)
        deadline_s = time.monotonic() + record_s + MORE_S
        while lib.rvcd_probe_recorded(probe) < frames:
            if time.monotonic() > deadline_s:
                raise LoopError("the JACK server has stopped calling its clients: restart it")
            time.sleep(0.02)
        return np.frombuffer(ffi.buffer(lib.rvcd_probe_record(probe), 4 * frames), np.float32).copy()

    def _patch(self) -> None:
        """Have rvcd hear and be heard by nobody else."""
        library, player = self._jack.library, self._player
        ends = [0, 0]
        for port in (*self._inputs, *self._outputs):
            for other in self._jack.take_names(library.jack_port_get_all_connections(player, self._port(port))):
                pair = (other, port) if port in self._inputs else (port, other)
                self._kept.append(pair)
                mode = CAPTURE if port in self._inputs else PLAYBACK
                ends[mode] = max(ends[mode], self._latency_of(other, mode))
                library.jack_disconnect(player, *pair)
        self.ends_ms = (1000.0 * ends[CAPTURE] / self.rate_hz, 1000.0 * ends[PLAYBACK] / self.rate_hz)
        out, into = library.jack_port_name(self._out), library.jack_port_name(self._in)
        for pair in [*((out, port) for port in self._inputs), (self._outputs[0], into)]:
            self._connect(*pair)

    def _connect(self, source: bytes, target: bytes) -> None:
        deadline_s = time.monotonic() + CONNECT_S
        while self._jack.library.jack_connect(self._player, source, target) != 0:
            if time.monotonic() > deadline_s:
                raise LoopError(
                    f"{source.decode()} cannot be connected to {target.decode()}: is the JACK server patched by others?"
                )
            time.sleep(0.1)

    def _latency_of(self, name: bytes, mode: int) -> int:
        found = LatencyRange()
        self._jack.library.jack_port_get_latency_range(self._port(name), mode, ctypes.byref(found))
        return int(found.max) if found.max < self.rate_hz else 0  # PipeWire's may be nonsense before the first cycle

    def _port(self, name: bytes) -> Any:
        return self._jack.library.jack_port_by_name(self._player, name)

    def close(self) -> None:
        """Connect what was connected, and leave."""
        library, player = self._jack.library, self._player
        if player is None:
            return
        own = (library.jack_port_name(self._out), library.jack_port_name(self._in))
        with contextlib.suppress(OSError):
            for port in self._inputs:
                library.jack_disconnect(player, own[0], port)
            library.jack_disconnect(player, self._outputs[0], own[1])
            for pair in self._kept:
                library.jack_connect(player, *pair)
        if self._recorder:
            library.jack_deactivate(self._recorder)
            library.jack_client_close(self._recorder)
        library.jack_deactivate(player)
        library.jack_client_close(player)
        self._player = self._recorder = None
        lib.rvcd_probe_free(self._probe)
        self._probe = ffi.NULL
