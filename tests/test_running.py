"""Which daemons run: what they tell, what a killed one leaves behind, and what others could put in its place."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd import running
from rvcd.errors import RvcdError
from rvcd.running import Announcement, RunningDaemon, find_daemon, running_daemons
from tests.waiting import eventually

DAEMON = """
import sys
from rvcd.running import Announcement
with Announcement(sys.argv[1]) as told:
    assert not told.problem, told.problem
    told.listens(sys.argv[2], int(sys.argv[3]))
    print("told", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runtime folder of this test alone; it is made by the first daemon."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    return tmp_path / "run"


@contextmanager
def a_daemon(name: str = "", host: str = "127.0.0.1", port: int = 9000) -> Iterator[subprocess.Popen[str]]:
    """Another process that tells of itself as a daemon does."""
    words = [sys.executable, "-c", DAEMON, name, host, str(port)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "told\n"
        yield process


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {running.MUTEX_NAME}


def test_daemons_are_listed_with_what_they_told_and_are_gone_when_they_have_ended(folder: Path) -> None:
    with a_daemon("deep", port=9001) as deep, a_daemon("high", "0.0.0.0", 9002) as high, a_daemon(port=9720) as unnamed:
        assert running_daemons() == [
            RunningDaemon("", unnamed.pid, "127.0.0.1", 9720),
            RunningDaemon("deep", deep.pid, "127.0.0.1", 9001),
            RunningDaemon("high", high.pid, "127.0.0.1", 9002),
        ]
        assert find_daemon("high") == RunningDaemon("high", high.pid, "127.0.0.1", 9002)
        assert find_daemon("hig") is None
    assert running_daemons() == [] and files(folder) == set()


def test_two_daemons_without_a_name_do_not_hide_each_other() -> None:
    with a_daemon(port=9001) as one, a_daemon(port=9002) as other:
        assert {daemon.pid for daemon in running_daemons()} == {one.pid, other.pid}


def test_what_a_killed_daemon_left_is_known_by_its_missing_lock_and_removed(folder: Path) -> None:
    with a_daemon("deep") as deep:
        deep.send_signal(signal.SIGKILL)
        deep.wait()
        assert files(folder) == {"rvcd@deep.json"}
        (folder / "rvcd@deep.json").write_text(json.dumps({"name": "deep", "pid": os.getpid(), "host": "127.0.0.1", "port": 1}))
        assert find_daemon("deep") is None, "its number is that of a process that runs, and still it is stale"
    assert files(folder) == set()


def test_a_name_is_had_by_one_daemon_until_that_is_killed() -> None:
    with a_daemon("deep") as deep:
        with pytest.raises(RvcdError, match=rf"^rvcd 'deep' runs already \(process {deep.pid}\): end it first, or .*--name$"):
            Announcement("deep").__enter__()
        assert find_daemon("deep") is not None, "the one that was refused has not taken the file away"
        with Announcement("high"):
            pass
        deep.send_signal(signal.SIGKILL)
        deep.wait()
        with Announcement("deep") as second:
            assert second.problem == ""
            found = find_daemon("deep")
            assert found is not None and (found.pid, found.port) == (os.getpid(), 0), "it starts, and does not listen yet"


CLAIM = """
import sys
from rvcd.running import Announcement
sys.stdin.readline()
try:
    with Announcement("deep") as told:
        print("taken", told.problem, flush=True)
        sys.stdin.readline()
except Exception as error:
    print("refused", type(error).__name__, flush=True)
"""


def test_of_many_that_start_one_name_at_once_beside_a_stale_file_one_has_it(folder: Path) -> None:
    folder.mkdir()
    (folder / "rvcd@deep.json").write_text("{}")
    words = [sys.executable, "-c", CLAIM]
    with ExitStack() as stack:
        starters = [
            stack.enter_context(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(6)
        ]
        for starter in starters:
            assert starter.stdin is not None
            starter.stdin.write("go\n")
            starter.stdin.flush()
        said = sorted(starter.stdout.readline() for starter in starters)  # type: ignore[union-attr]
        assert said == ["refused RvcdError\n"] * 5 + ["taken \n"]
        assert find_daemon("deep") is not None
    assert files(folder) == set()


def test_a_file_that_somebody_deleted_is_there_again_and_an_old_one_in_its_place_is_not_deleted_with_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LOOK_S", 0.02)
    with Announcement("deep") as told:
        told.listens("127.0.0.1", 9001)
        shutil.rmtree(folder)
        eventually(lambda: find_daemon("deep"), "the file")
        monkeypatch.setattr(running, "LOOK_S", 60.0)
    assert files(folder) == set()


def test_a_process_that_the_daemon_started_does_not_keep_the_lock(folder: Path) -> None:
    with Announcement("deep"):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        kept = folder / "kept"
        (folder / "rvcd@deep.json").rename(kept)
    with child:
        kept.rename(folder / "rvcd@deep.json")
        assert find_daemon("deep") is None


def test_where_nothing_can_be_told_the_daemon_runs_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "file" / "run"))
    with Announcement("deep") as told:
        told.listens("127.0.0.1", 9001)
        assert "cannot be written" in told.problem and "rvcctl list" in told.problem
    assert running_daemons() == []


@pytest.mark.parametrize("host, reached", [("0.0.0.0", "127.0.0.1"), ("127.0.0.2", "127.0.0.2"), ("::", "::1"), ("::1", "::1")])
def test_the_address_that_is_told_is_one_that_can_be_reached(host: str, reached: str) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with a_daemon("deep", host):
        found = find_daemon("deep")
        assert found is not None and found.host == reached


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def hold(path: Path, data: bytes) -> subprocess.Popen[str]:
    """Put a file there as somebody else's program might, with a lock that a process of its own holds."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    script = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 5000, b'{"name": "deep"}', b"9" * 5000,
        b'{"name": "high", "pid": 1, "host": "127.0.0.1", "port": 9001}',
        b'{"name": "deep", "pid": 1, "host": "example.org", "port": 9001}',
        b'{"name": "deep", "pid": 1, "host": "192.0.2.1", "port": 9001}',
        b'{"name": "deep", "pid": 1, "host": "2001:db8::1", "port": 9001}',
        b'{"name": "deep", "pid": 1, "host": "0.0.0.0\\u0000", "port": 9001}',
        b'{"name": "deep", "pid": 1, "host": "127.0.0.1", "port": 65536}',
        b'{"name": "deep", "pid": true, "host": "127.0.0.1", "port": 9001}',
        b'{"name": "deep", "pid": 1, "host": "", "port": 9001}',
        b'{"name": "deep", "pid": 1, "host": 3, "port": 9001}',
    ],
)  # fmt: skip
def test_a_file_that_no_daemon_wrote_is_passed_over(folder: Path, data: bytes) -> None:
    with hold(folder / "rvcd@deep.json", data):
        assert running_daemons() == []


@given(st.binary(max_size=200) | st.dictionaries(st.text(max_size=5), st.integers()).map(lambda d: json.dumps(d).encode()))
def test_no_content_of_a_file_is_a_traceback(data: bytes) -> None:
    assert running._parse(data, "deep") is None


def test_links_pipes_folders_and_other_names_are_neither_read_nor_removed(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (tmp_path / "precious").write_text("kept")
    (folder / "rvcd@link.json").symlink_to(tmp_path / "precious")
    os.mkfifo(folder / "rvcd@pipe.json")
    (folder / "rvcd@folder.json").mkdir()
    (folder / "other.json").write_text("{}")
    before = files(folder)
    assert running_daemons() == []
    assert files(folder) == before and (tmp_path / "precious").read_text() == "kept"


def test_a_service_of_the_system_is_found_after_the_user_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "system"
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(system))
    with a_daemon("deep", port=9001), a_daemon("studio", port=9002):
        monkeypatch.delenv("RUNTIME_DIRECTORY")
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "session"))
        monkeypatch.setattr(running, "SYSTEM_FOLDER", system)
        with Announcement("deep") as own:  # another user's service of the same name is no second start
            own.listens("127.0.0.1", 9003)
            assert [find_daemon(name).port for name in ("deep", "studio")] == [9003, 9002]  # type: ignore[union-attr]
        assert (tmp_path / "session" / "rvcd" / running.MUTEX_NAME).exists()


def test_without_a_runtime_folder_it_is_told_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with Announcement("deep"):
        assert (tmp_path / "rvcd" / "run" / "rvcd@deep.json").exists()
