from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rvcctl.names import READABLE, SETTABLE
from rvcctl.scripts import completion
from rvcd.daemon.presets import PresetBook
from rvcd.osc.session import VoiceStatus
from rvcd.params import BY_NAME
from rvcd.protocol import F0_METHODS
from tests.rvcctl.conftest import Complete, Run
from tests.rvcctl.fake_daemon import FakeDaemon
from tests.rvcctl.real_server import Served
from tests.waiting import HANG_S, eventually, free_port

PATIENCE_S = completion.PATIENCE_S


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a daemon on a busy machine: how long a person waits is not what is tested."""
    monkeypatch.setattr(completion, "PATIENCE_S", 30.0)


def test_commands_and_names_need_no_daemon(complete: Complete, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVCD_PORT", str(free_port()))
    assert {"set", "get", "step", "reset", "toggle", "voice", "preset", "status", "watch", "log", "panic"} <= set(complete(""))
    assert complete("set", "") == list(SETTABLE)
    assert complete("set", "gain") == ["gain_in", "gain_out"]
    assert complete("get", "") == list(READABLE)
    assert complete("get", "pitch", "pit") == ["pitch_mode", "pitch_ms", "pitch_auto"]
    assert complete("watch", "--json", "latency_t") == ["latency_total_ms"]
    assert complete("toggle", "") == ["bypass", "mute", "record", "talk", "monitor_mute"]
    assert complete("step", "") == complete("reset", "") == list(BY_NAME)
    assert complete("set", "mute", "") == ["on", "off"]
    assert complete("set", "f0_method", "") == list(F0_METHODS)
    assert complete("set", "latency_preset", "b") == ["balanced"]
    assert complete("set", "pitch", "") == []
    assert complete("preset", "") == ["list", "save", "recall", "delete"]


def test_voices_and_presets_come_from_the_daemon(complete: Complete, served: Served) -> None:
    served.session.book, _ = PresetBook().put("Deep", {})[0].put("High", {})
    assert complete("voice", "") == ["list", "next", "prev", "rescan", "Anna", r"Bo\ Li", "broken.v2"]
    assert complete("set", "voice", "A") == ["Anna"]
    assert complete("set", "voice_slot", "") == ["1", "2", "3"]
    for command in ("recall", "delete", "save"):
        assert complete("preset", command, "") == ["Deep", "High"]
    assert complete("set", "preset", "H") == ["High"]


def test_speakers_are_counted_by_the_daemon(complete: Complete, daemon: FakeDaemon) -> None:
    daemon.stats = completion.protocol.Stats(speakers=3)
    assert complete("set", "speaker", "") == ["0", "1", "2"]


def test_the_daemon_of_the_options_is_asked(complete: Complete, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVCD_PORT", str(free_port()))
    assert complete("voice", "A") == []
    assert complete("voice", "--port", str(served.port), "A") == ["Anna"]
    assert complete("--port", str(served.port), "voice", "A") == ["Anna"]


def test_a_space_is_escaped_for_bash_unless_the_word_is_quoted(complete: Complete, served: Served) -> None:
    assert complete("voice", "Bo") == [r"Bo\ Li"]
    assert complete("voice", r"Bo\ L") == [r"Bo\ Li"]
    assert complete("voice", '"Bo L') == ["Bo Li"]


@pytest.mark.parametrize("port", ["nonsense", "0", "99999"])
def test_a_bad_port_offers_nothing_and_says_nothing(complete: Complete, monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("RVCD_PORT", port)
    assert complete("set", "voice", "") == []


def test_a_daemon_that_does_not_answer_is_not_waited_for(
    complete: Complete, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PATIENCE_S <= 0.3
    monkeypatch.setattr(completion, "PATIENCE_S", PATIENCE_S)
    daemon.silent = True
    assert complete("set", "voice", "") == []
    eventually(lambda: daemon.addresses() == ["/voice/list"])


def test_a_name_that_no_voice_can_have_is_not_offered(complete: Complete, daemon: FakeDaemon) -> None:
    daemon.voices = ["demo", "$(reboot)", "x'; reboot; '", "a\nb", "`id`", ""]
    assert complete("set", "voice", "") == ["demo"]


def test_zsh_and_fish_are_told_what_each_name_takes(rvcctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "rvcctl set pit")
    monkeypatch.setenv("_RVCCTL_COMPLETE", "complete_zsh")
    zsh = rvcctl()[1]
    assert '"pitch":"transpose the voice (a number in -24..24 semitones)"' in zsh
    monkeypatch.setenv("_RVCCTL_COMPLETE", "complete_fish")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    assert rvcctl()[1].splitlines()[0] == "pitch\ttranspose the voice (a number in -24..24 semitones)"


# In the shells themselves


def installed(folder: Path) -> Path:
    """Return a folder for PATH with rvcctl in it."""
    program = folder / "rvcctl"
    patient = f"from rvcctl.scripts import completion\ncompletion.PATIENCE_S = {HANG_S}"
    program.write_text(f"#!{sys.executable}\n{patient}\nfrom rvcctl.cli import main\nmain()\n")
    program.chmod(0o755)
    return folder


def shell(name: str, script: str, folder: Path, port: int) -> str:
    """Run a script in a shell whose PATH and HOME begin in a folder; return its output."""
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"no {name} here")
    environment = {
        "PATH": f"{installed(folder)}:/usr/bin:/bin", "HOME": str(folder), "RVCD_PORT": str(port), "SHELL": program,
        "PYTHONPATH": str(Path(__file__).parents[2]), "LANG": "C.UTF-8",
    }  # fmt: skip
    done = subprocess.run([program, "-c", script], env=environment, capture_output=True, text=True, timeout=HANG_S)
    assert done.stderr == ""
    return done.stdout


def test_bash_completes_a_voice_with_the_script_that_is_shown(served: Served, tmp_path: Path) -> None:
    out = shell(
        "bash",
        "source <(rvcctl --show-completion); COMP_WORDS=(rvcctl voice Bo); COMP_CWORD=2; _rvcctl_completion rvcctl;"
        ' printf "%s|" "${COMPREPLY[@]}"; complete -p rvcctl',
        tmp_path,
        served.port,
    )
    assert out == "Bo\\ Li|complete -o default -F _rvcctl_completion rvcctl\n"


def test_install_completion_writes_what_bash_reads(served: Served, tmp_path: Path) -> None:
    shell("bash", "rvcctl --install-completion; true", tmp_path, served.port)
    out = shell("bash", "source ~/.bashrc; complete -p rvcctl", tmp_path, served.port)
    assert out == "complete -o default -F _rvcctl_completion rvcctl\n"


def test_a_home_that_cannot_be_written_is_one_line(served: Served, tmp_path: Path) -> None:
    out = shell("bash", "touch ~/file; HOME=~/file; rvcctl --install-completion 2>&1; echo $?", tmp_path, served.port)
    assert out == f"rvcctl: cannot write {tmp_path}/file: File exists\n1\n"


def test_fish_completes_a_voice_with_the_script_that_is_shown(served: Served, tmp_path: Path) -> None:
    served.session.registry = (VoiceStatus("Bo Li", 1), VoiceStatus("Anna", 2))
    out = shell("fish", 'rvcctl --show-completion | source; complete -C "rvcctl voice Bo"', tmp_path, served.port)
    assert out == "Bo Li\n"
