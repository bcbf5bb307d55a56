"""From what a command line names to pairs of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rvcd.rendering.plan import Plan, make_plan


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("in/b.wav", "in/a.flac", "in/sub/deep/c.MP3", "in/notes.txt", "in/.hidden.wav", "in/._b.wav", "more/b.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def pairs(plan: Plan) -> list[tuple[str, str]]:
    return [(str(item.source), str(item.target)) for item in plan.items if not item.problem]


def problems(plan: Plan) -> list[str]:
    return [item.problem for item in plan.items if item.problem]


def test_one_folder_is_mirrored_into_the_output_folder(folder: Path) -> None:
    plan = make_plan(["in"], Path("out"), ".wav")
    assert pairs(plan) == [
        ("in/a.flac", "out/a.wav"), ("in/b.wav", "out/b.wav"), ("in/sub/deep/c.MP3", "out/sub/deep/c.wav"),
    ]  # fmt: skip
    assert plan.notes == ["in: 1 file(s) without an extension of audio were passed over"]


def test_several_inputs_keep_the_names_of_folders_and_a_file_that_is_named_twice_is_done_once(folder: Path) -> None:
    plan = make_plan(["in/sub", "more", "in/b.wav", "./in/b.wav"], Path("out"), ".flac")
    assert pairs(plan) == [
        ("in/sub/deep/c.MP3", "out/sub/deep/c.flac"), ("more/b.wav", "out/more/b.flac"), ("in/b.wav", "out/b.flac"),
    ]  # fmt: skip


def test_a_pattern_is_mirrored_from_its_first_wildcard_on(folder: Path) -> None:
    assert pairs(make_plan(["in/**/*.[mM][pP]3"], Path("out"), ".wav")) == [("in/sub/deep/c.MP3", "out/sub/deep/c.wav")]
    assert pairs(make_plan([f"{folder}/*/b.wav"], Path("out"), ".wav")) == [
        (f"{folder}/in/b.wav", "out/in/b.wav"), (f"{folder}/more/b.wav", "out/more/b.wav"),
    ]  # fmt: skip
    assert problems(make_plan(["in/*.ogg"], Path("out"), ".wav")) == ["in/*.ogg: no audio file matches this pattern"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(folder: Path) -> None:
    (folder / "take [1].wav").touch()
    assert pairs(make_plan(["take [1].wav"], Path("out"), ".wav")) == [("take [1].wav", "out/take [1].wav")]


def test_sources_that_differ_in_their_extension_only_keep_it_in_the_name(folder: Path) -> None:
    (folder / "in/b.mp3").touch()
    (folder / "in/b.ogg").touch()
    assert pairs(make_plan(["in"], Path("out"), ".wav"))[1:4] == [
        ("in/b.mp3", "out/b.mp3.wav"), ("in/b.ogg", "out/b.ogg.wav"), ("in/b.wav", "out/b.wav"),
    ]  # fmt: skip


def test_two_files_of_one_name_from_two_places_are_not_written_over_each_other(folder: Path) -> None:
    plan = make_plan(["in/b.wav", "more/b.wav"], Path("out"), ".wav")
    assert pairs(plan) == [("in/b.wav", "out/b.wav")]
    assert problems(plan) == ["more/b.wav: would be written to the same file as in/b.wav; give one of them another name"]


def test_links_that_loop_are_followed_once_and_said(folder: Path) -> None:
    os.symlink("..", folder / "in/sub/up")
    os.symlink("../more", folder / "in/linked")
    plan = make_plan(["in"], Path("out"), ".wav")
    assert ("in/linked/b.wav", "out/linked/b.wav") in pairs(plan) and len(plan.items) == 4
    assert "in/sub/up: leads to a folder that was looked into already, and is passed over" in plan.notes


def test_an_output_folder_inside_the_input_is_not_taken_for_input(folder: Path) -> None:
    (folder / "in/out").mkdir()
    (folder / "in/out/old.wav").touch()
    assert len(make_plan(["in"], Path("in/out"), ".wav").items) == 3


def test_a_source_is_never_the_target_of_another(folder: Path) -> None:
    plan = make_plan(["in"], Path("in"), ".wav")
    assert pairs(plan) == []
    # Looked for nowhere: the folder is its own output.
    assert problems(plan) == ["in: holds no audio file (WAV, FLAC, OGG, MP3, ...)"]
    assert problems(make_plan(["in/a.flac", "in/b.wav"], Path("in"), ".flac")) == [
        "in/a.flac: in/a.flac is one of the files to be converted; choose another output folder or --format"
    ]


def test_what_is_no_regular_file_is_said_without_opening_it(folder: Path) -> None:
    os.mkfifo(folder / "in/pipe.wav")
    os.symlink("nowhere", folder / "in/broken.wav")
    os.symlink("circle.wav", folder / "in/circle.wav")
    found = problems(make_plan(["in", "gone.wav"], Path("out"), ".wav"))
    assert found == [
        "in/broken.wav: a link that leads nowhere, or in a circle",
        "in/circle.wav: a link that leads nowhere, or in a circle",
        "in/pipe.wav: is no file but a pipe, a socket or a device; only files can be read",
        "gone.wav: does not exist; check the path",
    ]


def test_a_folder_without_audio_is_said(folder: Path) -> None:
    (folder / "nothing").mkdir()
    assert problems(make_plan(["nothing"], Path("out"), ".wav")) == ["nothing: holds no audio file (WAV, FLAC, OGG, MP3, ...)"]


def test_a_folder_that_cannot_be_looked_into_is_said_and_the_others_are_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied")
        return looked(path)

    monkeypatch.setattr(os, "scandir", scandir)
    plan = make_plan(["in"], Path("out"), ".wav")
    assert len(pairs(plan)) == 2
    assert problems(plan) == ["in/sub: cannot be looked into: permission denied"]


def test_a_name_that_is_no_text_stays_what_it_is(folder: Path) -> None:
    name = os.fsdecode(b"in/caf\xe9.wav")
    Path(name).touch()
    assert (name, os.fsdecode(b"out/caf\xe9.wav")) in pairs(make_plan(["in"], Path("out"), ".wav"))
