"""Which daemons run on this machine: each tells its port in a small file, under a lock that ends with its process. Stdlib only.

The files lie in the user's runtime folder, those of services of the system in /run/rvcd. The lock is the kernel's (flock), so a
file that a killed daemon left behind is known by its missing lock, whatever process has its number now, and is removed by
whoever sees it. A file is never changed: a new one takes its place by a rename, locked already.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import re
import socket
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rvcd.errors import RvcdError
from rvcd.instance import full_name, shown_name

SYSTEM_FOLDER = Path("/run/rvcd")
LOOK_S = 5.0
"""How soon a file that somebody has deleted, as systemd does with the folder of a unit that ends, is there again."""
MAX_BYTES = 4096
MUTEX_NAME = ".lock"
MUTEX_LIMIT_S = 2.0
_FILE = re.compile(r"rvcd(?:@([A-Za-z0-9_-]{1,32})|\.\d{1,10})\.json")


@dataclass(frozen=True)
class RunningDaemon:
    """One daemon that runs. name: "" is the one without. host: the IP address that reaches it. port: 0 while it starts."""

    name: str
    pid: int
    host: str
    port: int


def own_folder() -> Path:
    """Return where a daemon of this process tells its port: systemd's $RUNTIME_DIRECTORY, else $XDG_RUNTIME_DIR/rvcd.

    Where neither is set: $XDG_CACHE_HOME/rvcd/run.
    """
    if given := os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]:
        return Path(given)
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(runtime) / "rvcd" if os.path.isabs(runtime) else _cache_folder()


def folders() -> tuple[Path, ...]:
    """Return where daemons are looked for, this user's own first. With $RUNTIME_DIRECTORY set, there alone."""
    if os.environ.get("RUNTIME_DIRECTORY"):
        return (own_folder(),)
    session = Path(f"/run/user/{os.getuid()}/rvcd")  # after `su`, no variable leads there
    return tuple(dict.fromkeys((own_folder(), session, _cache_folder(), SYSTEM_FOLDER)))


def running_daemons() -> list[RunningDaemon]:
    """Return the daemons that run, the one without a name first, and remove what others have left behind.

    Raises nothing: a folder that cannot be read holds none.
    """
    found = [daemon for folder in folders() for daemon in _daemons_in(folder)]
    return sorted(found, key=lambda daemon: (daemon.name, daemon.pid))


def find_daemon(name: str) -> RunningDaemon | None:
    """Return the daemon that runs under a name, this user's own before a service of the system; None where there is none."""
    return _first(name, folders())


def same_name(name: str) -> RunningDaemon | None:
    """Return the daemon that keeps another one from being started under a name, None where nothing does.

    A service of the system is another user's, with another state and another sound server.
    """
    own = own_folder()
    return _first(name, [folder for folder in folders() if folder == own or folder != SYSTEM_FOLDER], clean=False)


class Announcement:
    """What one daemon tells of itself, from its start to its end. A name is claimed by it: no two have the same.

    problem: why nothing could be told, in one sentence, or "": no reason not to run.
    """

    def __init__(self, name: str) -> None:
        self._folder, self._daemon = own_folder(), RunningDaemon(name, os.getpid(), "", 0)
        self._path = self._folder / f"{full_name(name) if name else f'rvcd.{os.getpid()}'}.json"
        self._file: int | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._looker = threading.Thread(target=self._keep, name="rvcd-announce", daemon=True)
        self.problem = ""

    def __enter__(self) -> Announcement:
        """Take the name. Raises RvcdError, naming the process, where a daemon of this user has it."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _mutex(self._folder):
                self._refuse_a_second()
                self._write()
        except OSError as error:
            self.problem = f"{self._path}: cannot be written ({error.strerror}); `rvcctl list` does not show this daemon"
            return self
        self._looker.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the file away."""
        self._ended.set()
        if self._looker.is_alive():
            self._looker.join()
        if self._file is not None:
            with contextlib.suppress(OSError), _mutex(self._folder):
                if _is_at(self._file, self._path):
                    self._path.unlink()
            os.close(self._file)
            self._file = None

    def listens(self, host: str, port: int) -> None:
        """Tell where it listens. host: an IP address as it was bound."""
        self._daemon = RunningDaemon(self._daemon.name, self._daemon.pid, _reachable(host), port)
        if self._file is not None:
            self._tell_again()

    def _keep(self) -> None:
        while not self._ended.wait(LOOK_S):
            with self._lock:
                is_there = self._file is not None and _is_at(self._file, self._path)
            if not is_there:
                self._tell_again()

    def _tell_again(self) -> None:
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _mutex(self._folder):
                self._write()

    def _refuse_a_second(self) -> None:
        name = self._daemon.name
        other = same_name(name) if name else None  # without one: see daemon/state_lock.py
        if other is not None:
            raise RvcdError(second_start(name, other.pid))

    def _write(self) -> None:
        with self._lock:
            part = self._path.with_name(f".{self._path.name}.{os.getpid()}")
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
            file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.fchmod(file, 0o644)  # nothing of it is secret, and other users may list a service of the system
                os.write(file, json.dumps(asdict(self._daemon)).encode() + b"\n")
                os.rename(part, self._path)
            except OSError:
                os.close(file)
                with contextlib.suppress(OSError):
                    part.unlink()
                raise
            if self._file is not None:
                os.close(self._file)
            self._file = file


def second_start(name: str, pid: int) -> str:
    """Return the sentence for whoever starts a name a second time. pid: of the first, 0 where it is not known."""
    process = f" (process {pid})" if pid else ""
    return f"{shown_name(name)} runs already{process}: end it first, or start this one under another --name"


def _first(name: str, looked_at: Iterable[Path], clean: bool = True) -> RunningDaemon | None:
    return next((daemon for folder in looked_at for daemon in _daemons_in(folder, clean) if daemon.name == name), None)


def _daemons_in(folder: Path, clean: bool = True) -> Iterator[RunningDaemon]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        known = _FILE.fullmatch(name)
        if known is not None and (daemon := _read(folder / name, known[1] or "", clean)) is not None:
            yield daemon


def _read(path: Path, name: str, clean: bool) -> RunningDaemon | None:
    """Return the daemon that holds a file; None where nobody does, or it is no such file."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _parse(os.read(file, MAX_BYTES), name)
        fcntl.flock(file, fcntl.LOCK_UN)
        if clean:
            with contextlib.suppress(OSError), _mutex(path.parent):
                if _is_at(file, path):
                    path.unlink()
        return None
    except OSError:
        return None
    finally:
        os.close(file)


def _parse(data: bytes, name: str) -> RunningDaemon | None:
    try:
        document: Any = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("name") != name:
        return None
    pid, host, port = (document.get(key) for key in ("pid", "host", "port"))
    if type(pid) is not int or type(port) is not int or not isinstance(host, str) or not 0 <= port <= 65_535 or pid < 0:
        return None
    if (host or port) and not _is_of_this_machine(host):
        return None
    return RunningDaemon(name, pid, host, port)


def _is_of_this_machine(host: str) -> bool:
    """Say whether a text is an IP address of this machine: nothing is sent to another one, or looked up, for what a file says."""
    try:
        version = ipaddress.ip_address(host).version
        with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except (ValueError, OSError):
        return False
    return True


def _reachable(host: str) -> str:
    """Return an address of this machine at which a bound one is reached: any address means the loopback one."""
    address = ipaddress.ip_address(host)
    return host if not address.is_unspecified else "127.0.0.1" if address.version == 4 else "::1"


def _is_at(file: int, path: Path) -> bool:
    """Say whether an open file is the one that lies at a path."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except OSError:
        return False


@contextlib.contextmanager
def _mutex(folder: Path) -> Iterator[None]:
    """Let one process at a time change a folder. Raises OSError where it cannot be written."""
    file = os.open(folder / MUTEX_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        deadline_s = time.monotonic() + MUTEX_LIMIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline_s:  # who has it is stopped: nothing here is worth waiting longer
                    break
                time.sleep(0.01)
        yield
    finally:
        os.close(file)


def _cache_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if os.path.isabs(cache) else Path(os.path.expanduser("~")) / ".cache") / "rvcd" / "run"
