"""`rvcd measure-latency` as its user runs it: on a JACK server of its own, and where there is nothing to measure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rvcd.measuring.jack_loop import PORT
from tests.audio.conftest import running_jack_server
from tests.daemon_process import CONVERTING, DaemonProcess, running
from tests.waiting import HANG_S, eventually, free_port, signals_as_at_a_terminal

CONFIG = """
[audio]
backend = "portaudio"
host_api = "JACK"
[latency]
preset = "safe"
[engine]
threads = 1
"""


def measured(config: Path, *options: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rvcd.cli.main", "measure-latency", "--config", str(config), *options]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=HANG_S, env={**os.environ, **(environment or {})}
    )


@pytest.fixture(scope="module")
def on_jack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DaemonProcess, dict[str, str]]]:
    with running_jack_server(48000, period_samples=1024) as server:
        environment = {"JACK_DEFAULT_SERVER": server.name, "JACK_NO_START_SERVER": "1"}
        with running(tmp_path_factory.mktemp("jack"), CONFIG, environment) as daemon:
            daemon.osc.until(lambda stats: stats.state in CONVERTING)
            yield daemon, environment


def connections(environment: dict[str, str]) -> str:
    return subprocess.run(
        ["jack_lsp", "-s", environment["JACK_DEFAULT_SERVER"], "-c"], capture_output=True, text=True, check=False, timeout=HANG_S
    ).stdout


def test_the_way_through_rvcd_is_what_it_computes_and_all_is_put_back(on_jack: tuple[DaemonProcess, dict[str, str]]) -> None:
    daemon, environment = on_jack
    before = connections(environment)
    done = measured(daemon.config, "--times", "2", "--json", environment=environment)
    assert done.returncode in (0, 4), done.stderr
    report = json.loads(done.stdout)
    own_ms = report["block_ms"] + report["lookahead_ms"] + report["deadline_ms"]
    assert report["through_ms"] == pytest.approx(own_ms, abs=0.03) and report["spread_ms"] == 0
    assert report["measured_ms"] == pytest.approx(report["through_ms"] + sum(report["ends_ms"]))
    assert connections(environment) == before
    stats = daemon.osc.stats()
    assert stats.bypass == 0 and stats.state in CONVERTING


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_puts_all_back(on_jack: tuple[DaemonProcess, dict[str, str]], number: int) -> None:
    daemon, environment = on_jack
    before = connections(environment)
    command = [sys.executable, "-m", "rvcd.cli.main", "measure-latency", "--config", str(daemon.config), "--times", "100"]
    with signals_as_at_a_terminal():
        process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True)
    try:
        daemon.osc.until(lambda stats: stats.bypass == 1)
        assert "latency-player" in connections(environment)
        process.send_signal(number)
        assert "Traceback" not in process.communicate(timeout=HANG_S)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + number
    assert daemon.osc.stats().bypass == 0
    eventually(lambda: connections(environment) == before, "the connections of before")


def test_a_muted_daemon_is_left_as_it_is(on_jack: tuple[DaemonProcess, dict[str, str]]) -> None:
    daemon, environment = on_jack
    before = connections(environment)
    daemon.osc.ask("/rvc/mute", 1)
    try:
        done = measured(daemon.config, environment=environment)
        assert done.returncode == 1 and "muted" in done.stderr and done.stdout == ""
        assert connections(environment) == before and daemon.osc.stats().mute == 1
    finally:
        daemon.osc.ask("/rvc/mute", 0)


def test_a_client_that_is_not_there_is_said(on_jack: tuple[DaemonProcess, dict[str, str]]) -> None:
    daemon, environment = on_jack
    done = measured(daemon.config, "--client", "nobody", environment=environment)
    assert done.returncode == 1 and "'nobody'" in done.stderr and done.stderr.count("\n") == 1


def test_without_a_daemon_it_says_so_with_its_own_exit_code(tmp_path: Path) -> None:
    config = tmp_path / "rvcd.toml"
    config.write_text(f"[osc]\nport = {free_port()}\n")
    done = measured(config)
    assert done.returncode == 3 and "rvcd run" in done.stderr and done.stderr.count("\n") == 1


def test_the_virtual_device_has_nothing_to_measure(tmp_path: Path) -> None:
    with running(tmp_path, '[audio]\nbackend = "virtual"\n') as daemon:
        done = measured(daemon.config)
        assert done.returncode == 1 and "--cable" in done.stderr
    done = measured(daemon.config, "--cable")
    assert done.returncode == 1 and "virtual device" in done.stderr


def test_a_chirp_louder_than_is_safe_is_refused() -> None:
    done = measured(Path("none.toml"), "--level", "0")
    assert done.returncode == 2 and "-6" in done.stderr


@pytest.mark.parametrize("name", [b"rvcd:in", b"rvcd:in_1", b"rvcd:out_left", b"rvcd-duo:out_right", b"rvcd:out_0"])
def test_ports_of_rvcd_are_measured(name: bytes) -> None:
    assert PORT.fullmatch(name)


@pytest.mark.parametrize("name", [b"rvcd:input_MONO", b"rvcd:capture_MONO", b"rvcd:monitor_left", b"rvcd:playback_FL"])
def test_ports_of_its_microphone_and_monitor_are_not(name: bytes) -> None:
    """PipeWire gives the microphone's node, whose description is rvcd, the same client's name."""
    assert not PORT.fullmatch(name)
