"""A key is written into a voice.toml without touching what its author wrote."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rvcd.errors import ModelFileError
from rvcd.voices.registry import VoiceEntry, voice_of_file
from rvcd.voices.voice_toml_edit import set_in_voice_toml

VOICE = Path(__file__).parent.parent / "data" / "parity" / "v2_40k_f0.pth"


def voice(folder: Path, toml: str | None = None, *others: str) -> VoiceEntry:
    for name in ("Anna", *others):
        shutil.copy(VOICE, folder / f"{name}.pth")
    (folder / "a.index").write_bytes(b"")
    if toml is not None:
        (folder / "voice.toml").write_text(toml)
    return voice_of_file(folder / "Anna.pth")


def test_a_voice_alone_in_its_folder_gets_a_voice_toml(tmp_path: Path) -> None:
    assert set_in_voice_toml(voice(tmp_path), {"index": "a.index"}) == tmp_path / "voice.toml"
    assert voice_of_file(tmp_path / "Anna.pth").index_path == tmp_path / "a.index"


def test_one_of_several_voices_gets_a_file_of_its_own_name(tmp_path: Path) -> None:
    assert set_in_voice_toml(voice(tmp_path, None, "Bert"), {"index": "a.index"}) == tmp_path / "Anna.toml"


@pytest.mark.parametrize(
    "before, after",
    [
        ("# mine\nname = 'A'\n\n[params]\npitch = 3\n", "# mine\nname = 'A'\nindex = \"a.index\"\n\n[params]\npitch = 3\n"),
        ("index = ''  # none yet\nslot = 2\n", 'index = "a.index"       # none yet\nslot = 2\n'),
        ("# index =   # a file's name\n", 'index = "a.index"       # a file\'s name\n'),
        ("# index = 'old.index'\n", "# index = 'old.index'\nindex = \"a.index\"\n"),
        ("[params]\npitch = 1\n", 'index = "a.index"\n[params]\npitch = 1\n'),
        ("", 'index = "a.index"\n'),
    ],
)
def test_the_line_is_put_where_it_belongs_and_all_else_stays(before: str, after: str, tmp_path: Path) -> None:
    path = set_in_voice_toml(voice(tmp_path, before), {"index": "a.index"})
    assert path.read_text().split() == after.split()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_file_that_is_wrong_already_is_left_as_it_is(tmp_path: Path) -> None:
    entry = voice(tmp_path, "slot = 5000\n")
    with pytest.raises(ModelFileError, match=r"slot: 5000 is too large.*correct it first"):
        set_in_voice_toml(entry, {"index": "a.index"})
    assert (tmp_path / "voice.toml").read_text() == "slot = 5000\n"


def test_a_file_in_which_a_line_would_do_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    text = 'name = """\\\n[x"""\n'  # a line of this text looks like a table's
    entry = voice(tmp_path, text)
    before = (tmp_path / "voice.toml").read_text()
    with pytest.raises(ModelFileError):
        set_in_voice_toml(entry, {"index": "a.index"})
    assert (tmp_path / "voice.toml").read_text() == before
