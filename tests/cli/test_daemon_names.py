"""--name of the commands of `rvcd`: each reads the configuration and the state of that daemon, and says so in what it advises."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import typer

from rvcd.cli.config import for_name
from rvcd.cli.main import app
from rvcd.config.settings import ANY_PORT, DEFAULT_CONFIG, Settings, load_config, parse_config
from rvcd.daemon.presets import PresetBook, save_presets
from rvcd.daemon.state import SavedState, save_state, state_path
from rvcd.running import Announcement
from tests.cli.conftest import Rvcd
from tests.waiting import free_port

ROOT = Path(__file__).parents[2]
VOICE = ROOT / "tests/data/parity/v2_40k_f0.pth"
WITHOUT_A_DAEMON = {"devices", "osc", "version"}
"""What acts neither on a daemon nor on its configuration."""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a configuration for `deep` beside the unnamed one's, and a variable that names the unnamed one's."""
    for kind in ("CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    for name in ("XDG_RUNTIME_DIR", "PULSE_SERVER", "PULSE_RUNTIME_PATH", "PIPEWIRE_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    folder = tmp_path / "config" / "rvcd"
    folder.mkdir(parents=True)
    common = '[audio]\nbackend = "virtual"\n[models]\ncontent_encoder = "test"\n'
    (folder / "rvcd.toml").write_text(f"{common}[osc]\nport = {free_port()}\n")
    (folder / "rvcd@deep.toml").write_text(f'{common}[voices]\nfolders = ["{tmp_path / "voices"}"]\n')
    monkeypatch.setenv("RVCD_CONFIG", str(folder / "rvcd.toml"))
    return tmp_path


def test_every_command_that_reads_a_configuration_takes_a_name() -> None:
    def commands(group: typer.main.TyperGroup, path: str = "") -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                found.update(commands(command, f"{path}{name} "))
            else:
                found[path + name] = {option for param in command.params for option in param.opts}
        return found

    takes = commands(typer.main.get_command(app))  # type: ignore[arg-type]
    without = {name for name, options in takes.items() if not options & {"--name", "--for"}}
    assert without == WITHOUT_A_DAEMON
    assert {name for name, options in takes.items() if "--config" in options and name in without} == set()
    assert "--for" in takes["voice import"], "its --name is the voice's"


def test_check_looks_at_the_daemon_s_own_configuration_state_and_presets(rvcd: Rvcd, machine: Path) -> None:
    save_state(SavedState(mute=True), state_path("deep"))
    save_presets(PresetBook().put("Own", {})[0], state_path("deep").with_name("presets.json"))
    code, out, _ = rvcd("check", "--quick", "--name", "deep")
    assert code == 0, out
    assert str(machine / "config/rvcd/rvcd@deep.toml") in out
    assert f"{state_path('deep')}: would resume with mute on" in out
    assert "presets" in out and "Own" in out
    assert "would listen on UDP 127.0.0.1, a free port: `rvcctl --name deep` finds it" in out
    unnamed = rvcd("check", "--quick")[1]
    assert "rvcd@deep" not in unnamed and "Own" not in unnamed and "mute on" not in unnamed


def test_check_says_that_a_name_without_a_configuration_has_the_defaults(rvcd: Rvcd, machine: Path) -> None:
    out = rvcd("check", "--quick", "--name", "new")[1]
    assert f"none is yours yet; for 'new' it would be {machine / 'config/rvcd/rvcd@new.toml'}" in out


def test_check_says_that_the_name_runs_already(rvcd: Rvcd) -> None:
    with Announcement("deep"):
        code, out, _ = rvcd("check", "--quick", "--name", "deep")
    assert code == 1
    assert f"rvcd 'deep' runs already (process {os.getpid()})" in out


def test_a_bad_name_is_one_line(rvcd: Rvcd) -> None:
    for words in (("check", "--name", "a b"), ("mic", "status", "--name", ""), ("voice", "import", VOICE, "--for", "a/b")):
        code, out, err = rvcd(*words)
        assert (code, out) == (1, "") and err.count("\n") == 1 and "is no name for a daemon" in err


def test_the_microphone_of_a_name_is_its_own(rvcd: Rvcd) -> None:
    found = json.loads(rvcd("mic", "status", "--name", "deep", "--json")[1])
    assert (found["name"], found["node"]) == ("rvcd deep", "rvcd-deep-microphone")
    unnamed = json.loads(rvcd("mic", "status", "--json")[1])
    assert (unnamed["name"], unnamed["node"]) == ("rvcd", "rvcd-microphone")


def test_voices_are_those_of_its_configuration_and_the_advice_has_its_name(rvcd: Rvcd, machine: Path) -> None:
    code, out, err = rvcd("voice", "import", VOICE, "--for", "deep")
    assert code == 0, err
    assert str(machine / "voices") in out
    assert "rvcctl --name deep voice rescan && rvcctl --name deep voice" in out
    assert "--name deep" in next(line for line in out.splitlines() if line.startswith("check it"))
    assert rvcd("voice", "info", VOICE.stem, "--name", "deep")[0] == 0
    assert rvcd("voice", "info", VOICE.stem)[0] == 1


def test_the_latency_of_a_name_is_measured_where_that_daemon_listens(rvcd: Rvcd) -> None:
    code, _, err = rvcd("measure-latency", "--name", "deep")
    assert (code, err) == (
        3, "rvcd: no rvcd 'deep' runs here: start it with `rvcd run --name deep`; without one: --cable\n"
    )  # fmt: skip
    port = free_port()
    with Announcement("deep") as told:
        told.listens("127.0.0.1", port)
        code, _, err = rvcd("measure-latency", "--name", "deep")
    assert code == 3 and f"127.0.0.1:{port}" in err


def test_the_configuration_that_is_written_for_a_name_is_the_default_one_without_a_port(rvcd: Rvcd, machine: Path) -> None:
    file = machine / "config/rvcd/rvcd@new.toml"
    assert rvcd("config", "--name", "new", "--write", file)[0] == 0
    written = load_config(instance="new")
    assert (written.source, written.osc.port) == (file, ANY_PORT)
    plain = parse_config({}, file, "new")
    assert written.model_dump() == plain.model_dump() != Settings().model_dump()
    text, default = file.read_text(), DEFAULT_CONFIG.read_text()
    for words in ("rvcd@new.toml", "rvcd check --name new", "called rvcd new", "rvcctl --name new", "~/Music/rvcd/new"):
        assert words in text and words not in default
    assert rvcd("config")[1] == default
    assert for_name(default, "new") == text
    assert max(map(len, text.splitlines())) <= 130
