"""No process of rvcd reaches for another machine, whatever a library of others would like to report home."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess
from tests.only_this_machine.sitecustomize import REPORT, is_this_machine
from tests.waiting import HANG_S, eventually

CONFIG = '[audio]\nbackend = "virtual"\n[latency]\npreset = "safe"\n'
ADDRESS = re.compile(r'sa_family=AF_INET6?, .*?inet_(?:addr\("([^"]*)"\)|pton\(AF_INET6, "([^"]*)")')


def can_trace() -> bool:
    strace = shutil.which("strace")
    return (
        strace is not None
        and subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0
    )


def the_daemon_below(strace: int) -> int | None:
    """Return the process that strace has started, once it is there: strace has short-lived children of its own."""
    for child in Path(f"/proc/{strace}/task/{strace}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{child}/cmdline").read_bytes().startswith(sys.executable.encode()):
                return int(child)
    return None


def outside(trace: str) -> list[str]:
    """Return the lines of strace's output in which another machine is connected to or sent to."""
    found = []
    for line in trace.splitlines():
        hosts = [first or second for first, second in ADDRESS.findall(line)]
        if any(not is_this_machine(host) and not host.startswith("::ffff:127.") for host in hosts):
            found.append(line)
    return found


def test_another_machine_is_recognised_in_a_trace() -> None:
    dns = '12 connect(7, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.2")}, 16) = 0'
    dns6 = (
        '12 connect(7, {sa_family=AF_INET6, sin6_port=htons(53), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2001:db8::1", &x)'
    )
    here = '12 sendto(7, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(9720), sin_addr=inet_addr("127.0.0.1")}, 16) = 1'
    assert outside("\n".join((dns, here, dns6))) == [dns, dns6]


def test_a_daemon_with_the_default_pitch_method_asks_no_other_machine_and_notes_nothing_about_this_one(tmp_path: Path) -> None:
    """Below Python too: some libraries have network code of their own, which asks a name server from C."""
    if not can_trace():
        pytest.skip("strace is not installed, or may not trace here: apt install strace")
    home = tmp_path / "home"
    home.mkdir()
    trace = tmp_path / "trace.txt"
    daemon = DaemonProcess(tmp_path, CONFIG, {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")})
    calls = "trace=connect,sendto,sendmsg,sendmmsg"
    daemon.start("strace", "--follow-forks", "--seccomp-bpf", "-e", calls, "-o", str(trace))
    assert daemon.process is not None
    pid = eventually(lambda: the_daemon_below(daemon.process.pid))  # type: ignore[union-attr]
    assert pid is not None
    try:
        stats = daemon.osc.until(lambda s: s.state == "live" and s.blocks > 30)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    os.kill(pid, signal.SIGTERM)
    assert daemon.process.wait(HANG_S) == 0, daemon.log
    assert stats.f0_method == "swift"
    text = trace.read_text()
    assert "sendto" in text or "sendmsg" in text, "nothing was traced"
    assert outside(text) == []
    assert {path.name for path in (home / ".cache").iterdir()} <= {"rvcd"}, "a library has written into the user's cache"


ROOT = Path(__file__).parents[1]
SPEECH, VOICE = str(ROOT / "rvcd/data/demo_speech.flac"), str(ROOT / "tests/data/parity/v2_40k_f0.pth")
COMMANDS = {
    "check": ["check"],
    "devices": ["devices"],
    "assets": ["assets"],
    "config": ["config"],
    "osc": ["osc"],
    "version": ["version"],
    "voice list": ["voice", "list"],
    "voice info": ["voice", "info", VOICE],
    "voice check": ["voice", "check"],
    "voice import": ["voice", "import", VOICE],
    "render": ["render", SPEECH, "{tmp}/out.wav"],
    "bench": ["bench", "--preset", "balanced", "--seconds", "1", "--flat-out"],
    "eval": ["eval", SPEECH],
}
"""Every command but `run`, which has a test of its own. Each may end as it likes: what is judged is whom it asks."""


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_asks_another_machine_or_notes_anything_in_the_home_folder(name: str, tmp_path: Path) -> None:
    if not can_trace():
        pytest.skip("strace is not installed, or may not trace here: apt install strace")
    home, trace = tmp_path / "home", tmp_path / "trace.txt"
    home.mkdir()
    words = [word.replace("{tmp}", str(tmp_path)) for word in COMMANDS[name]]
    strace = ["strace", "--follow-forks", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg,execve", "-o", str(trace)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "RVCD_"))} | {"HOME": str(home)}
    done = subprocess.run(
        [*strace, sys.executable, "-m", "rvcd.cli", *words],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=HANG_S,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    text = trace.read_text()
    assert "execve" in text, "nothing was traced"
    assert outside(text) == []
    written = {path.relative_to(home).parts for path in home.rglob("*") if path.is_file()}
    assert {parts[:-1] for parts in written if "rvcd" not in parts} == set(), "a library has written into the home folder"


def test_every_command_is_tried_behind_the_fence() -> None:
    from typer.main import get_command

    from rvcd.cli.main import app

    groups = get_command(app).commands  # type: ignore[attr-defined]
    names = {name for name, group in groups.items() if not hasattr(group, "commands")}
    names |= {f"{name} {inner}" for name, group in groups.items() for inner in getattr(group, "commands", ())}
    assert names - {"run"} == set(COMMANDS)


def test_libraries_are_told_to_report_nothing_before_they_are_imported() -> None:
    script = "import sys, os; from rvcd.cli import main; main.app = lambda **_: print(os.environ['ORT_DISABLE_TELEMETRY'], "
    script += "os.environ['HF_HUB_OFFLINE'], 'onnxruntime' in sys.modules); main.main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=HANG_S)
    assert done.stdout.split() == ["1", "1", "False"]


def test_a_test_that_asks_another_machine_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REPORT)  # this once nothing is noted, so that this test does not fail for it
    with pytest.raises(RuntimeError, match=r"connect to 198\.51\.100\.1 port 9"):
        socket.create_connection(("198.51.100.1", 9))
    with pytest.raises(RuntimeError, match=r"look-up of 'example.org'"):
        socket.getaddrinfo("example.org", 80)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.sendto(b"", ("127.0.0.1", 9))


def test_so_is_a_process_that_a_test_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(REPORT, str(tmp_path / "attempts"))
    script = (
        "import socket\ntry: socket.create_connection(('198.51.100.1', 9))\nexcept Exception as e: print(type(e).__name__, e)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=HANG_S)
    assert done.stdout == "OutsideConnectionError connect to 198.51.100.1 port 9: tests stay on this machine\n"
    assert (tmp_path / "attempts").read_text().startswith("connect to 198.51.100.1 port 9 (process ")
