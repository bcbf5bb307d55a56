"""The daemon as systemd sees it: what arrives at NOTIFY_SOCKET from start to stop. One daemon; its tests run in order."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rvcd.nets.test_weights import ensure_test_weights
from tests.daemon_process import DaemonProcess, running
from tests.waiting import HANG_S, eventually

WATCHDOG_S = 1.0
"""What systemd allows between two signs of life; the daemon is to give one in half of it."""


@dataclass
class FakeSystemd:
    """The receiving end of the notify protocol: keeps each datagram as a dictionary, with the time of its arrival."""

    path: Path
    messages: list[tuple[float, dict[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(0.1)
        self.open = True
        self.thread = threading.Thread(target=self._receive)
        self.thread.start()

    def _receive(self) -> None:
        while self.open:
            with contextlib.suppress(TimeoutError):
                lines = self.socket.recv(65536).decode().splitlines()
                self.messages.append((time.monotonic(), dict(line.split("=", 1) for line in lines)))

    def close(self) -> None:
        self.open = False
        self.thread.join()
        self.socket.close()

    def times(self, key: str, after_s: float = 0.0) -> list[float]:
        """Return when messages with this key came."""
        return [at for at, message in self.messages if key in message and at > after_s]

    def settle(self) -> None:
        """Wait until everything that was sent before has been taken in."""
        mark = f"mark {time.monotonic()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(f"MARK={mark}".encode(), str(self.path))
        self.wait_for(lambda message: message.get("MARK") == mark)

    def wait_for(self, what: Callable[[dict[str, str]], bool], after_s: float = 0.0, timeout_s: float = HANG_S) -> dict[str, str]:
        """Return the first message, of those that came after after_s, for which `what` holds."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            for at, message in list(self.messages):
                if at > after_s and what(message):
                    return message
            time.sleep(0.02)
        raise AssertionError(f"it did not come within {timeout_s} s; messages: {self.messages[-20:]}")


@dataclass
class Service:
    daemon: DaemonProcess
    systemd: FakeSystemd
    voices: Path


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    weights = ensure_test_weights(folder / "weights")
    voices = folder / "voices"
    voices.mkdir()
    shutil.copy(weights.voice_v2, voices / "first.pth")
    config = f"""
[audio]
backend = "virtual"
[models]
content_encoder = "{weights.encoder}"
[voices]
folders = ["{voices}"]
[latency]
preset = "safe"
"""
    systemd = FakeSystemd(folder / "notify")
    environment = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": str(round(1e6 * WATCHDOG_S))}
    try:
        with running(folder, config, environment) as daemon:
            yield Service(daemon, systemd, voices)
            stopped_s = time.monotonic()
        assert systemd.times("STOPPING", stopped_s), "SIGTERM was not followed by STOPPING=1"
        assert max(systemd.times("READY")) < stopped_s
    finally:
        systemd.close()


def test_it_is_ready_only_once_the_voice_is_warm_and_asks_for_time_until_then(service: Service) -> None:
    ready = service.systemd.wait_for(lambda message: "READY" in message)
    assert ready["READY"] == "1"
    stats = service.daemon.osc.stats()
    assert stats.state == "live" and stats.voice == "first"
    assert ready["STATUS"] == f"live, voice first, latency {stats.latency_total_ms:.0f} ms"
    (ready_s,) = service.systemd.times("READY")
    asked = service.systemd.times("EXTEND_TIMEOUT_USEC")
    assert asked and max(asked) < ready_s


def test_signs_of_life_keep_coming_and_the_status_follows_the_state(service: Service) -> None:
    started_s = time.monotonic()
    service.daemon.osc.ask("/rvc/mute", 1)
    service.systemd.wait_for(lambda message: message.get("STATUS", "").startswith("muted, voice first"), started_s)
    service.daemon.osc.ask("/rvc/mute", 0)
    service.systemd.wait_for(lambda message: message.get("STATUS", "").startswith("live, voice first"), time.monotonic())
    # How soon each comes is the machine's business too. That they are due in half of what systemd allows: test_notify_and_logs.
    eventually(lambda: len(service.systemd.times("WATCHDOG", started_s)) >= 4)


def test_a_stopped_control_loop_gives_no_sign_of_life(service: Service) -> None:
    process = service.daemon.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        service.systemd.settle()
        stopped_s = time.monotonic()
        time.sleep(1.5 * WATCHDOG_S)
        assert service.systemd.times("WATCHDOG", stopped_s) == []
    finally:
        process.send_signal(signal.SIGCONT)
    resumed_s = time.monotonic()
    service.systemd.wait_for(lambda message: "WATCHDOG" in message, resumed_s)
    service.daemon.osc.until(lambda stats: stats.state == "live")


def test_a_reload_looks_for_voices_again(service: Service) -> None:
    process, osc = service.daemon.process, service.daemon.osc
    assert process is not None
    osc.until(lambda stats: stats.state == "live")
    shutil.copy(service.voices / "first.pth", service.voices / "second.pth")
    assert osc.do("/rvc/voice", "second").address == "/rvc/fail"
    asked_s = time.monotonic()
    process.send_signal(signal.SIGHUP)
    reloading = service.systemd.wait_for(lambda message: "RELOADING" in message, asked_s)
    assert re.fullmatch(r"\d+", reloading["MONOTONIC_USEC"])
    service.systemd.wait_for(lambda message: "READY" in message, asked_s)
    assert service.systemd.times("RELOADING")[-1] <= service.systemd.times("READY")[-1]
    done = osc.do("/rvc/voice", "second")
    assert done.address == "/rvc/done", done.params
    service.systemd.wait_for(lambda message: "voice second" in message.get("STATUS", ""), asked_s)


def test_a_dead_worker_is_told_in_the_status_and_is_no_reason_to_withhold_signs_of_life(service: Service) -> None:
    killed_s = time.monotonic()
    os.kill(service.daemon.worker_pid(), signal.SIGKILL)
    service.systemd.wait_for(lambda message: message.get("STATUS", "").startswith("recovering"), killed_s)
    eventually(lambda: len(service.systemd.times("WATCHDOG", killed_s)) >= 3)
