"""Clients made with OSC implementations that are not ours, all with one face, for tests of interoperability.

Each listens on a port of its own and sends from that port. Where an implementation is not installed, making its client skips
the test.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.waiting import HANG_S

Received = tuple[str, tuple[Any, ...]]
Sent = tuple[str, tuple[Any, ...]]
"""Address and arguments, as Python values: int i, float f, str s, bool T or F."""


class ForeignClient(Protocol):
    """port: where it listens. inbox: every message that came, in order; a thread of the client's fills it."""

    port: int
    inbox: list[Received]

    def send(self, address: str, *args: object) -> None:
        """Send one message."""

    def send_bundle(self, ahead_s: float, *messages: Sent) -> None:
        """Send messages as one bundle whose time is so far in the future."""

    def close(self) -> None:
        """Stop listening."""


class LibloClient:
    """liblo, in C, through pyliblo3."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._liblo = pytest.importorskip("pyliblo3")
        self.inbox: list[Received] = []
        self._thread = self._liblo.ServerThread()
        self._thread.add_method(None, None, lambda path, args, types, source, user: self.inbox.append((path, tuple(args))))
        self._thread.start()
        self.port = int(self._thread.port)
        self._server = self._liblo.Address(*server)

    def send(self, address: str, *args: object) -> None:
        self._thread.send(self._server, self._message(address, *args))

    def send_bundle(self, ahead_s: float, *messages: Sent) -> None:
        made = (self._message(address, *args) for address, args in messages)
        self._thread.send(self._server, self._liblo.Bundle(self._liblo.time() + ahead_s, *made))

    def close(self) -> None:
        self._thread.stop()
        self._thread.free()

    def _message(self, address: str, *args: object) -> Any:
        return self._liblo.Message(address, *((_tag(value), value) for value in args))


class OscpyClient:
    """oscpy, in pure Python."""

    def __init__(self, server: tuple[str, int]) -> None:
        server_module = pytest.importorskip("oscpy.server")
        self.inbox: list[Received] = []
        self._server = server
        self._thread = server_module.OSCThreadServer(encoding="utf8", default_handler=self._receive)
        self._thread.listen(address="127.0.0.1", port=0, default=True)
        self.port = int(self._thread.getaddress()[1])

    def send(self, address: str, *args: object) -> None:
        self._thread.send_message(address.encode(), list(args), *self._server)

    def send_bundle(self, ahead_s: float, *messages: Sent) -> None:
        made = [(address.encode(), list(args)) for address, args in messages]
        self._thread.send_bundle(made, *self._server, timetag=time.time() + ahead_s)

    def close(self) -> None:
        self._thread.terminate_server()
        self._thread.join_server(timeout=HANG_S)
        self._thread.stop_all()

    def _receive(self, address: str | bytes, *args: object) -> None:
        self.inbox.append((_text(address), tuple(_text(value) if isinstance(value, bytes) else value for value in args)))


class OscJsClient:
    """osc.js, in JavaScript, which Bitfocus Companion and Open Stage Control are built on."""

    def __init__(self, server: tuple[str, int]) -> None:
        node = shutil.which("node")
        script = Path(__file__).with_name("osc_js_client.js")
        if not node or subprocess.run([node, "-e", "require('osc')"], capture_output=True, check=False).returncode:
            pytest.skip("node, or its package osc on NODE_PATH, is not installed")
        self.inbox: list[Received] = []
        self._process = subprocess.Popen(
            [node, str(script), server[0], str(server[1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        assert self._process.stdout is not None
        self.port = int(json.loads(self._process.stdout.readline())["port"])
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, address: str, *args: object) -> None:
        self._write(self._message(address, *args))

    def send_bundle(self, ahead_s: float, *messages: Sent) -> None:
        self._write({"timeTag": ahead_s, "packets": [self._message(address, *args) for address, args in messages]})

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(HANG_S)
        self._reader.join(HANG_S)
        self._process.stdout.close()

    def _message(self, address: str, *args: object) -> dict[str, object]:
        return {"address": address, "args": [{"type": _tag(value), "value": value} for value in args]}

    def _write(self, packet: dict[str, object]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(packet) + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            assert "error" not in message, message
            values = (
                int(a["value"]) if a["type"] == "i" else float(a["value"]) if a["type"] == "f" else a["value"]
                for a in message["args"]
            )
            self.inbox.append((message["address"], tuple(values)))


FOREIGN = {"liblo": LibloClient, "oscpy": OscpyClient, "osc.js": OscJsClient}


def _tag(value: object) -> str:
    if isinstance(value, bool):
        return "T" if value else "F"
    return {int: "i", float: "f", str: "s"}[type(value)]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
