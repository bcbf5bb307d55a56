"""The command line: what each command asks of the rest, and that a user never sees a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rvcd.cli import main as cli
from rvcd.config.settings import DEFAULT_CONFIG, Settings
from rvcd.daemon.worker import WorkerChild
from rvcd.errors import AudioDeviceError
from rvcd.params import BY_NAME
from rvcd.protocol import PROTOCOL_VERSION
from tests.cli.machine import Machine

# ---- the command line itself


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["render"], ["check", "--nope"], ["render", "a", "b", "--pitch", "99"], ["voice"]]
)
def test_a_wrong_command_line_is_explained_and_exits_with_2(arguments: list[str], rvcd: Any) -> None:
    code, out, err = rvcd(*arguments)
    assert code == 2
    assert "Usage: rvcd" in out + err


def test_the_version_names_the_protocol(rvcd: Any) -> None:
    code, out, _ = rvcd("version")
    assert code == 0
    assert out.startswith("rvcd ")
    assert f"OSC protocol {PROTOCOL_VERSION}" in out


def test_every_problem_of_a_configuration_has_its_line(machine: Machine, rvcd: Any, config: Any) -> None:
    path = config("[audio]\nrate = 3\n[params]\npitch = 99\n")
    for command in (["check"], ["run"], ["assets"], ["voice", "list"]):
        code, _, err = rvcd(*command, "--config", path)
        assert code == 1
        assert err.splitlines() == [
            f"{path} has 2 problem(s):",
            "  audio.rate: unknown key; did you mean 'rate_hz'?",
            "  params.pitch: 99 is too large; it takes a number, -24..24 semitones",
        ]


def test_a_fault_of_our_own_is_one_line_too(machine: Machine, rvcd: Any) -> None:
    machine.broken = ZeroDivisionError("division by zero")
    code, _, err = rvcd("devices")
    assert code == 70
    assert err == "rvcd: internal error: ZeroDivisionError: division by zero (a fault in rvcd; RVCD_DEBUG=1 shows where)\n"


def test_an_interruption_is_quiet(machine: Machine, rvcd: Any) -> None:
    machine.broken = KeyboardInterrupt()  # type: ignore[assignment]
    code, _, err = rvcd("devices")
    assert code in (1, 130)
    assert len(err.splitlines()) <= 2


def test_a_closed_pipe_is_quiet() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    command = f"'{sys.executable}' -m rvcd.cli.main config | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, env=environment)
    assert result.stderr == ""


# ---- config


def test_config_prints_the_documented_default(rvcd: Any) -> None:
    assert rvcd("config") == (0, DEFAULT_CONFIG.read_text(), "")


def test_config_writes_a_file_once(rvcd: Any, tmp_path: Path) -> None:
    target = tmp_path / "new" / "rvcd.toml"
    assert rvcd("config", "--write", target)[0] == 0
    assert target.read_text() == DEFAULT_CONFIG.read_text()
    target.write_text("mine")
    code, _, err = rvcd("config", "--write", target)
    assert (code, err) == (1, f"rvcd: {target}: exists already, and is kept; choose another name\n")
    assert target.read_text() == "mine"


# ---- run


def test_run_starts_the_daemon_with_the_settings(machine: Machine, rvcd: Any, config: Any) -> None:
    assert rvcd("run", "--config", config("[osc]\nport = 9999"))[0] == 0
    assert [settings.osc.port for settings in machine.ran] == [9999]


def test_only_rvcd_itself_writes_to_stderr_while_it_runs(machine: Machine, rvcd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def noisy(settings: Settings, worker: WorkerChild) -> None:
        os.write(2, b"ALSA lib pcm.c: underrun occurred\n")
        print("12:00:00 INFO daemon: live", file=sys.stderr)

    monkeypatch.setattr("rvcd.daemon.main.run", noisy)
    assert rvcd("run")[2] == "12:00:00 INFO daemon: live\n"
    monkeypatch.setenv("RVCD_DEBUG", "1")
    assert "underrun" in rvcd("run")[2]


# ---- devices, assets


def test_devices_are_listed_for_people_and_scripts(machine: Machine, rvcd: Any) -> None:
    _, out, _ = rvcd("devices")
    assert out.splitlines()[1].split("\t") == ["0", "Desk microphone", "ALSA", "1", "0", "48000"]
    _, out, _ = rvcd("devices", "--json")
    assert json.loads(out)[1]["name"] == "Speakers"
    machine.devices = []
    assert "virtual device" in rvcd("devices")[1]


def test_the_osc_reference_is_listed_for_people_scripts_and_the_readme(rvcd: Any) -> None:
    _, out, _ = rvcd("osc", "--list")
    rows = {row.split("\t")[0]: row.split("\t")[1:] for row in out.splitlines()}
    pitch = BY_NAME["pitch"]
    assert rows["/rvc/pitch"] == ["f or i; none asks", "-24..24 semitones", "/rvc/pitch ,f", pitch.doc, "/rvc/pitch f 1"]
    assert "group meters" in rows["/rvc/meter/in/peak"][3]
    _, out, _ = rvcd("osc", "--json")
    assert {"address", "arguments", "range", "reply", "doc", "example"} == set(json.loads(out)[0])
    _, out, _ = rvcd("osc", "--markdown")
    assert out.startswith("| Address |")
    assert rvcd("osc", "--markdown", "--json")[0] == 1


def test_a_missing_sound_library_is_one_line(machine: Machine, rvcd: Any) -> None:
    machine.broken = AudioDeviceError("PortAudio is not installed: run `sudo apt install libportaudio2`")
    assert rvcd("devices") == (1, "", "rvcd: PortAudio is not installed: run `sudo apt install libportaudio2`\n")


def test_assets_names_what_to_download_and_what_is_there(machine: Machine, rvcd: Any, config: Any, tmp_path: Path) -> None:
    _, out, _ = rvcd("assets")
    assert "hubert_base.pt\t189,507,909" in out
    assert "f54b40fd2802423a5643779c4861af1e9ee9c1564dc9d32f54f20b5ffba7db96" in out
    assert "present" not in out
    (tmp_path / "own.pt").write_bytes(b"mine")
    _, out, _ = rvcd("assets", "-c", config('[models]\ncontent_encoder = "own.pt"'))
    assert f"models.content_encoder = {tmp_path / 'own.pt'}: not a published file\n" in out
