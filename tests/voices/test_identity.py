"""A voice whose files were changed, replaced or removed is another one, and is never read as half of each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvcd.errors import ModelFileError
from rvcd.voices.identity import MAX_READS, identity_of, read_unmixed
from rvcd.voices.registry import VoiceEntry, VoiceRegistry

TOML = 'slot = 4\ngain_db = -2.0\nindex = "b.index"\n[params]\npitch = 3\n'


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """One voice with two indexes beside it, of which its voice.toml names one."""
    folder = tmp_path / "voices" / "anna"
    folder.mkdir(parents=True)
    for name in ("anna.pth", "a.index", "b.index"):
        (folder / name).write_text(name)
    (folder / "voice.toml").write_text(TOML)
    let_the_clock_tick(tmp_path)
    return tmp_path / "voices"


def let_the_clock_tick(folder: Path) -> None:
    """Return once a file that is written now has another time than those written before: file systems count in milliseconds."""
    probe = folder / "probe"
    probe.touch()
    before = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == before:
        probe.write_text("")
        probe.chmod(0o600)


def found(voices: Path) -> VoiceEntry:
    return VoiceRegistry.scan([voices]).find("anna")


def write_over(folder: Path) -> None:
    (folder / "anna.pth").write_text("ANNA.PTH")


def write_over_and_hide_the_time(folder: Path) -> None:
    before = os.stat(folder / "anna.pth")
    write_over(folder)
    os.utime(folder / "anna.pth", ns=(before.st_atime_ns, before.st_mtime_ns))


def put_another_in_its_place(folder: Path) -> None:
    shutil.copy2(folder / "anna.pth", folder / "new")
    os.replace(folder / "new", folder / "anna.pth")


def swap_the_folder(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "new")
    os.rename(folder, folder.parent.parent / "old")
    os.rename(folder.parent / "new", folder)


CHANGES: list[Callable[[Path], object]] = [
    write_over,
    write_over_and_hide_the_time,
    put_another_in_its_place,
    swap_the_folder,
    lambda folder: (folder / "b.index").write_text("other"),
    lambda folder: (folder / "b.index").unlink(),
    lambda folder: (folder / "voice.toml").write_text(TOML.replace("3", "4")),
    lambda folder: (folder / "voice.toml").write_text(TOML.replace("b.index", "a.index")),
    lambda folder: (folder / "voice.toml").unlink(),
    lambda folder: (folder / "anna.toml").write_text(TOML),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_any_of_its_files_makes_it_another_voice(voices: Path, change: Callable[[Path], object]) -> None:
    before = identity_of(found(voices))
    change(voices / "anna")
    assert identity_of(found(voices)) != before


def test_what_is_not_part_of_it_changes_nothing(voices: Path) -> None:
    before = identity_of(found(voices))
    (voices / "anna" / "a.index").write_text("other")
    (voices / "anna" / "readme.txt").write_text("hello")
    (voices / "bob.pth").write_text("bob")
    assert identity_of(found(voices)) == before
    assert identity_of(replace(found(voices), slot=7)) == before


def test_files_that_are_gone_or_impossible_are_no_error(voices: Path) -> None:
    voice = found(voices)
    shutil.rmtree(voices)
    gone = identity_of(voice)
    assert gone == identity_of(replace(voice, index_path=None, toml_path=Path("a\0b")))


def test_after_a_rescan_a_voice_has_what_its_voice_toml_says_now(voices: Path) -> None:
    entry = found(voices)
    assert (entry.slot, entry.gain_db, entry.params, entry.index_path) == (4, -2.0, {"pitch": 3.0}, voices / "anna" / "b.index")
    (voices / "anna" / "voice.toml").write_text('slot = 9\ngain_db = 1.5\nindex = ""\nspeaker = 2\n[params]\nformant = 0.5\n')
    entry = found(voices)
    assert (entry.slot, entry.gain_db, entry.params, entry.index_path) == (9, 1.5, {"formant": 0.5}, None)
    assert (entry.speaker, entry.toml_path) == (2, voices / "anna" / "voice.toml")


# ---- reading while files are replaced


def test_a_voice_that_is_replaced_while_it_is_read_is_read_again(voices: Path) -> None:
    pth, index = voices / "anna" / "anna.pth", voices / "anna" / "b.index"

    def read() -> tuple[str, str]:
        first = pth.read_text()
        if first == "anna.pth":
            pth.write_text("new pth")
            index.write_text("new index")
        return first, index.read_text()

    assert read_unmixed((pth, index), read) == ("new pth", "new index")


def test_what_failed_because_files_were_replaced_is_tried_again_and_other_failures_are_not(voices: Path) -> None:
    pth = voices / "anna" / "anna.pth"
    reads = 0

    def read() -> str:
        nonlocal reads
        reads += 1
        if reads == 1:
            pth.write_text("new pth")
        if pth.read_text() != "new pth" or reads == 1:
            raise ModelFileError(f"{pth}: is damaged")
        return "whole"

    assert (read_unmixed((pth,), read), reads) == ("whole", 2)
    pth.write_text("broken")
    with pytest.raises(ModelFileError, match="is damaged"):
        read_unmixed((pth,), read)
    assert reads == 3


def test_files_that_never_rest_are_one_sentence(voices: Path) -> None:
    pth = voices / "anna" / "anna.pth"
    reads = []

    def read() -> None:
        reads.append(1)
        pth.write_text("x" * len(reads))

    with pytest.raises(ModelFileError, match=r"anna\.pth: is being written, again and again"):
        read_unmixed((pth,), read)
    assert len(reads) == MAX_READS


@given(st.lists(st.sampled_from(range(4)), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_looking_twice_at_the_same_files_finds_the_same_voice(voices: Path, changes: list[int]) -> None:
    folder = voices / "anna"
    for number in changes:
        name = ("anna.pth", "a.index", "b.index", "voice.toml")[number]
        if (folder / name).exists() and name != "anna.pth":
            (folder / name).unlink()
        else:
            (folder / name).write_text(TOML if name == "voice.toml" else name)
    assert identity_of(found(voices)) == identity_of(found(voices))
