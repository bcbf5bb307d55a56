"""Fixtures of the audio room: a callback driven by hand, a worker in a thread, and a JACK server on the dummy driver."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rvcd.audio.scheduling import try_out
from rvcd.ipc._native import ffi, lib
from rvcd.ipc.segment import AudioSegment, ReadStatus
from tests.waiting import HANG_S

RATE_HZ = 48000
SERVER_PRIORITY = 40
_numbers = itertools.count()


class HandDriven:
    """A device whose callback runs when the test says so."""

    def __init__(self, segment: AudioSegment, in_channels: int = 1, out_channels: int = 1) -> None:
        self.segment = segment
        self.channels = (in_channels, out_channels)
        self.context = lib.rvcd_context_new(segment.hold(), in_channels, out_channels)
        lib.rvcd_context_claim(self.context)

    def process(self, samples: np.ndarray, flags: int = 0) -> np.ndarray:
        """Run one callback over (T,) or (T, in_channels); return (T,) or (T, out_channels)."""
        frames = np.ascontiguousarray(samples, np.float32)
        played = np.full((len(frames), self.channels[1]), 99.0, np.float32)
        self.result = lib.rvcd_process(
            self.context,
            ffi.from_buffer("float[]", frames) if len(frames) else ffi.NULL,
            ffi.from_buffer("float[]", played) if len(frames) else ffi.NULL,
            len(frames),
            flags,
        )
        return played[:, 0] if self.channels[1] == 1 else played

    def close(self) -> None:
        lib.rvcd_context_free(self.context)
        self.segment.let_go()


class EchoWorker:
    """A worker in a thread: output = gain * input, `latency` later, block by block."""

    def __init__(self, segment: AudioSegment, block: int = 480, gain: float = -0.5) -> None:
        self.segment, self.block, self.gain = segment, block, gain
        self.lapped = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        segment, latency = self.segment, self.segment.latency_samples()
        position = segment.device_position()
        block = np.empty(self.block, np.float32)
        segment.set_worker_ready(True)
        while not self._stop.is_set():
            if not segment.wait_input(position + self.block, 0.05):
                continue
            if segment.read_input(position, block) is ReadStatus.OK:
                segment.write_output(position + latency, (self.gain * block).astype(np.float32))
            else:
                self.lapped += 1
            position += self.block

    def __enter__(self) -> EchoWorker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


class JackServer:
    """A jackd on the dummy driver, under a name nobody else uses."""

    def __init__(self, rate_hz: int = RATE_HZ, period_samples: int = 1024) -> None:
        self.name = f"rvcd-test-{os.getpid()}-{next(_numbers)}"
        self.rate_hz, self.period_samples = rate_hz, period_samples
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False

    def start(self) -> None:
        environment = {**os.environ, "JACK_NO_AUDIO_RESERVATION": "1"}
        scheduling = try_out().device.scheduling
        may = scheduling is not None and scheduling.priority > SERVER_PRIORITY
        # In real time where that is allowed, as on a musician's machine: nothing then stalls the server but the host.
        command = [
            "jackd",
            "-n",
            self.name,
            *(["-R", "-P", str(SERVER_PRIORITY)] if may else ["-r"]),
            "-S",
            "-t",
            "5000",
            "-d",
            "dummy",
            "-r",
            str(self.rate_hz),
        ]
        command += ["-p", str(self.period_samples), "-C", "2", "-P", "2"]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline_s = time.monotonic() + HANG_S
        while time.monotonic() < deadline_s:
            if self._process.poll() is not None:
                pytest.skip(f"jackd ended at once with status {self._process.returncode}")
            if subprocess.run(["jack_lsp", "-s", self.name], capture_output=True, check=False, timeout=HANG_S).returncode == 0:
                return
            time.sleep(0.1)
        self.stop()
        pytest.fail(f"jackd did not answer within {HANG_S:g} s")

    def stop(self, with_signal: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(with_signal)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:  # some versions hang at the end now and then
                with_signal = signal.SIGKILL
                self._process.kill()
                self._process.wait(HANG_S)
            self._process = None
            self._killed = with_signal == signal.SIGKILL

    def forget(self) -> None:
        """Leave nothing behind. A killed server stays in JACK's registry, which holds eight, until its name ends in order."""
        self.stop()
        if self._killed:
            self.start()
            self.stop()
        for leftover in Path("/dev/shm").glob(f"jack_*{self.name}*"):
            leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def running_jack_server(rate_hz: int = RATE_HZ, period_samples: int = 1024) -> Iterator[JackServer]:
    """Run a JACK server, or skip the test where there is none."""
    for program in ("jackd", "jack_lsp"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt install jackd2 jack-tools")
    server = JackServer(rate_hz, period_samples)
    try:
        server.start()
        yield server
    finally:
        server.forget()


@pytest.fixture
def jack_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JackServer]:
    """A running JACK server that is the default one for clients of this process."""
    with running_jack_server() as server:
        monkeypatch.setenv("JACK_DEFAULT_SERVER", server.name)
        monkeypatch.setenv("JACK_NO_START_SERVER", "1")
        yield server


def lsp(server: JackServer, *args: str) -> str:
    """What jack_lsp prints of a server."""
    found = subprocess.run(["jack_lsp", "-s", server.name, *args], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found
    return found.stdout
