"""The monitor on a device of its own: PortAudio on a jackd that dies, while the main device goes on to the sample."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.audio.conftest import JackServer, running_jack_server
from tests.daemon_process import CONVERTING, DaemonProcess, running
from tests.waiting import eventually

RATE_HZ = 48000
CONFIG = """
[audio]
backend = "virtual"
[audio.virtual]
input = "{folder}/noise.wav"
output = "{folder}/out.wav"
[audio.monitor]
device = "{device}"
source = "microphone"
"""


def lsp(server: JackServer) -> str:
    return subprocess.run(["jack_lsp", "-s", server.name, "-c"], capture_output=True, text=True, check=False).stdout


def monitors(daemon: DaemonProcess) -> list[int]:
    assert daemon.process is not None
    children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"rvcd.monitor" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.fixture
def noise(tmp_path: Path) -> np.ndarray:
    samples = (0.25 * np.random.default_rng(5).uniform(-1, 1, 10 * RATE_HZ)).astype(np.float32)
    soundfile.write(tmp_path / "noise.wav", samples, RATE_HZ, subtype="FLOAT")
    return samples


@pytest.mark.soak
def test_a_monitor_whose_server_dies_leaves_the_main_output_as_it_is_and_comes_back(tmp_path: Path, noise: np.ndarray) -> None:
    with running_jack_server(RATE_HZ, 512) as server:
        environment = {"JACK_DEFAULT_SERVER": server.name, "JACK_NO_START_SERVER": "1"}
        with running(tmp_path, CONFIG.format(folder=tmp_path, device="default"), environment) as daemon:
            daemon.osc.until(lambda s: s.monitor_state == "open")
            daemon.osc.send("/rvc/bypass", 1)  # so that the main output is known to the sample
            daemon.osc.until(lambda s: s.state == "bypass" and s.monitor_peak_dbfs > -20)
            assert "rvcd-monitor:out_0" in lsp(server)
            begun = daemon.osc.stats().uptime_s
            latency = round(daemon.osc.stats().latency_total_ms * RATE_HZ / 1000)
            server.stop(signal.SIGKILL)
            lost = daemon.osc.until(lambda s: s.monitor_state == "waiting")
            assert lost.state == "bypass" and lost.out_peak_dbfs > -20
            assert lost.monitor_problem
            server.start()
            daemon.osc.until(lambda s: s.monitor_state == "open" and s.monitor_peak_dbfs > -20)
            eventually(lambda: "rvcd-monitor:out_0" in lsp(server))
            ended = daemon.osc.until(lambda s: s.uptime_s > begun + 3.0).uptime_s
            assert len(monitors(daemon)) == 1
            log = daemon.log
        assert log.count("stopped calling") + log.count("process ended") == 1
    played, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    # From when bypass was known to hold until the end, less what fades: every sample is the one of a latency ago.
    first, last = int((begun + 0.5) * RATE_HZ), min(len(played), int(ended * RATE_HZ)) - RATE_HZ
    assert last - first > RATE_HZ
    offset = np.arange(first, last) - latency
    assert np.array_equal(played[first:last], noise[offset % len(noise)])


def test_a_monitor_that_is_not_there_is_said_and_the_voice_goes_out(tmp_path: Path, noise: np.ndarray) -> None:
    with (
        running_jack_server(RATE_HZ, 512) as server,
        running(tmp_path, CONFIG.format(folder=tmp_path, device="headphnes"), {"JACK_DEFAULT_SERVER": server.name}) as daemon,
    ):
        told = daemon.osc.until(lambda s: s.monitor_problem != "" and s.state in CONVERTING)
        assert told.monitor_state == "waiting"
        assert told.monitor_problem.startswith("audio.monitor.device: output device 'headphnes' was not found")
        assert daemon.log.count("'headphnes' was not found") == 1
