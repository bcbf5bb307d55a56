"""Runs a command below strace with a new home folder, and says whom it asked and what it left, from C as from Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.only_this_machine.sitecustomize import is_this_machine
from tests.waiting import HANG_S

NETWORK = ("connect", "sendto", "sendmsg", "sendmmsg")
FILES = (
    "open", "openat", "openat2", "creat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "symlink",
    "symlinkat", "mknod", "mknodat",
)  # fmt: skip
ADDRESS = re.compile(r'sa_family=AF_INET6?, sin6?_port=htons\((\d+)\).*?inet_(?:addr\("([^"]*)"\)|pton\(AF_INET6, "([^"]*)")')
NAME_SERVICE_PORTS = {53, 853, 5353}
"""Of a name server. One on this machine (127.0.0.53, systemd-resolved's) asks others."""
READ_FOR_A_NAME = ("/etc/resolv.conf", "/run/systemd/resolve/io.systemd.Resolve", "/run/avahi-daemon/socket")
"""What the C library opens to look a name up, whichever resolver the machine has."""
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TMPFILE")
CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)$")
PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
FOLDER = re.compile(r"^[^<,]*<([^>]*)>, ")
UNFINISHED, RESUMED = " <unfinished ...>", re.compile(r"^\d+ +<\.\.\. \w+ resumed>")
NO_PLACE = ("/dev/", "/proc/", "/sys/")


def can_trace() -> bool:
    strace = shutil.which("strace")
    return (
        strace is not None
        and subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0
    )


def whole(trace: str) -> list[str]:
    """Return strace's lines, with the halves of calls that another thread's came between put together."""
    lines, begun = [], dict[str, str]()
    for line in trace.splitlines():
        pid = line.split(" ", 1)[0]
        if line.endswith(UNFINISHED):
            begun[pid] = line.removesuffix(UNFINISHED)
        elif RESUMED.match(line) and pid in begun:
            lines.append(begun.pop(pid) + RESUMED.sub("", line))
        else:
            lines.append(line)
    return [*lines, *begun.values()]


def outside(trace: str) -> list[str]:
    """Return the lines of strace's output in which another machine is connected to, sent to or looked up."""
    found = []
    for line in whole(trace):
        called = CALL.match(line)
        if called and called[1] in NETWORK:
            hosts = [(int(port), first or second) for port, first, second in ADDRESS.findall(line)]
            asks = any(port in NAME_SERVICE_PORTS or not _is_here(host) for port, host in hosts)
            if asks or any(path in line for path in READ_FOR_A_NAME[1:]):
                found.append(line)
        elif called and f'"{READ_FOR_A_NAME[0]}"' in line:
            found.append(line)
    return found


def _is_here(host: str) -> bool:
    return is_this_machine(host) or host.startswith("::ffff:127.")


def written(trace: str, folder: Path) -> set[Path]:
    """Return every path that was made, or opened to write, successfully. folder: where the command ran."""
    paths = set()
    for line in whole(trace):
        called = CALL.match(line)
        if not called or called[1] in (*NETWORK, "execve") or " = -1 " in line:
            continue
        name, rest = called[1], called[2]
        if name.startswith("open") and not WRITES.search(rest):
            continue
        base = FOLDER.match(rest)
        targets = PATH.findall(rest)
        if not targets:
            continue
        path = Path(os.path.normpath(Path(base[1] if base else folder) / targets[-1]))
        if not f"{path}/".startswith(NO_PLACE):
            paths.add(path)
    return paths


@dataclass(frozen=True)
class Traced:
    """What a command did. exit_code, stderr: its own."""

    trace: str
    folder: Path
    exit_code: int
    stderr: str

    def others_asked(self) -> list[str]:
        """Return the calls that reach, or look up, another machine."""
        assert "execve" in self.trace, "nothing was traced"
        return outside(self.trace)

    def strangers_files(self) -> list[str]:
        """Return what was written and is neither below a folder of rvcd's in the home folder nor the command's own output."""
        return sorted(str(path) for path in written(self.trace, self.folder) if not self._is_ours(path))

    def _is_ours(self, path: Path) -> bool:
        home = self.folder / "home"
        if home in path.parents:
            below = path.relative_to(home).parts
            # Its folders, and those of the XDG specification on the way to them.
            return "rvcd" in below or (path.is_dir() and any(path.rglob("rvcd")))
        scratch = self.folder / "tmp"
        if path == scratch or scratch in path.parents:
            return path == scratch or not (path.is_symlink() or path.exists())
        out = self.folder / "out"
        return path == out or out in path.parents  # itself: where a file without a name was made in it


@dataclass(frozen=True)
class Fence:
    """A folder for one traced command: home/, out/ for what it is told to write, tmp/ which must be empty at the end."""

    folder: Path

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        for name in ("home", "out", "tmp"):
            (self.folder / name).mkdir(exist_ok=True)
        unset = ("XDG_", "RVCD_", "PULSE_", "RUNTIME_DIRECTORY")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(unset)}
        own = {"HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
        # PulseAudio's library starts no server, whose own files would be found.
        (self.folder / "out/pulse.conf").write_text("autospawn = no\n")
        own["PULSE_CLIENTCONFIG"] = str(self.folder / "out/pulse.conf")
        if os.getuid() != 0 and shutil.which("pulseaudio"):  # then rvcd leaves its choice to the library (rvcd/cli/privacy.py)
            own["XDG_RUNTIME_DIR"] = str(self.folder / "out")
        return {**kept, **own, **(more or {})}

    @property
    def strace(self) -> list[str]:
        """The words before a command that trace it, and all that it starts."""
        calls = ",".join((*(f"?{name}" for name in (*NETWORK, *FILES)), "execve"))
        options = ["--follow-forks", "--seccomp-bpf", "-y", "-s", "4096", "-e", f"trace={calls}"]
        return ["strace", *options, "-o", str(self.folder / "trace.txt")]

    def run(self, *words: str, more: Mapping[str, str] | None = None) -> Traced:
        """Run words to their end."""
        done = subprocess.run(
            [*self.strace, *words], env=self.environment(more), cwd=self.folder, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=2 * HANG_S,
        )  # fmt: skip
        return self.found(done.returncode, done.stderr)

    def found(self, exit_code: int, stderr: str) -> Traced:
        return Traced((self.folder / "trace.txt").read_text(errors="surrogateescape"), self.folder, exit_code, stderr)


@pytest.fixture
def fence(tmp_path: Path) -> Fence:
    if not can_trace():
        pytest.skip("strace is not installed, or may not trace here: apt install strace")
    return Fence(tmp_path)
