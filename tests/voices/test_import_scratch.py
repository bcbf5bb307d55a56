"""What an import leaves behind when it is killed, and who clears it up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rvcd.voices.import_scratch import REPLACED, WHOLE, Scratch, clear_leftovers, scratch_in
from tests.waiting import HANG_S

LEFT = ".import-0123456789abcdef"


def left_behind(voices: Path, name: str = LEFT) -> Path:
    (voices / name / "unpacked-1").mkdir(parents=True)
    (voices / name / "unpacked-1" / "0").write_bytes(b"half a voice")
    return voices / name


def test_a_scratch_folder_is_gone_after_its_import_however_that_ends(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), scratch_in(tmp_path / "voices") as scratch:  # noqa: PT012
        assert scratch.folder().parent == tmp_path / "voices"
        assert scratch.unpacked().is_dir()
        raise KeyboardInterrupt
    assert not (tmp_path / "voices").exists(), "it was made for this import only"


def test_what_a_killed_import_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    left_behind(tmp_path)
    with scratch_in(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_nothing_else_is_removed(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in (".import-me", "import-0123456789abcdef", ".import-0123456789abcdeg", "Anna")]
    for path in kept:
        path.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/precious").touch()
    (tmp_path / LEFT).symlink_to(tmp_path / "elsewhere")
    (tmp_path / ".import-00000000000000ff").touch()
    assert clear_leftovers(tmp_path) == 0
    assert all(path.is_dir() for path in kept) and (tmp_path / "elsewhere/precious").exists()
    assert clear_leftovers(tmp_path / "not there") == 0


IMPORTING = """
import sys, time
from pathlib import Path
from rvcd.voices.import_scratch import Scratch
Scratch(Path(sys.argv[1])).unpacked()
print("ready", flush=True)
time.sleep(600)
"""


def test_the_folder_of_an_import_that_runs_is_left_alone_until_it_is_killed(tmp_path: Path) -> None:
    words = [sys.executable, "-c", IMPORTING, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "ready\n"
        (folder,) = tmp_path.iterdir()
        assert clear_leftovers(tmp_path) == 0 and folder.is_dir()
        other.send_signal(signal.SIGKILL)
        other.wait(HANG_S)
    assert clear_leftovers(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_scratch_folder_that_is_taken_for_a_leftover_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Path.mkdir
    early = iter([True])

    def made_and_cleared(path: Path, *args: object, **more: object) -> None:
        made(path, *args, **more)  # type: ignore[arg-type]
        if path.name.startswith(".import-") and next(early, False):
            assert clear_leftovers(tmp_path) == 1

    monkeypatch.setattr(Path, "mkdir", made_and_cleared)
    scratch = Scratch(tmp_path)
    assert scratch.folder().is_dir()
    assert clear_leftovers(tmp_path) == 0
    scratch.remove()


def test_a_voice_that_was_moved_aside_comes_back_where_the_new_one_did_not_get_its_place(tmp_path: Path) -> None:
    scratch = left_behind(tmp_path)
    for folder, content in ((scratch / WHOLE, b"new"), (scratch / REPLACED, b"old")):
        folder.mkdir()
        (folder / "Anna.pth").write_bytes(content)
        (folder / "voice.toml").touch()
    assert clear_leftovers(tmp_path) == 1
    assert sorted(os.listdir(tmp_path)) == ["Anna"]
    assert (tmp_path / "Anna/Anna.pth").read_bytes() == b"old"


def test_a_voice_that_was_replaced_does_not_come_back(tmp_path: Path) -> None:
    scratch = left_behind(tmp_path)
    (scratch / REPLACED).mkdir()
    (scratch / REPLACED / "Anna.pth").write_bytes(b"old")
    (tmp_path / "Anna").mkdir()
    (tmp_path / "Anna/Anna.pth").write_bytes(b"new")
    assert clear_leftovers(tmp_path) == 1
    assert sorted(os.listdir(tmp_path)) == ["Anna"]
    assert (tmp_path / "Anna/Anna.pth").read_bytes() == b"new"
