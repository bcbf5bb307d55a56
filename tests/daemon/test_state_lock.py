"""One daemon for each state folder: a second one is told so, and what ends without a word leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rvcd.daemon import state_lock
from rvcd.errors import RvcdError

HOLDER = """
import sys, pathlib
from rvcd.daemon import state_lock
with state_lock.hold(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(folder: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    return holder


def test_a_second_one_is_refused_with_the_folder_and_the_process_until_the_first_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with start_holder(folder) as holder:
        with pytest.raises(RvcdError) as refused, state_lock.hold(folder):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert str(folder) in str(refused.value) and f"process {holder.pid}" in str(refused.value)
    with state_lock.hold(folder):
        assert (folder / state_lock.FILE_NAME).read_text() == f"{os.getpid()}\n"


def test_other_folders_are_other_locks_and_the_lock_ends_with_its_block(tmp_path: Path) -> None:
    with state_lock.hold(tmp_path / "a"), state_lock.hold(tmp_path / "b"):
        pass
    with state_lock.hold(tmp_path / "a"):
        pass


def test_a_process_that_the_holder_started_does_not_keep_the_lock(tmp_path: Path) -> None:
    with state_lock.hold(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with child, state_lock.hold(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_warned_of_and_is_no_reason_not_to_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with state_lock.hold(tmp_path / "file" / "state"):
        pass
    assert "cannot be locked" in caplog.text


def test_a_link_in_the_lock_s_place_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / state_lock.FILE_NAME).symlink_to(tmp_path / "precious")
    with state_lock.hold(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "kept" and "cannot be locked" in caplog.text


def test_a_second_start_of_a_name_is_one_sentence_with_the_process(tmp_path: Path) -> None:
    with start_holder(tmp_path) as holder:
        with pytest.raises(RvcdError) as refused, state_lock.hold(tmp_path, "deep"):
            pass
        holder.kill()
    expected = f"rvcd 'deep' runs already (process {holder.pid}): end it first, or start this one under another --name"
    assert str(refused.value) == expected
