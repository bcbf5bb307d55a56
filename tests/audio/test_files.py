"""Reading any audio as mono, and writing files that are whole or not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.audio.files import FORMATS, AtomicAudioWriter, AudioReader, carried_rate_hz, read_audio, remove_leftovers
from rvcd.errors import AudioFileError, DiskFullError
from tests.waiting import eventually, has_ended

soundfile = pytest.importorskip("soundfile")
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(9600) / 48000)).astype(np.float32)


@pytest.mark.parametrize("extension", FORMATS)
def test_what_is_written_in_any_format_is_read_back(tmp_path, extension: str) -> None:
    path = tmp_path / f"sound{extension}"
    with AtomicAudioWriter(path, 48000) as writer:
        writer.write(TONE[:5000])
        writer.write(TONE[5000:])
    samples, rate_hz = read_audio(path)
    assert (samples.dtype, samples.ndim, rate_hz) == (np.float32, 1, 48000)
    exact = extension not in (".ogg", ".opus", ".mp3")
    assert abs(len(samples) - len(TONE)) <= (0 if exact else 2400)
    if exact:
        np.testing.assert_allclose(samples, TONE, atol=1e-6)
    else:
        assert 0.3 < np.sqrt(np.mean(samples[2000:6000] ** 2)) < 0.4
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_several_channels_are_averaged(tmp_path) -> None:
    soundfile.write(tmp_path / "two.wav", np.stack([TONE, 0.5 * TONE], axis=1), 44100, subtype="FLOAT")
    samples, rate_hz = read_audio(tmp_path / "two.wav")
    np.testing.assert_allclose(samples, 0.75 * TONE, atol=1e-6)
    assert rate_hz == 44100


@pytest.mark.parametrize(("gains", "expected"), [
    ((1.0, -1.0), 1.0),  # antiphase
    ((0.0, 0.0, 1.0, 0.0, 0.0, 0.0), 1.0),  # the centre of 5.1
    ((0.0, 0.8), 0.8),  # one side of a stereo recording
    ((0.5, -1.0, 0.4), -1.0),
    ((1.0, 1.0), 1.0),
    ((1.0, 0.5), 0.75),
    ((0.0, 0.0), 0.0),
])  # fmt: skip
@pytest.mark.parametrize("extension", [".wav", ".flac"])
def test_mixing_channels_never_loses_the_sound_without_a_word(
    tmp_path, extension: str, gains: tuple[float, ...], expected: float
) -> None:
    path = tmp_path / f"many{extension}"
    soundfile.write(path, np.stack([gain * TONE for gain in gains], axis=1), 48000, subtype="PCM_24")
    with AudioReader(path, block_samples=1000) as reader:
        samples = np.concatenate(list(reader))
        note = reader.note
    np.testing.assert_allclose(samples, expected * TONE, atol=1e-6)
    mixed = sum(gains) / len(gains)
    assert bool(note) is (abs(mixed - expected) > 1e-6)
    if note:
        loudest = 1 + int(np.argmax(np.abs(gains)))
        assert note.startswith(f"{path}: its {len(gains)} channels") and f"only channel {loudest}, the loudest" in note


@given(st.lists(st.floats(-1, 1).filter(lambda gain: gain == 0 or abs(gain) > 1e-3), min_size=2, max_size=8))
def test_the_mix_of_any_channels_keeps_most_of_the_loudest(gains: list[float]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        soundfile.write(f"{folder}/a.wav", np.stack([gain * TONE[:2000] for gain in gains], axis=1), 48000, subtype="FLOAT")
        samples, _ = read_audio(f"{folder}/a.wav")
    loudest = max(map(abs, gains)) * float(np.sqrt(np.mean(TONE[:2000] ** 2)))
    assert np.sqrt(np.mean(samples**2)) >= 0.59 * loudest


@given(st.one_of(st.integers(0, 2**32 - 1), st.integers(7000, 9000), st.integers(383_000, 385_000)))
def test_a_rate_that_no_recording_has_is_refused_with_its_bounds_before_anything_is_read(rate_hz: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lies.wav"
        soundfile.write(path, TONE[:100], 48000)
        content = bytearray(path.read_bytes())
        content[24:28] = rate_hz.to_bytes(4, "little")
        path.write_bytes(content)
        if 8000 <= rate_hz <= 384_000:
            assert read_audio(path)[1] == rate_hz
            return
        with pytest.raises(AudioFileError) as caught:
            AudioReader(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "8,000 to 384,000 Hz" in str(caught.value) or "not an audio file" in str(caught.value)


@pytest.mark.parametrize("extension", [".wav", ".flac", ".ogg"])
@pytest.mark.parametrize("name", [b"\xff", b"M\xfcller", "声".encode(), b"a\nb"])
def test_a_file_s_name_may_be_any_bytes(tmp_path, name: bytes, extension: str) -> None:
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    path = folder / f"{os.fsdecode(name)}{extension}"
    with AtomicAudioWriter(path, 48000) as writer:
        writer.write(TONE)
    assert read_audio(path)[1] == 48000
    assert os.listdir(os.fsencode(folder)) == [name + extension.encode()]


def test_samples_that_are_no_numbers_become_zero(tmp_path) -> None:
    broken = TONE.copy()
    broken[[5, 6, 7]] = [np.nan, np.inf, -np.inf]
    soundfile.write(tmp_path / "broken.wav", broken, 48000, subtype="FLOAT")
    samples, _ = read_audio(tmp_path / "broken.wav")
    assert not samples[5:8].any()
    np.testing.assert_array_equal(samples[8:], TONE[8:])


def test_a_long_file_is_read_block_by_block(tmp_path) -> None:
    soundfile.write(tmp_path / "long.wav", TONE, 48000, subtype="FLOAT")
    with AudioReader(tmp_path / "long.wav", block_samples=1000) as reader:
        blocks = list(reader)
        assert (reader.rate_hz, reader.channels, reader.total_samples) == (48000, 1, 9600)
    assert [len(block) for block in blocks] == [1000] * 9 + [600]
    np.testing.assert_array_equal(np.concatenate(blocks), TONE)


def test_unreadable_files_are_refused_in_one_sentence(tmp_path) -> None:
    (tmp_path / "text.wav").write_text("this is not audio" * 100)
    (tmp_path / "nothing.wav").write_bytes(b"")
    soundfile.write(tmp_path / "empty.wav", np.empty(0), 48000)
    for name, words in {
        "missing.wav": "no such file",
        "text.wav": "not an audio file",
        "nothing.wav": "is empty",
        "empty.wav": "no samples",
        ".": "directory",
        "text.raw": "no such file",
    }.items():
        with pytest.raises(AudioFileError, match=words) as caught:
            read_audio(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_a_truncated_file_gives_what_is_left_or_one_sentence(tmp_path) -> None:
    for extension in (".wav", ".flac", ".ogg"):
        path = tmp_path / f"cut{extension}"
        with AtomicAudioWriter(path, 48000) as writer:
            writer.write(np.tile(TONE, 10))
        os.truncate(path, path.stat().st_size // 2)
        refusal, samples = "", np.empty(0)
        try:
            samples, _ = read_audio(path)
        except AudioFileError as error:
            refusal = str(error)
        assert refusal.startswith(f"{path}: ") or 0 < len(samples) <= 96_000


def test_an_existing_file_is_replaced_only_by_force(tmp_path) -> None:
    path = tmp_path / "out.wav"
    path.write_bytes(b"precious")
    with pytest.raises(AudioFileError, match=r"already exists.*--force"):
        AtomicAudioWriter(path, 48000)
    assert path.read_bytes() == b"precious"
    with AtomicAudioWriter(path, 48000, force=True) as writer:
        writer.write(TONE)
        assert path.read_bytes() == b"precious"
    assert len(read_audio(path)[0]) == len(TONE)


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path) -> None:
    path = tmp_path / "out.wav"
    writer = AtomicAudioWriter(path, 48000)
    writer.write(TONE)
    path.write_bytes(b"precious")
    with pytest.raises(AudioFileError, match="appeared"):
        writer.commit()
    assert path.read_bytes() == b"precious"
    assert [p.name for p in tmp_path.iterdir()] == ["out.wav"]


def test_a_failed_writing_leaves_nothing_behind(tmp_path) -> None:
    def write_and_fail() -> None:
        with AtomicAudioWriter(tmp_path / "out.wav", 48000) as writer:
            writer.write(TONE)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_and_fail()
    assert list(tmp_path.iterdir()) == []


def test_impossible_targets_are_refused_in_one_sentence(tmp_path) -> None:
    for name, rate_hz, words in [
        ("out.xyz", 48000, r"unknown extension '.xyz': use one of .wav"),
        ("out", 48000, "unknown extension"),
        ("none/out.wav", 48000, "cannot be written there"),
        ("out.opus", 44100, "cannot hold"),
    ]:
        with pytest.raises(AudioFileError, match=words):
            AtomicAudioWriter(tmp_path / name, rate_hz)
    assert list(tmp_path.iterdir()) == []


# ---- cut files, and processes that are killed


@pytest.mark.parametrize("suffix, said", [(".mp3", "is cut short: "), (".flac", "damaged after "), (".wav", "is cut short: ")])
def test_of_a_cut_file_what_is_there_is_read_and_the_rest_is_told(tmp_path: Path, suffix: str, said: str) -> None:
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    sound = (0.1 * np.random.default_rng(0).standard_normal(4 * 48000)).astype(np.float32)
    soundfile.write(whole, sound, 48000)
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    with AudioReader(cut) as reader:
        samples = sum(len(block) for block in reader)
        assert 1.5 * 48000 < samples < 2.1 * 48000
        assert reader.note.startswith(f"{cut}: {said}")
    with AudioReader(whole) as reader:
        assert sum(len(block) for block in reader) >= 4 * 48000
        assert reader.note == ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_writer_that_is_killed_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    script = f"""
import os, numpy as np
from rvcd.audio.files import AtomicAudioWriter
writer = AtomicAudioWriter({str(tmp_path / "out.wav")!r}, 48000)
writer.write(np.zeros(100_000, np.float32))
os.kill(os.getpid(), {int(number)})
"""
    if not hasattr(os, "O_TMPFILE") or not _knows_nameless_files(tmp_path):
        pytest.skip("this file system knows no file without a name")
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == -number
    assert list(tmp_path.iterdir()) == []


def _knows_nameless_files(folder: Path) -> bool:
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR))
    except OSError:
        return False
    return True


def test_without_nameless_files_a_temporary_one_is_used_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rvcd.audio.files._open_nameless", lambda folder: -1)
    writer = AtomicAudioWriter(tmp_path / "out.wav", 48000)
    writer.write(np.zeros(100, np.float32))
    assert [path.name.split("-")[0] for path in tmp_path.iterdir()] == ["out.wav.part"]
    writer.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]


# ---- long files, full disks, what was left behind


def test_a_wav_that_would_be_too_long_for_its_header_is_an_rf64(tmp_path: Path) -> None:
    ten_hours = 10 * 3600 * 48000
    for expected, kind in ((ten_hours, "RF64"), (1000, "WAV")):
        with AtomicAudioWriter(tmp_path / "a.wav", 48000, force=True, expected_samples=expected) as writer:
            writer.write(np.linspace(-0.5, 0.5, 1000, dtype=np.float32))
        assert soundfile.info(tmp_path / "a.wav").format == kind
        audio, rate_hz = read_audio(tmp_path / "a.wav")
        assert (len(audio), rate_hz) == (1000, 48000)
    with pytest.raises(AudioFileError, match=r"AIFF holds 4 GB, and this would be longer: use \.wav, \.w64 or \.flac"):
        AtomicAudioWriter(tmp_path / "b.aiff", 48000, expected_samples=ten_hours)
    with AtomicAudioWriter(tmp_path / "c.flac", 48000, expected_samples=ten_hours) as writer:
        writer.write(np.zeros(10, np.float32))


@pytest.mark.parametrize(("free_blocks", "error"), [(0, DiskFullError), (10**9, AudioFileError)])
def test_a_full_disk_is_told_from_other_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_blocks: int, error: type[Exception]
) -> None:
    class Disk:
        f_bavail, f_frsize = free_blocks, 4096

    with AtomicAudioWriter(tmp_path / "a.wav", 8000) as writer:

        def refuse(samples: object) -> None:
            raise RuntimeError("System error.")

        monkeypatch.setattr(writer._file, "write", refuse)
        monkeypatch.setattr(os, "statvfs", lambda folder: Disk)
        with pytest.raises(AudioFileError, match="writing stopped") as caught:
            writer.write(np.zeros(10, np.float32))
        assert type(caught.value) is error
        writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    target = tmp_path / "a [1].wav"
    names = {f"{target.name}.part-{ended.pid}": False, f"{target.name}.part-{os.getpid()}": True, f"{target.name}.part-x": True,
             f"other.wav.part-{ended.pid}": True, target.name: True}  # fmt: skip
    for name in names:
        (tmp_path / name).touch()
    remove_leftovers(target)
    assert {name: (tmp_path / name).exists() for name in names} == names
    remove_leftovers(tmp_path / "gone/a.wav")


def test_a_process_that_has_ended_and_was_not_waited_for_counts_as_dead(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    eventually(lambda: has_ended(ended.pid))
    (tmp_path / f"a.wav.part-{ended.pid}").touch()
    remove_leftovers(tmp_path / "a.wav")
    ended.wait()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("extension", "rate_hz", "carried_hz"),
    [(".wav", 40000, 40000), (".opus", 40000, 48000), (".OPUS", 24000, 24000), (".mp3", 40000, 44100), (".mp3", 96000, 48000)],
)
def test_a_format_carries_the_next_higher_rate_that_it_has(extension: str, rate_hz: int, carried_hz: int) -> None:
    assert carried_rate_hz(extension, rate_hz) == carried_hz
