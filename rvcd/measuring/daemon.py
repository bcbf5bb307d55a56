"""The running daemon, asked and steered over OSC: what it publishes, and bypass for as long as the measurement takes."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from rvcd.errors import DaemonUnreachableError, ProtocolError, RvcdError
from rvcd.osc.codec import OscMessage, decode, encode
from rvcd.protocol import PREFIX, State, Stats, stats_from_args

ANSWER_S = 1.0
TRIES = 4
BYPASS_S = 5.0
MAX_ARGUMENTS = 128


class RunningDaemon:
    """A daemon at host and port. Raises DaemonUnreachableError when nobody answers."""

    def __init__(self, host: str, port: int) -> None:
        self._where = f"{host}:{port}"
        try:
            family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(family, kind, number)
            self._socket.connect(address)
        except OSError as error:
            raise DaemonUnreachableError(
                f"cannot reach {self._where}: {error.strerror or error}; check --host and --port"
            ) from None
        self._bypass_before: int | None = None

    def stats(self) -> Stats:
        """Return what it publishes now."""
        return stats_from_args(self._ask("/stats").args)

    def begin_bypass(self) -> Stats:
        """Have the raw input played instead of the voice. Raises RvcdError where something else keeps it silent."""
        stats = self.stats()
        reason = _why_silent(stats)
        if reason:
            raise RvcdError(f"rvcd is {reason}")
        self._bypass_before = stats.bypass
        self._ask("/bypass", 1)
        deadline_s = time.monotonic() + BYPASS_S
        while (stats := self.stats()).state != State.BYPASS.value:
            if time.monotonic() > deadline_s:
                raise RvcdError(f"rvcd is '{stats.state}' and takes no bypass: try again when it is live")
            time.sleep(0.1)
        return stats

    def close(self) -> None:
        """Set bypass as it was found; may be called twice."""
        before, self._bypass_before = self._bypass_before, None
        if before is not None:
            self._ask("/bypass", before)
        self._socket.close()

    def _ask(self, address: str, *args: int) -> OscMessage:
        wanted = PREFIX + address
        for _ in range(TRIES):
            try:
                self._socket.send(encode(wanted, *args))
                answer = self._receive(lambda message: message.address == wanted, time.monotonic() + ANSWER_S)
            except ConnectionRefusedError:
                break
            if answer is not None:
                return answer
        raise DaemonUnreachableError(f"no rvcd answers at {self._where}: start it with `rvcd run`, or name its --port")

    def _receive(self, is_it: Callable[[OscMessage], bool], deadline_s: float) -> OscMessage | None:
        while (left_s := deadline_s - time.monotonic()) > 0:
            self._socket.settimeout(left_s)
            try:
                messages = decode(self._socket.recv(65536), max_arguments=MAX_ARGUMENTS)
            except (TimeoutError, ProtocolError):
                continue
            for message in messages:
                if is_it(message):
                    return message
        return None


def _why_silent(stats: Stats) -> str:
    if stats.panic:
        return "in panic: clear it first (rvcctl panic --clear)"
    if stats.mute:
        return "muted: unmute it first (rvcctl set mute 0); nothing is sent to your speakers meanwhile"
    if stats.state == State.NO_DEVICE.value:
        return "without an audio device: `rvcctl log` says why"
    if stats.state == State.STANDBY.value:
        return 'in standby until /rvc/talk is held: set talk.mode = "off" to measure'
    return ""
