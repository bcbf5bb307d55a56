"""Runs the real daemon as its user would, and talks to it over OSC from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from rvcd.protocol import Stats, stats_from_args
from rvcd.running import RunningDaemon, find_daemon
from tests.waiting import HANG_S, eventually, free_port, signals_as_at_a_terminal

ASK_AGAIN_S = 2.0
"""A datagram may be lost, and before the daemon listens it is."""
_marks = count(1)
DEMO = """
[audio]
backend = "virtual"
[voices]
voice = "test-buzz"
[latency]
preset = "safe"
"""
"""A configuration: one of the test voices converts the demo speech."""

CONVERTING = ("live", "no-input")
"""States of a daemon that converts, on a server whose microphone may be silent."""


class OscClient:
    """A plain OSC client: sends messages, collects what comes back."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))

    def send(self, address: str, *args: object) -> None:
        builder = OscMessageBuilder(address)
        for arg in args:
            builder.add_arg(arg)
        with contextlib.suppress(ConnectionRefusedError):
            self.socket.send(builder.build().dgram)

    def receive(self, timeout_s: float) -> OscMessage | None:
        self.socket.settimeout(max(0.001, timeout_s))
        try:
            return OscMessage(self.socket.recv(65536))
        except (TimeoutError, ConnectionRefusedError):
            return None

    def wait_for(self, *addresses: str, timeout_s: float = HANG_S) -> OscMessage:
        """Return the next message with one of these addresses."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            message = self.receive(left)
            if message is not None and message.address in addresses:
                return message
        raise AssertionError(f"none of {addresses} came within {timeout_s} s")

    def settle(self, timeout_s: float = HANG_S) -> None:
        """Wait until the daemon has taken what was sent before, and throw away its answers up to here."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            mark = f"mark {next(_marks)}"
            self.send("/rvc/ping", mark)
            with contextlib.suppress(AssertionError):
                while self.wait_for("/rvc/pong", timeout_s=min(left, ASK_AGAIN_S)).params != [mark]:
                    pass  # the answer to an older one
                return
            time.sleep(0.05)
        raise AssertionError(f"the daemon has not answered for {timeout_s} s")

    def ask(self, address: str, *args: object, timeout_s: float = HANG_S) -> OscMessage:
        """Send, and return the message with the same address, or /rvc/fail."""
        self.send(address, *args)
        return self.wait_for(address, "/rvc/fail", timeout_s=timeout_s)

    def do(self, address: str, *args: object, timeout_s: float = HANG_S) -> OscMessage:
        """Send a slow command, and return its /done or /fail."""
        time.sleep(0.3)  # slow commands are limited to four a second
        self.send(address, *args)
        return self.wait_for("/rvc/done", "/rvc/fail", timeout_s=timeout_s)

    def stats(self, timeout_s: float = HANG_S) -> Stats:
        """Return telemetry from after this call: an answer to an earlier question may still be on its way."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.settle(max(0.0, deadline - time.monotonic()))
            self.send("/rvc/stats")
            with contextlib.suppress(AssertionError):
                return stats_from_args(self.wait_for("/rvc/stats", timeout_s=ASK_AGAIN_S).params)

    def until(self, what: Callable[[Stats], bool], timeout_s: float = HANG_S) -> Stats:
        """Return the first telemetry for which `what` holds."""
        deadline, last = time.monotonic() + timeout_s, None
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(AssertionError):
                last = self.stats(left)
                if what(last):
                    return last
            time.sleep(0.1)
        raise AssertionError(f"it did not come to that within {timeout_s} s; last: {last}")


class DaemonProcess:
    """One `rvcd run` in a folder of its own. words: what stands after `rvcd run`."""

    def __init__(self, folder: Path, config: str, environment: dict[str, str] | None = None) -> None:
        self.folder, self.port = folder, free_port()
        self.config = folder / "rvcd.toml"
        # The test voices, unless a test names its own models: small, quick, and two of them.
        models = "" if "[models]" in config else '[models]\ncontent_encoder = "test"\n'
        self.config.write_text(f"{config}\n{models}[osc]\nport = {self.port}\n")
        self.log_path = folder / "log.txt"
        self.environment = {
            **os.environ,
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            **(environment or {}),
        }
        self.environment.pop("NOTIFY_SOCKET", None)
        self.environment.update(environment or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.words: tuple[str, ...] = ("--config", str(self.config))
        self.osc = OscClient(self.port)

    def start(self, *under: str) -> DaemonProcess:
        """Start it; under: words of another program that runs it, as strace does."""
        with self.log_path.open("ab") as log, signals_as_at_a_terminal():
            self.process = subprocess.Popen(
                [*under, sys.executable, "-m", "rvcd.cli.main", "run", *self.words],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment,
            )  # fmt: skip
        return self

    def wait_until_it_listens(self) -> None:
        """Wait for its first answer. What is sent before it listens is lost."""
        assert self.process is not None
        deadline = time.monotonic() + HANG_S
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(AssertionError):
                return self.osc.settle(ASK_AGAIN_S)
        raise AssertionError(f"the daemon has ended, or does not answer; its log:\n{self.log}")

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def worker_pid(self) -> int:
        """Return the process number of the daemon's worker."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        workers = [pid for pid in children if b"rvcd.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(workers) == 1, children
        return int(workers[0])

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the daemon did not stop; its log:\n{self.log}") from None


D = TypeVar("D", bound="DaemonProcess")


class NamedDaemon(DaemonProcess):
    """`rvcd run --name NAME` on one machine with others: the folder is that machine's. Its port is the one that it tells."""

    def __init__(self, folder: Path, name: str, config: str, environment: dict[str, str] | None = None) -> None:
        own = folder / name
        own.mkdir(parents=True, exist_ok=True)
        shared = {f"XDG_{kind.upper()}_HOME": str(folder / kind) for kind in ("state", "config")}
        super().__init__(own, config, {**shared, "RUNTIME_DIRECTORY": str(folder / "run"), **(environment or {})})
        self.name, self.words = name, ("--name", name)
        file = folder / "config" / "rvcd" / f"rvcd@{name}.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.config.read_text().partition("[osc]")[0])

    def told(self) -> RunningDaemon | None:
        """Return what it tells of itself, None before it listens and once it has ended."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RUNTIME_DIRECTORY", self.environment["RUNTIME_DIRECTORY"])
            found = find_daemon(self.name)
        return found if found is not None and found.port else None

    def wait_until_it_listens(self) -> None:
        assert self.process is not None
        process = self.process
        eventually(lambda: self.told() or process.poll() is not None, "a port")
        told = self.told()
        assert told is not None, self.log
        self.port, self.osc = told.port, OscClient(told.port)
        super().wait_until_it_listens()


@contextlib.contextmanager
def running(folder: Path, config: str, environment: dict[str, str] | None = None) -> Iterator[DaemonProcess]:
    """Run a daemon until the block ends; its log is shown when the block fails, and may never hold a traceback."""
    with until_the_block_ends(DaemonProcess(folder, config, environment)) as daemon:
        yield daemon


@contextlib.contextmanager
def until_the_block_ends(daemon: D) -> Iterator[D]:
    """Run a daemon as `running` does."""
    daemon.start()
    try:
        daemon.wait_until_it_listens()
        yield daemon
    except BaseException:
        print(daemon.log)
        daemon.process.kill()  # type: ignore[union-attr]
        daemon.process.wait()  # type: ignore[union-attr]
        raise
    assert daemon.stop() == 0, daemon.log
    assert "Traceback" not in daemon.log, daemon.log
