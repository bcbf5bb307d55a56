"""A voice is imported whole or not at all, from untrusted archives too."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvcd.errors import ModelFileError, ParamError, RvcdError
from rvcd.voices import archive as voice_archive
from rvcd.voices import importing as voice_import
from rvcd.voices.folder_exchange import exchange
from rvcd.voices.identity import identity_of
from rvcd.voices.importing import Imported, ImportRequest, import_voice, safe_name
from rvcd.voices.registry import VoiceRegistry

PARITY = Path(__file__).parent.parent / "data" / "parity"
VOICE, OTHER_VOICE = PARITY / "v2_40k_f0.pth", PARITY / "v1_40k_f0.pth"
INDEX, INDEX_V1 = PARITY / "added_IVF8_Flat_nprobe_1_kit_v2.index", PARITY / "added_IVF8_Flat_nprobe_1_kit_v1.index"


T = TypeVar("T")


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    return tmp_path / "voices"


def run(voices: Path, *sources: Path, **options: object) -> Imported:
    others = VoiceRegistry.scan([voices] if voices.is_dir() else [])
    return import_voice(ImportRequest(sources, voices, **options), others)  # type: ignore[arg-type]


def listing(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, hidden ones too, with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def pack(path: Path, members: dict[str, Path | bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content.read_bytes() if isinstance(content, Path) else content)
    return path


# ---- what is imported


def test_a_pth_and_its_index_become_a_folder_that_the_registry_finds(voices: Path) -> None:
    done = run(voices, VOICE, INDEX, name="Anna", slot=4, gain_db=-3.0)
    assert done.index is not None and done.index.vectors == 600
    assert sorted(listing(voices)) == ["Anna/Anna.index", "Anna/Anna.pth", "Anna/voice.toml"]
    assert (voices / "Anna" / "Anna.pth").read_bytes() == VOICE.read_bytes()
    registry = VoiceRegistry.scan([voices])
    entry = registry.find("Anna")
    assert (entry.slot, entry.gain_db, entry.path) == (4, -3.0, done.spec.path)
    assert entry.index_path == voices / "Anna" / "Anna.index"
    assert registry.skipped == ()


def test_a_folder_is_searched_one_level_deep_and_training_files_are_left_with_a_note(tmp_path: Path, voices: Path) -> None:
    source = tmp_path / "download"
    (source / "logs").mkdir(parents=True)
    shutil.copy(VOICE, source / "Anna (RVC v2) [e200].pth")
    shutil.copy(INDEX, source / "logs" / "added_IVF256_Flat_nprobe_1_whatever_v2.index")
    (source / "G_2333.pth").write_bytes(b"training")
    (source / "readme.txt").write_text("hello")
    done = run(voices, source)
    assert done.settings.name == "Anna RVC v2 e200"
    assert done.index is not None
    assert done.notes == (
        f"{source / 'G_2333.pth'}: is a training checkpoint by its name; use the small .pth that the trainer exported",
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_unpacked_to_the_voice_in_it(tmp_path: Path, voices: Path, method: int) -> None:
    archive = pack(
        tmp_path / "anna.zip",
        {
            "weights/": b"", "weights/anna.pth": VOICE, "logs/added_IVF8_Flat_nprobe_1_anna_v2.index": INDEX,
            "logs/trained_IVF8.index": b"x", "logs/D_1.pth": b"x", "run.sh": b"x",
            "__MACOSX/weights/._anna.pth": b"x", "__MACOSX/weights/anna.pth": b"x",
        },
        method,
    )  # fmt: skip
    done = run(voices, archive)
    assert done.settings.name == "anna" and done.index is not None
    assert [note for note in done.notes if "D_1.pth" in note and "training checkpoint" in note]
    files = listing(voices)
    assert sorted(files) == ["anna/anna.index", "anna/anna.pth", "anna/voice.toml"]
    assert files["anna/anna.pth"] == VOICE.read_bytes() and files["anna/anna.index"] == INDEX.read_bytes()


def test_settings_that_come_with_a_voice_are_taken_but_for_its_slot(tmp_path: Path, voices: Path) -> None:
    toml = b'name = "Anna"\nslot = 9\ngain_db = 2\nspeaker = 1\nindex = "x.index"\n[params]\npitch = 3\n'
    archive = pack(tmp_path / "a.zip", {"model.pth": VOICE, "voice.toml": toml})
    done = run(voices, archive, gain_db=-1.0)
    entry = VoiceRegistry.scan([voices]).find("Anna")
    assert (entry.slot, entry.slot_wanted, entry.speaker, entry.gain_db, entry.params) == (1, 0, 1, -1.0, {"pitch": 3.0})
    bad = pack(tmp_path / "b.zip", {"model.pth": VOICE, "voice.toml": b"slot = 0"})
    done = run(voices, bad)
    assert done.settings.name == "model"
    assert done.notes == (f"{bad}: voice.toml: slot: 0 is too small; it takes a whole number, 1..999",)


def test_an_index_that_does_not_fit_is_refused_when_named_and_left_out_when_only_found(tmp_path: Path, voices: Path) -> None:
    with pytest.raises(ModelFileError, match="is an index of width 256, but the voice's units have width 768"):
        run(voices, VOICE, INDEX_V1)
    assert not voices.exists()
    done = run(voices, pack(tmp_path / "a.zip", {"anna.pth": VOICE, "anna.index": INDEX_V1}))
    assert done.index is None and sorted(listing(voices)) == ["anna/anna.pth", "anna/voice.toml"]
    assert "no index is imported" in done.notes[0] and "anna.index: is an index of width 256" in done.notes[0]


@pytest.mark.parametrize(
    "text, name",
    [
        ("Anna", "Anna"), ("Anna (v2) [40k]", "Anna v2 40k"), ("../../etc", "etc"), (".hidden", "hidden"), ("a\x00b\nc", "a b c"),
        ("日本語", "日本語"), ("???", ""), ("", ""), ("x" * 100, "x" * 64), ("a. ", "a."),
    ],
)  # fmt: skip
def test_a_file_s_name_becomes_one_that_is_safe(text: str, name: str) -> None:
    assert safe_name(text) == name


# ---- what is refused


def refusal(voices: Path, *sources: Path, **options: object) -> str:
    """Import, which must fail in one sentence and leave the voices as they were; return the sentence."""
    before = listing(voices) if voices.is_dir() else None
    with pytest.raises(RvcdError) as caught:
        run(voices, *sources, **options)
    assert (listing(voices) if voices.is_dir() else None) == before
    assert not voices.is_dir() or not any(name.startswith(".") for name in os.listdir(voices))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_sources_that_are_no_voice_are_refused_before_anything_is_written(tmp_path: Path, voices: Path) -> None:
    html, empty, rar = tmp_path / "a.pth", tmp_path / "empty", tmp_path / "voice.rar"
    html.write_text("<!doctype html><html>")
    empty.mkdir()
    rar.write_bytes(b"Rar!")
    os.mkfifo(tmp_path / "pipe.pth")
    assert "is a web page, not a model" in refusal(voices, html)
    assert "holds no voice (*.pth)" in refusal(voices, empty)
    assert "unpack it first" in refusal(voices, rar)
    assert "is not a file" in refusal(voices, tmp_path / "pipe.pth")
    assert "does not exist; check the path" in refusal(voices, tmp_path / "none")
    assert "holds no voice (*.pth)" in refusal(voices, INDEX)
    assert "holds 2 voices (v2_40k_f0.pth, v1_40k_f0.pth); import one at a time" in refusal(voices, VOICE, OTHER_VOICE)
    assert "is a second index" in refusal(voices, VOICE, INDEX, INDEX_V1)
    assert not voices.exists()


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/etc", ".hidden", "G_123", " a", "x" * 65, "a\n", "a\x00"])
def test_names_that_could_be_paths_or_would_not_be_found_are_refused(voices: Path, name: str) -> None:
    assert "the voice's name:" in refusal(voices, VOICE, name=name)
    assert not voices.exists()


def test_bounds_of_slot_and_gain_are_told(voices: Path) -> None:
    assert refusal(voices, VOICE, slot=1000) == "the voice's slot: 1000 is too large; it takes a whole number, 1..999"
    assert "is not finite; it takes a number, -24..24 dB" in refusal(voices, VOICE, gain_db=float("nan"))


def test_nothing_is_overwritten_unasked(voices: Path) -> None:
    run(voices, VOICE, INDEX, name="Anna")
    assert refusal(voices, OTHER_VOICE, name="Anna") == (
        f"{voices / 'Anna'}: exists already; --force replaces it, --name chooses another name"
    )
    run(voices, OTHER_VOICE, name="Anna", force=True)
    assert sorted(listing(voices)) == ["Anna/Anna.pth", "Anna/voice.toml"]
    assert (voices / "Anna" / "Anna.pth").read_bytes() == OTHER_VOICE.read_bytes()


def test_a_voice_can_replace_itself(voices: Path) -> None:
    run(voices, VOICE, INDEX, name="Anna")
    run(voices, voices / "Anna", gain_db=3.0, force=True)
    entry = VoiceRegistry.scan([voices]).find("Anna")
    assert (entry.gain_db, entry.index_path) == (3.0, voices / "Anna" / "Anna.index")


def test_force_replaces_no_folder_that_holds_anything_but_a_voice(tmp_path: Path, voices: Path) -> None:
    (voices / "Documents").mkdir(parents=True)
    (voices / "Documents" / "thesis.txt").write_text("years of work")
    assert "holds 'thesis.txt', and is not replaced" in refusal(voices, VOICE, name="Documents", force=True)
    (voices / "link").symlink_to(tmp_path)
    assert "is no voice's folder, and is not replaced" in refusal(voices, VOICE, name="link", force=True)
    (voices / "file").write_text("x")
    assert "is no voice's folder, and is not replaced" in refusal(voices, VOICE, name="file", force=True)
    (voices / "several").mkdir()
    for name in ("a.pth", "b.pth"):
        (voices / "several" / name).write_text("x")
    assert "holds several voices" in refusal(voices, VOICE, name="several", force=True)


def test_another_voice_s_name_and_fixed_slot_are_its_own(voices: Path) -> None:
    voices.mkdir()
    shutil.copy(VOICE, voices / "Anna.pth")
    run(voices, VOICE, name="Bob", slot=3)
    assert "a voice called 'Anna' is there already" in refusal(voices, OTHER_VOICE, name="anna", force=True)
    assert "slot 3 is the fixed slot of 'Bob'" in refusal(voices, OTHER_VOICE, name="Cat", slot=3)
    run(voices, OTHER_VOICE, name="Cat", slot=1)  # Anna is there, but not fixed
    assert VoiceRegistry.scan([voices]).find(1).name == "Cat"


@pytest.fixture
def exchanging(tmp_path: Path) -> None:
    """Skip on a file system that cannot exchange two folders."""
    folder = tmp_path / "probe"
    (folder / "a").mkdir(parents=True)
    (folder / "b").mkdir()
    can = exchange(folder / "a", folder / "b")
    shutil.rmtree(folder)
    if not can:
        pytest.skip("this file system cannot exchange two folders")


@pytest.mark.usefixtures("exchanging")
def test_a_daemon_that_looks_while_a_voice_is_replaced_finds_it_every_time(voices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The import is watched at each of its renames: between two of them is where a voice could be missing."""
    run(voices, VOICE, name="Anna")
    looks: list[bool] = []

    def watched(rename: Callable[..., T]) -> Callable[..., T]:
        def rename_and_look(source: Path, target: Path) -> T:
            result = rename(source, target)
            looks.append(VoiceRegistry.scan([voices]).names == ("Anna",))
            return result

        return rename_and_look

    monkeypatch.setattr(os, "rename", watched(os.rename))
    monkeypatch.setattr(voice_import, "exchange", watched(exchange))
    run(voices, OTHER_VOICE, name="Anna", force=True)
    assert looks and all(looks)
    assert (voices / "Anna" / "Anna.pth").read_bytes() == OTHER_VOICE.read_bytes()
    assert os.listdir(voices) == ["Anna"]


def test_a_voice_that_was_replaced_or_whose_settings_were_edited_is_another_one_after_a_rescan(voices: Path) -> None:
    identities = []
    for source in (VOICE, VOICE, OTHER_VOICE):
        run(voices, source, name="Anna", force=True)
        identities.append(identity_of(VoiceRegistry.scan([voices]).find("Anna")))
    toml = voices / "Anna" / "voice.toml"
    toml.write_text(toml.read_text() + "pitch = -5\n")
    entry = VoiceRegistry.scan([voices]).find("Anna")
    identities.append(identity_of(entry))
    assert len(set(identities)) == 4
    assert entry.params == {"pitch": -5.0}


def test_a_voice_that_is_open_while_it_is_replaced_is_read_to_its_end(voices: Path) -> None:
    run(voices, VOICE, name="Anna")
    with (voices / "Anna" / "Anna.pth").open("rb") as opened:
        head = opened.read(1000)
        run(voices, OTHER_VOICE, name="Anna", force=True)
        assert head + opened.read() == VOICE.read_bytes()


def test_where_two_folders_cannot_be_exchanged_they_are_renamed(voices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice_import, "exchange", lambda first, second: False)
    run(voices, VOICE, INDEX, name="Anna")
    run(voices, OTHER_VOICE, name="Anna", force=True)
    assert sorted(listing(voices)) == ["Anna/Anna.pth", "Anna/voice.toml"]
    assert (voices / "Anna" / "Anna.pth").read_bytes() == OTHER_VOICE.read_bytes()


@pytest.mark.usefixtures("exchanging")
def test_folders_are_exchanged_whole_or_not_at_all(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert exchange(tmp_path / "a", tmp_path / "b")
    assert sorted(listing(tmp_path)) == ["a/b", "b/a"]
    assert not exchange(tmp_path / "a", tmp_path / "none")
    assert sorted(listing(tmp_path)) == ["a/b", "b/a"]


def test_a_failing_last_step_brings_the_old_voice_back(voices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice_import, "exchange", lambda first, second: False)
    run(voices, VOICE, name="Anna")
    rename = os.rename

    def fails_into_place(source: Path, target: Path) -> None:
        if target == voices / "Anna" and source.name == "voice":
            raise OSError(28, "No space left on device", str(target))
        rename(source, target)

    monkeypatch.setattr("os.rename", fails_into_place)
    assert "the voice cannot be copied (no space left on device)" in refusal(voices, OTHER_VOICE, name="Anna", force=True)
    assert VoiceRegistry.scan([voices]).names == ("Anna",)


def test_an_interrupted_copy_leaves_nothing(voices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(voice_import, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(voices, VOICE, INDEX, name="Anna")
    assert not voices.exists()


def test_numbers_that_were_damaged_on_the_way_are_found(tmp_path: Path, voices: Path) -> None:
    data = bytearray(VOICE.read_bytes())
    with zipfile.ZipFile(VOICE) as archive:
        entry = max(archive.infolist(), key=lambda info: info.file_size)
    data[entry.header_offset + 200 + entry.file_size // 2] ^= 0x55
    (tmp_path / "a.pth").write_bytes(data)
    assert "is damaged (checksum of " in refusal(voices, tmp_path / "a.pth")


def test_a_link_in_a_folder_is_passed_over(tmp_path: Path, voices: Path) -> None:
    source = tmp_path / "download"
    source.mkdir()
    shutil.copy(VOICE, source / "anna.pth")
    (source / "anna.index").symlink_to("/etc/passwd")
    done = run(voices, source)
    assert done.index is None and "is a link, and is passed over" in done.notes[0]


# ---- hostile archives


def test_names_that_climb_out_become_names_inside(tmp_path: Path, voices: Path) -> None:
    for number, name in enumerate(("../../evil.pth", "/etc/cron.d/evil.pth", "..\\..\\evil.pth", "C:\\evil.pth")):
        folder = voices / str(number)
        run(folder, pack(tmp_path / f"{number}.zip", {name: VOICE}))
        assert sorted(listing(folder)) == ["evil/evil.pth", "evil/voice.toml"]
    assert {path.name for path in tmp_path.iterdir()} == {"voices", "0.zip", "1.zip", "2.zip", "3.zip"}


def test_links_and_devices_in_an_archive_are_refused(tmp_path: Path, voices: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR):
        info = zipfile.ZipInfo("anna.pth")
        info.external_attr = (kind | 0o777) << 16
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(info, "/etc/passwd")
        assert "anna.pth: is a link or another special file; refused" in refusal(voices, tmp_path / "a.zip")


def test_a_member_that_grows_a_thousandfold_is_refused_unread(tmp_path: Path, voices: Path) -> None:
    bomb = pack(tmp_path / "a.zip", {"anna.pth": b"\0" * 30_000_000})
    assert "would grow from" in refusal(voices, bomb)


def test_sizes_beyond_the_limits_are_refused_unread(tmp_path: Path, voices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / "a.zip", {"anna.pth": VOICE, "anna.index": INDEX}, zipfile.ZIP_STORED)
    monkeypatch.setattr(voice_archive, "MAX_FILE_BYTES", 1_000_000)
    assert "anna.index: has 1,872,779 bytes, more than the 1,000,000" in refusal(voices, archive)
    monkeypatch.setattr(voice_archive, "MAX_FILE_BYTES", 2 << 30)
    monkeypatch.setattr(voice_archive, "MAX_UNPACKED_BYTES", 2_000_000)
    assert "would unpack to 2,261,398 bytes" in refusal(voices, archive)


def test_a_member_that_claims_less_than_it_holds_gives_no_more_than_it_claims(tmp_path: Path, voices: Path) -> None:
    """Its directory entry says 1000 bytes where the packed data unpacks to 30 million."""
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packed.compress(b"\0" * 30_000_000) + packed.flush()
    archive = tmp_path / "a.zip"
    archive.write_bytes(raw_zip(b"anna.pth", data, size=1000, method=8))
    (part,) = voice_archive.unpack_voice(archive, lambda: tmp_path, [])
    assert part.path.read_bytes() == b"\0" * 1000
    assert "anna.pth: is not a torch file" in refusal(voices, archive)


def test_encrypted_and_oddly_packed_members_are_refused_with_the_way_out(tmp_path: Path, voices: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(raw_zip(b"anna.pth", b"x" * 100, size=88, method=0, flags=1))
    assert "is encrypted; unpack the archive with its password" in refusal(voices, archive)
    pack(archive, {"anna.pth": VOICE}, zipfile.ZIP_LZMA)
    assert "is packed in an unusual way; unpack the archive" in refusal(voices, archive)


def test_a_table_of_contents_without_end_is_refused_before_it_is_read(tmp_path: Path, voices: Path) -> None:
    archive = tmp_path / "a.zip"
    entry = raw_zip(b"a" * 100, b"", size=0, method=0)
    directory = entry[entry.index(b"PK\x01\x02") : entry.index(b"PK\x05\x06")] * 10_000
    archive.write_bytes(directory + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 10_000, 10_000, len(directory), 0, 0))
    assert "lists more files than a voice has" in refusal(voices, archive)


def test_many_voices_in_an_archive_are_refused_before_any_is_unpacked(tmp_path: Path, voices: Path) -> None:
    archive = pack(tmp_path / "a.zip", {f"{number}.pth": b"x" for number in range(50)})
    assert "holds 50 voices and indexes" in refusal(voices, archive)
    two = pack(tmp_path / "b.zip", {"anna.pth": VOICE, "bob.pth": OTHER_VOICE})
    assert f"{two}: holds 2 voices (anna.pth, bob.pth)" in refusal(voices, two)


def test_an_archive_without_a_voice_says_what_was_in_it(tmp_path: Path, voices: Path) -> None:
    assert "holds no voice (*.pth)" in refusal(voices, pack(tmp_path / "a.zip", {"readme.txt": b"x"}))
    only_training = pack(tmp_path / "b.zip", {"G_1.pth": b"x"})
    assert "G_1.pth: is a training checkpoint" in refusal(voices, only_training)
    broken = pack(tmp_path / "c.zip", {"anna.pth": b"x"})
    assert refusal(voices, broken) == f"{broken}: anna.pth: is not a torch file; use a .pth, .pt or .bin file made by torch.save"
    assert "holds no voice" in refusal(voices, Path(shutil.copy(VOICE, tmp_path / "voice.zip")))


def test_control_characters_of_a_member_s_name_are_not_printed(tmp_path: Path, voices: Path) -> None:
    archive = pack(tmp_path / "a.zip", {"a\x1b[31m\nb.pth": b"x"})
    assert refusal(voices, archive).isprintable()


def test_a_full_disk_is_one_sentence_and_nothing_stays(tmp_path: Path, voices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("shutil.copyfile", full)
    sentence = refusal(voices, VOICE, name="Anna")
    assert "the voice cannot be copied (no space left on device); mend that, or choose another --to FOLDER" in sentence
    assert not voices.exists()


def mutated(data: bytes, edits: list[tuple[int, int]], cut: int) -> bytes:
    changed = bytearray(data)
    for at, value in edits:
        # Most of the archive is weights: two in three edits aim at its table of contents.
        place = len(changed) - 1 - at % 300 if at % 3 else at % len(changed)
        changed[place] = value
    return bytes(changed[: len(changed) - cut % 400 if cut % 2 else len(changed)])


@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 1 << 20))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_archive_is_imported_right_or_refused_in_one_sentence(
    tmp_path: Path, edits: list[tuple[int, int]], cut: int
) -> None:
    whole, damaged, voices = tmp_path / "whole.zip", tmp_path / "damaged.zip", tmp_path / "voices"
    if not whole.exists():
        pack(whole, {"anna.pth": VOICE, "voice.toml": b"gain_db = 1"})
    damaged.write_bytes(mutated(whole.read_bytes(), edits, cut))
    shutil.rmtree(voices, ignore_errors=True)
    try:
        content = run(voices, damaged).spec.path.read_bytes()
    except (ModelFileError, ParamError) as error:
        sentence = str(error)
    else:
        assert content == VOICE.read_bytes()
        return
    assert "\n" not in sentence and not voices.exists()


def raw_zip(name: bytes, data: bytes, *, size: int, method: int, flags: int = 0) -> bytes:
    """Return an archive of one member whose directory claims any size, method and flags; its checksum is that of `size` zeros."""
    crc = zlib.crc32(b"\0" * size)
    common = struct.pack("<HHHHIIIHH", flags, method, 0, 33, crc, len(data), size, len(name), 0)
    local = b"PK\x03\x04" + struct.pack("<H", 20) + common + name + data
    central = b"PK\x01\x02" + struct.pack("<HH", 20, 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    return local + central + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
