"""No process of rvcd reaches for another machine or leaves a mark of this one, whatever a library of others would like to do."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

from rvcd.cli.privacy import keep_to_this_machine
from tests.daemon_process import DaemonProcess
from tests.exporting.tiny import write_tiny_voice
from tests.fence import Fence, fence, outside, written
from tests.only_this_machine.sitecustomize import REPORT
from tests.transfer.server import serving, status
from tests.waiting import HANG_S, eventually

__all__ = ["fence"]
ROOT = Path(__file__).parents[1]
CONFIG = '[audio]\nbackend = "virtual"\n[latency]\npreset = "safe"\n'
RVCCTL = (sys.executable, "-c", "from rvcctl.cli import main; main()")


def the_daemon_below(strace: int) -> int | None:
    """Return the process that strace has started, once it is there: strace has short-lived children of its own."""
    for child in Path(f"/proc/{strace}/task/{strace}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{child}/cmdline").read_bytes().startswith(sys.executable.encode()):
                return int(child)
    return None


def test_another_machine_is_recognised_in_a_trace() -> None:
    dns = '12 connect(7, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.2")}, 16) = 0'
    dns6 = (
        '12 connect(7, {sa_family=AF_INET6, sin6_port=htons(53), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2001:db8::1", &x)'
    )
    web = '12 connect(7<socket:[3]>, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("198.51.100.1")}, 16) = 0'
    own_resolver = '12 connect(7, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0'
    look_up = '12 openat(AT_FDCWD</>, "/etc/resolv.conf", O_RDONLY|O_CLOEXEC) = 5</etc/resolv.conf>'
    resolved = '12 connect(7, {sa_family=AF_UNIX, sun_path="/run/systemd/resolve/io.systemd.Resolve"}, 42) = 0'
    here = '12 sendto(7, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(9720), sin_addr=inet_addr("127.0.0.1")}, 16) = 1'
    bad = [dns, dns6, web, own_resolver, look_up, resolved]
    assert outside("\n".join((*bad, here))) == bad


def test_what_is_written_is_recognised_in_a_trace() -> None:
    made = """
12 openat(AT_FDCWD</a>, "id", O_WRONLY|O_CREAT, 0600) = 5</a/id>
12 openat(7</b>, "c/../new", O_RDWR|O_CREAT, 0600) = 5</b/new>
12 open("/read", O_RDONLY) = 5</read>
12 open("/refused", O_WRONLY|O_CREAT, 0600) = -1 EACCES (Permission denied)
12 symlinkat("/to", AT_FDCWD</a>, "/h/link") = 0
12 rename("/x", "/y") = 0
12 mkdir("z", 0700) = 0
12 openat(AT_FDCWD</a>, "late", O_WRONLY|O_CREAT, 0600 <unfinished ...>
13 openat(AT_FDCWD</a>, "never", O_WRONLY|O_CREAT, 0600 <unfinished ...>
12 <... openat resumed>) = 5</a/late>
13 <... openat resumed>) = -1 EACCES (Permission denied)
12 openat(AT_FDCWD</a>, "/dev/null", O_RDWR) = 5</dev/null>
12 connect(7, {sa_family=AF_UNIX, sun_path="/run/x"}, 42) = 0
"""
    assert {str(path) for path in written(made, Path("/w"))} == {"/a/id", "/b/new", "/h/link", "/y", "/w/z", "/a/late"}


LIBRARY = """
import ctypes, os
libc = ctypes.CDLL(None)
found = ctypes.c_void_p()
libc.getaddrinfo(b"telemetry.invalid", b"443", None, ctypes.byref(found))
address = (2).to_bytes(2, "little") + (443).to_bytes(2, "big") + bytes([198, 51, 100, 1]) + bytes(8)
libc.connect(libc.socket(2, 2, 0), address, 16)  # by datagrams: nothing is sent
folder = os.path.expanduser("~/.cache/Library")
os.makedirs(folder)
open(folder + "/deviceid", "w").write("1234")
os.symlink("/nowhere", os.path.expanduser("~/.library-of-this-machine"))
open(os.environ["TMPDIR"] + "/.session", "w").close()
raise OSError("PortAudio library not found")
"""
"""A library that reports home, by C as the bad ones do: it stands in for sounddevice."""


def test_a_library_that_reports_home_is_caught_by_the_fence(fence: Fence, tmp_path: Path) -> None:
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    (libraries / "sounddevice.py").write_text(LIBRARY)
    path = os.pathsep.join((str(libraries), os.environ.get("PYTHONPATH", "")))
    done = fence.run(sys.executable, "-m", "rvcd.cli", "devices", more={"PYTHONPATH": path})
    asked = "\n".join(done.others_asked())
    assert "resolv.conf" in asked and "198.51.100.1" in asked
    home = tmp_path / "home"
    found = {str(home / ".cache/Library"), str(home / ".cache/Library/deviceid"), str(home / ".library-of-this-machine")}
    assert set(done.strangers_files()) == {str(home / ".cache"), *found, str(tmp_path / "tmp/.session")}


def test_a_daemon_with_the_default_pitch_method_asks_no_other_machine_and_notes_nothing_about_this_one(
    fence: Fence, tmp_path: Path
) -> None:
    """Below Python too: some libraries have network code of their own, which asks a name server from C. rvcctl with it."""
    own = fence.environment()
    daemon = DaemonProcess(tmp_path, CONFIG, own)
    for name in [name for name in daemon.environment if name.startswith(("XDG_", "RVCD_", "RUNTIME_DIRECTORY"))]:
        del daemon.environment[name]
    daemon.start(*fence.strace)
    assert daemon.process is not None
    pid = eventually(lambda: the_daemon_below(daemon.process.pid))  # type: ignore[union-attr]
    assert pid is not None
    try:
        stats = daemon.osc.until(lambda s: s.state == "live" and s.blocks > 30)
        for words in (["status"], ["get", "pitch"], ["set", "pitch", "1"], ["voice"], ["preset", "list"], ["log"], ["list"]):
            (tmp_path / "rvcctl").mkdir(exist_ok=True)
            client = Fence(tmp_path / "rvcctl").run(*RVCCTL, *words, more={"RVCD_PORT": str(daemon.port)})
            assert client.exit_code == 0, client.stderr
            assert client.others_asked() == []
            assert client.strangers_files() == []
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    os.kill(pid, signal.SIGTERM)
    assert daemon.process.wait(HANG_S) == 0, daemon.log
    assert stats.f0_method == "swift"
    done = fence.found(0, daemon.log)
    assert "sendto" in done.trace or "sendmsg" in done.trace, "nothing was traced"
    assert done.others_asked() == []
    assert done.strangers_files() == []


def test_the_screen_of_rvcctl_asks_no_other_machine_and_notes_nothing(fence: Fence) -> None:
    ours, its = pty.openpty()
    environment = fence.environment({"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"})
    words = [*fence.strace, *RVCCTL, "--demo"]
    with subprocess.Popen(words, stdin=its, stdout=its, stderr=its, env=environment, cwd=fence.folder) as screen:
        os.close(its)
        shown = b""
        while b"\x1b[?1049h" not in shown or b"pitch" not in shown.lower():  # until the screen is up and drawn
            shown += os.read(ours, 65536)
        os.write(ours, b"\x11")
        with contextlib.suppress(OSError):
            while os.read(ours, 65536):
                pass
        assert screen.wait(HANG_S) == 0
    os.close(ours)
    done = fence.found(0, "")
    assert done.others_asked() == []
    assert done.strangers_files() == []


SPEECH, VOICE = str(ROOT / "rvcd/data/demo_speech.flac"), str(ROOT / "tests/data/parity/v2_40k_f0.pth")
HUBERT = ROOT / "tests/data/parity/hubert_tiny_fairseq.pt"
"""Whose units are as wide as the tiny voice's."""
COMMANDS = {
    "check": ["check"],
    "devices": ["devices"],
    "assets": ["assets"],
    "assets fetch": ["assets", "fetch", "--from", "recordings", "--config", "assets.toml"],
    "config": ["config"],
    "osc": ["osc"],
    "version": ["version"],
    "voice list": ["voice", "list"],
    "voice info": ["voice", "info", VOICE],
    "voice check": ["voice", "check", VOICE],
    "voice import": ["voice", "import", VOICE],
    "voice export": ["voice", "export", "tiny.pth", "out/tiny.onnx"],
    "voice index build": ["voice", "index", "build", "out/copy.pth", "recordings", "--config", "index.toml"],
    "voice register": ["voice", "register", "out/copy.pth", "--sample", SPEECH],
    "render": ["render", SPEECH, "out/out.wav"],
    "bench": ["bench", "--preset", "balanced", "--seconds", "1", "--flat-out"],
    "eval": ["eval", "recordings", "--chart", "out/chart.png"],
    "measure-latency": ["measure-latency", "--port", "59999"],
    "mic install": ["mic", "install"],
    "mic remove": ["mic", "remove"],
    "mic status": ["mic", "status"],
}
"""Every command but `run`, which has a test of its own."""
OF_THE_MACHINE = {"check", "devices", "measure-latency", "mic install", "mic remove", "mic status"}
"""What is there decides how they end."""


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_asks_another_machine_or_notes_anything_in_the_home_folder(name: str, fence: Fence, tmp_path: Path) -> None:
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    speech, rate_hz = soundfile.read(SPEECH, stop=48000)
    soundfile.write(recordings / "speech.flac", speech, rate_hz)
    write_tiny_voice(tmp_path / "tiny.pth")
    (tmp_path / "out").mkdir()
    shutil.copy(tmp_path / "tiny.pth", tmp_path / "out/copy.pth")
    (tmp_path / "index.toml").write_text(f"[models]\ncontent_encoder = '{HUBERT}'\n")
    encoder = b"an encoder of the user's own"
    (recordings / "hubert_base.pt").write_bytes(encoder)
    (tmp_path / "assets.toml").write_text(f'[models.sha256]\ncontent_encoder = "{hashlib.sha256(encoder).hexdigest()}"\n')
    done = fence.run(sys.executable, "-m", "rvcd.cli", *COMMANDS[name])
    assert "Traceback" not in done.stderr
    without_the_extra = name == "eval" and ".[eval]" in done.stderr
    assert done.exit_code in ((0, 1, 3) if name in OF_THE_MACHINE or without_the_extra else (0,)), done.stderr
    assert done.others_asked() == []
    assert done.strangers_files() == [], "a library has written something"


def test_a_fetch_asks_the_server_that_it_is_told_to_ask_and_no_other(fence: Fence, tmp_path: Path) -> None:
    with serving() as web:
        web.serve("*", status(404))
        done = fence.run(sys.executable, "-m", "rvcd.cli", "assets", "fetch", more={"HF_ENDPOINT": web.url})
        assert done.exit_code == 1 and "does not exist (status 404)" in done.stderr
        assert [path.rpartition("/")[2] for path, _ in web.asked] == ["hubert_base.pt"] * 2
    assert done.others_asked() == []
    assert done.strangers_files() == []


def test_every_command_is_tried_behind_the_fence() -> None:
    from typer.main import get_command

    from rvcd.cli.main import app

    def names_below(group: Any, before: str = "") -> Iterator[str]:
        for name, inner in group.commands.items():
            if hasattr(inner, "commands"):
                yield from [f"{before}{name}"] if inner.invoke_without_command else []
                yield from names_below(inner, f"{before}{name} ")
            else:
                yield f"{before}{name}"

    names = set(names_below(get_command(app)))
    assert names - {"run"} == set(COMMANDS)


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As in a system's service: no folder of a session. Returns the home folder."""
    for name in ("XDG_RUNTIME_DIR", "PULSE_RUNTIME_PATH", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "CACHE_DIRECTORY"):
        monkeypatch.setenv(name, "")  # so that what the function sets is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 0)
    return tmp_path


def test_pulseaudios_library_keeps_its_folder_in_rvcds_cache(no_session: Path) -> None:
    keep_to_this_machine()
    assert os.environ["PULSE_RUNTIME_PATH"] == str(no_session / ".cache/rvcd/pulse")


@pytest.mark.parametrize("left", [".config/pulse", ".pulse"])
def test_a_pulseaudio_that_was_there_before_is_found_where_it_is(no_session: Path, left: str) -> None:
    (no_session / left).mkdir(parents=True)
    keep_to_this_machine()
    assert "PULSE_RUNTIME_PATH" not in os.environ


def test_a_sessions_own_folder_is_kept_to(no_session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(no_session))
    keep_to_this_machine()
    assert "PULSE_RUNTIME_PATH" not in os.environ


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
