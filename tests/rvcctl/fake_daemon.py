"""A small honest daemon on a loopback port: it speaks the control protocol and converts nothing. Also runs by hand:

python -m tests.rvcctl.fake_daemon [port]
"""

from __future__ import annotations

import dataclasses
import math
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rvcctl.reading import messages_of
from rvcd import protocol
from rvcd.errors import ProtocolError
from rvcd.osc.codec import OscMessage, OscValue, encode
from rvcd.params import BY_ADDRESS

RANGES = {"/pitch": (-24.0, 24.0), "/gain/in": (-60.0, 24.0), "/gain/out": (-60.0, 24.0), "/gate": (-90.0, 0.0)}


class FakeDaemon:
    """State, one thread that answers, and `received` with every message that came. Push with push_stats()."""

    def __init__(self, port: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))
        self.port: int = self.socket.getsockname()[1]
        self.stats = protocol.Stats(
            state="live", voice="demo", voice_slot=1, f0_method="swift", in_peak_dbfs=-18.0, out_peak_dbfs=-20.0,
            f0_hz=220.0, latency_total_ms=190.7, latency_device_in_ms=5.3, latency_block_ms=100.0, latency_lookahead_ms=40.0,
            latency_deadline_ms=40.0, latency_device_out_ms=5.4, ring_fill=0.5, load=0.42, load_p95=0.61, blocks=1000,
            encode_ms=20.0, pitch_ms=8.0, synthesis_ms=14.0, rate_hz=48000, device="virtual loop", uptime_s=61.0,
            scheduling="FIFO 60",
        )  # fmt: skip
        self.numbers = dict.fromkeys(BY_ADDRESS, 0.0)
        self.voices = ["demo", "alto"]
        self.presets = ["Deep", "Bright"]
        self.received: list[OscMessage] = []
        self.subscribers: set[tuple[str, int]] = set()
        self.silent = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Close the socket and wait for the thread."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"stop", ("127.0.0.1", self.port))
        self._thread.join()
        self.socket.close()

    def push_stats(self) -> None:
        """Send the present stats to every subscriber."""
        for peer in list(self.subscribers):
            self._send(peer, "/stats", *dataclasses.astuple(self.stats))

    def raw(self, datagram: bytes) -> None:
        """Send bytes as they are to every subscriber."""
        for peer in list(self.subscribers):
            self.socket.sendto(datagram, peer)

    def addresses(self) -> list[str]:
        """Return the addresses that came, without prefix."""
        return [message.address.removeprefix(protocol.PREFIX) for message in list(self.received)]

    def _serve(self) -> None:
        while True:
            datagram, peer = self.socket.recvfrom(65536)
            if datagram == b"stop":
                return
            try:
                messages = messages_of(datagram)
            except ProtocolError:
                continue
            for message in messages:
                self.received.append(message)
                if not self.silent:
                    self._answer(peer, message.address.removeprefix(protocol.PREFIX), message.args)

    def _send(self, peer: tuple[str, int], address: str, *args: str | int | float) -> None:
        self.socket.sendto(encode(protocol.PREFIX + address, *args), peer)

    def _answer(self, peer: tuple[str, int], address: str, args: tuple[OscValue, ...]) -> None:
        if address == "/subscribe":
            self.subscribers.add(peer)
            self._send(peer, "/done", "/rvc/subscribe")
            for number in self.numbers:
                self._send(peer, number, self.numbers[number])
            for name in ("bypass", "mute", "panic"):
                self._send(peer, f"/{name}", int(getattr(self.stats, name)))
            self._send(peer, "/voice", self.stats.voice)
            self._send(peer, "/voice/slot", self.stats.voice_slot)
            self._send(peer, "/f0/method", self.stats.f0_method)
            self._send(peer, "/stats", *dataclasses.astuple(self.stats))
        elif address == "/unsubscribe":
            self.subscribers.discard(peer)
            self._send(peer, "/done", "/rvc/unsubscribe")
        elif address == "/stats":
            self._send(peer, "/stats", *dataclasses.astuple(self.stats))
        elif address == "/ping":
            self._send(peer, "/pong")
        elif address in self.numbers:
            self._number(peer, address, args)
        elif address in (*protocol.SWITCH_ADDRESSES, "/panic", "/panic/clear"):
            self._switch(peer, address, args)
        else:
            self._names(peer, address, args)

    def _number(self, peer: tuple[str, int], address: str, args: tuple[OscValue, ...]) -> None:
        if args:
            value = args[0]
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                self._send(peer, "/fail", protocol.PREFIX + address, "a finite number is needed")
                return
            low, high = RANGES.get(address, (0.0, 1.0))
            self.numbers[address] = min(max(float(value), low), high)
        self._send(peer, address, self.numbers[address])

    def _switch(self, peer: tuple[str, int], address: str, args: tuple[OscValue, ...]) -> None:
        if address.startswith("/panic"):
            self._change(panic=int(address == "/panic"))
            address = "/panic"
        elif args:
            self._change(**{protocol.switch_name(address): int(bool(args[0]))})
        self._send(peer, address, int(getattr(self.stats, protocol.switch_name(address))))

    def _change(self, **changes: int) -> None:
        stats = dataclasses.replace(self.stats, **changes)  # type: ignore[arg-type]
        state = "panic" if stats.panic else "muted" if stats.mute else "bypass" if stats.bypass else "live"
        self.stats = dataclasses.replace(stats, state=state)

    def _names(self, peer: tuple[str, int], address: str, args: tuple[OscValue, ...]) -> None:
        if address in ("/voice/list", "/preset/list"):
            names = self.voices if address == "/voice/list" else self.presets
            for number, name in enumerate(names, start=1):
                self._send(peer, address, number, name)
            self._send(peer, f"{address}/end", len(names))
        elif address == "/preset/save" and args:
            self.presets.append(str(args[0]))
            self._send(peer, "/done", "/rvc/preset/save", str(args[0]))
        elif address == "/voice" and args and args[0] in self.voices:
            self.stats = dataclasses.replace(self.stats, voice=str(args[0]))
            self._send(peer, "/done", "/rvc/voice", str(args[0]))
            self._send(peer, "/voice", self.stats.voice)
        elif address == "/voice" and not args:
            self._send(peer, "/voice", self.stats.voice)
        elif address == "/monitor/source" and (not args or args[0] in protocol.MONITOR_SOURCES):
            if args:
                self.stats = dataclasses.replace(self.stats, monitor_source=str(args[0]))
            self._send(peer, "/monitor/source", self.stats.monitor_source)
        elif address == "/pitch/mode" and (not args or args[0] in protocol.PITCH_MODES):
            if args:
                self.stats = dataclasses.replace(self.stats, pitch_mode=str(args[0]))
            self._send(peer, "/pitch/mode", self.stats.pitch_mode)
        elif address == "/f0/method" and (not args or args[0] in protocol.F0_METHODS):
            if args:
                self.stats = dataclasses.replace(self.stats, f0_method=str(args[0]))
                self._send(peer, "/done", "/rvc/f0/method", self.stats.f0_method)
            self._send(peer, "/f0/method", self.stats.f0_method)
        else:
            known = "no voice of that name; known: demo, alto" if address == "/voice" else "cannot do that"
            self._send(peer, "/fail", protocol.PREFIX + address, known)


@contextmanager
def running_daemon() -> Iterator[FakeDaemon]:
    """Start a daemon on a free port and stop it afterwards."""
    daemon = FakeDaemon()
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()


def perform(daemon: FakeDaemon) -> None:
    """Push a lively show at 12 Hz until interrupted, for looking at the screen by hand."""
    start_s = time.monotonic()
    while True:
        t = time.monotonic() - start_s
        loud = -26 + 20 * math.sin(1.7 * t) * math.sin(0.3 * t)
        daemon.stats = dataclasses.replace(
            daemon.stats, in_peak_dbfs=loud, out_peak_dbfs=loud - 3 + 4 * math.sin(5 * t), in_clips=int(t // 20),
            f0_hz=220 * 2 ** (0.5 * math.sin(0.8 * t) + 0.02 * math.sin(9 * t)) if math.sin(0.5 * t) > -0.7 else 0.0,
            load=0.45 + 0.2 * math.sin(0.9 * t) + (0.7 if int(t) % 15 == 14 else 0.0), load_p95=0.71,
            ring_fill=0.5 + 0.2 * math.sin(0.6 * t), blocks=int(10 * t), late_blocks=int(t // 15),
            expired_samples=960 * int(t // 15),
            output_xruns=1, callback_gap_max_ms=6.4, uptime_s=t + 754,
        )  # fmt: skip
        daemon.push_stats()
        time.sleep(1 / 12)


if __name__ == "__main__":
    by_hand = FakeDaemon(int(sys.argv[1]) if len(sys.argv) > 1 else protocol.DEFAULT_PORT)
    by_hand.start()
    perform(by_hand)
