"""The recorder: what is in the file, where it ends, and when there is none."""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.config.settings import Record
from rvcd.daemon.recording import RecordSettings, file_name, record_settings
from rvcd.ipc.channel import Channel
from rvcd.ipc.messages import Began, Ended, LogLine, Refused, ToRecorder
from rvcd.ipc.segment import AudioSegment
from rvcd.recorder.main import Recorder
from tests.audio.conftest import HandDriven
from tests.recorder.session import (
    PLENTY,
    RATE_HZ,
    SETTLED,
    VOICE,
    DrivenSession,
    contents,
    in_24_bits,
    new_session,
    record,
    request_for,
    said_to,
)


@pytest.fixture
def session() -> Iterator[DrivenSession]:
    with new_session() as session:
        yield session


# ---- what is in the file


@settings(max_examples=25, deadline=None)
@given(latency=st.integers(0, 30_000), before=st.integers(0, 40_000), length=st.integers(1, 60_000), period=st.integers(64, 5000))
def test_both_channels_hold_every_sample_and_line_up(
    tmp_path_factory: pytest.TempPathFactory, latency: int, before: int, length: int, period: int
) -> None:
    folder = tmp_path_factory.mktemp("takes")
    with AudioSegment.create(RATE_HZ) as segment:
        segment.set_latency_samples(latency)
        session = DrivenSession(segment)
        session.play(before + length + 1000, period)
        began, ended = record(segment, request_for(folder, start=before), stop=before + length)
        dry, wet = contents(began.path)
        np.testing.assert_array_equal(dry, in_24_bits(session.heard()[before : before + length]))
        np.testing.assert_array_equal(wet, in_24_bits(session.given[before : before + length]))
        assert ended == Ended(began.path, length, 0, "")
        session.device.close()
    shutil.rmtree(folder)


def test_with_bypass_both_channels_are_the_same(session: DrivenSession, tmp_path: Path) -> None:
    """The device delays the raw voice by the latency, and so does the recorder: by as much, to the sample."""
    session.segment.set_latency_samples(12_345)
    session.segment.set_bypass(True)
    session.play(2 * RATE_HZ)
    began, _ = record(session.segment, request_for(tmp_path, start=SETTLED), stop=2 * RATE_HZ)
    dry, wet = contents(began.path)
    np.testing.assert_array_equal(dry, wet)
    assert dry[12_345:].any()


def test_mute_panic_and_what_came_too_late_are_silence_in_wet_and_dry_goes_on(session: DrivenSession, tmp_path: Path) -> None:
    session.segment.set_latency_samples(4800)
    session.play(10_000)
    session.segment.set_mute(True)
    session.play(10_000)
    session.segment.set_mute(False)
    session.play(10_000)
    session.segment.silence_until(38_000)
    session.play(10_000)
    session.works = False
    session.play(10_000)
    began, _ = record(session.segment, request_for(tmp_path), stop=50_000)
    dry, wet = contents(began.path)
    silent = [(10_000 + SETTLED, 20_000), (30_000, 38_000), (40_000 + SETTLED, 50_000)]
    assert not any(wet[start:end].any() for start, end in silent)
    assert all(wet[start - 2000 : start - 1500].all() for start, _ in silent)
    np.testing.assert_array_equal(wet, in_24_bits(session.given))
    np.testing.assert_array_equal(dry, in_24_bits(session.heard()))


def test_a_recorder_that_came_too_late_writes_silence_and_is_in_step_again(session: DrivenSession, tmp_path: Path) -> None:
    session.segment.set_latency_samples(9600)
    session.play(8 * RATE_HZ)
    said = record(session.segment, request_for(tmp_path), stop=8 * RATE_HZ)
    ended = said[-1]
    dry, wet = contents(ended.path)
    lost = ended.lost_samples
    assert 8 * RATE_HZ - 2**18 < lost < 4.5 * RATE_HZ
    assert len(wet) == ended.samples == 8 * RATE_HZ
    assert not dry[:lost].any() and not wet[:lost].any()
    np.testing.assert_array_equal(dry[lost:], in_24_bits(session.heard()[lost:]))
    np.testing.assert_array_equal(wet[lost:], in_24_bits(session.given[lost:]))
    warnings = [message.text for message in said if isinstance(message, LogLine)]
    assert warnings == [f"{lost / RATE_HZ:.2f} s of the recording are silence: the disk or the processor was too busy"]


def test_a_recorder_overtaken_for_all_of_the_recording_writes_silence_only(session: DrivenSession, tmp_path: Path) -> None:
    session.play(9 * RATE_HZ)
    ended = record(session.segment, request_for(tmp_path), stop=2 * RATE_HZ)[-1]
    assert ended.lost_samples == ended.samples == 2 * RATE_HZ
    assert not np.any(contents(ended.path))


def test_after_a_change_of_latency_the_channels_line_up_again_in_the_same_file(session: DrivenSession, tmp_path: Path) -> None:
    session.segment.set_latency_samples(4800)
    session.play(4 * RATE_HZ)
    looks = []

    def change_in_the_third_second(folder: Path) -> int:
        looks.append(folder)
        if len(looks) == 4:  # the first look is before the file is made
            session.segment.set_latency_samples(9600)
        return PLENTY

    said = record(session.segment, request_for(tmp_path), stop=4 * RATE_HZ, free_bytes=change_in_the_third_second)
    dry, _ = contents(said[-1].path)
    at = 2 * RATE_HZ
    np.testing.assert_array_equal(dry[:at], in_24_bits(session.heard(4800)[:at]))
    np.testing.assert_array_equal(dry[at:], in_24_bits(session.heard(9600)[at:]))
    assert [message.text for message in said if isinstance(message, LogLine)] == [
        "the latency went from 100 to 200 ms; the dry channel jumps as far at 2.00 s"
    ]


@pytest.mark.parametrize("rate_hz", [8000, 22_100, 44_100, 96_000, 192_000])
def test_every_rate_of_the_device_is_recorded_as_it_is(tmp_path: Path, rate_hz: int) -> None:
    with AudioSegment.create(rate_hz) as segment:
        device = HandDriven(segment)
        segment.set_bypass(True)
        given = np.concatenate([device.process(VOICE[at : at + 4000]) for at in range(0, 40_000, 4000)])
        ended = record(segment, request_for(tmp_path), stop=40_000)[-1]
        frames, rate = soundfile.read(ended.path, dtype="float32")
        assert (rate, soundfile.info(ended.path).subtype) == (rate_hz, "PCM_24")
        np.testing.assert_array_equal(frames, in_24_bits(np.stack([VOICE[:40_000], given], axis=1)))
        device.close()


def test_the_file_says_which_voice_it_is_and_what_its_channels_are(session: DrivenSession, tmp_path: Path) -> None:
    session.segment.set_latency_samples(4800)
    session.play(10_000)
    began, _ = record(session.segment, request_for(tmp_path, voice="Ännchen"), stop=10_000)
    with soundfile.SoundFile(began.path) as file:
        assert file.title == "Ännchen"
        assert file.comment == "rvcd: channel 1 is dry, the input 100.0 ms later; channel 2 is wet, the output"


# ---- where it ends, and where there is none


def test_too_little_free_space_is_refused_with_what_is_free_what_is_needed_and_what_to_do(
    session: DrivenSession, tmp_path: Path
) -> None:
    said = record(session.segment, request_for(tmp_path), stop=1, free_bytes=lambda folder: 999_999_999)
    assert said == [
        Refused(
            f"{tmp_path}: 999 MB are free where recordings go and 1000 MB must stay free (record.min_free_mb): "
            "delete something, or set record.folder to another disk"
        )
    ]
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_ends_the_recording_and_keeps_it(session: DrivenSession, tmp_path: Path) -> None:
    session.play(5 * RATE_HZ)
    free = iter([2 * 10**9, 2 * 10**9, 2 * 10**9, 3 * 10**8])  # before the file is made, then once a second
    ended = record(session.segment, request_for(tmp_path), stop=5 * RATE_HZ, free_bytes=lambda folder: next(free))[-1]
    assert ended.reason.startswith(f"{tmp_path}: 300 MB are free where recordings go and 1000 MB must stay free")
    dry, wet = contents(ended.path)
    assert len(dry) == ended.samples == 2 * RATE_HZ
    np.testing.assert_array_equal(wet, in_24_bits(session.given[: 2 * RATE_HZ]))


def test_a_folder_that_goes_away_ends_the_recording(session: DrivenSession, tmp_path: Path) -> None:
    session.play(3 * RATE_HZ)
    looks = iter([PLENTY, PLENTY])

    def free(folder: Path) -> int:
        with contextlib.suppress(StopIteration):
            return next(looks)
        raise OSError(116, "Stale file handle")

    ended = record(session.segment, request_for(tmp_path), stop=3 * RATE_HZ, free_bytes=free)[-1]
    assert ended.reason == f"{tmp_path}: the folder for recordings is out of reach (stale file handle)"
    assert ended.samples == RATE_HZ


def test_the_longest_recording_ends_by_itself_at_its_last_sample(session: DrivenSession, tmp_path: Path) -> None:
    session.play(3 * RATE_HZ)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        recorder = Recorder(
            session.segment,
            Channel(theirs, ToRecorder),
            request_for(tmp_path, start=1000, max_samples=100_001),
            lambda folder: PLENTY,
        )
        file = recorder.begin()
        assert file is not None
        recorder.record(file)  # nobody tells it to stop
        began, ended = said_to(ours)
    assert began == Began(str(file.path)) and isinstance(ended, Ended)
    assert (ended.samples, len(contents(file.path)[0])) == (100_001, 100_001)
    assert "record.max_minutes" in ended.reason


def test_when_the_control_process_is_gone_the_file_is_finished(session: DrivenSession, tmp_path: Path) -> None:
    session.play(2 * RATE_HZ + 77)
    record(session.segment, request_for(tmp_path, start=77), stop=None)
    _, wet = contents(tmp_path / "take.flac")
    np.testing.assert_array_equal(wet, in_24_bits(session.given[77:]))


def test_no_recording_overwrites_another(session: DrivenSession, tmp_path: Path) -> None:
    session.play(30_000)
    for length in (10_000, 20_000, 30_000):
        record(session.segment, request_for(tmp_path), stop=length)
    names = ["take.flac", "take-2.flac", "take-3.flac"]
    assert [len(contents(tmp_path / name)[0]) for name in names] == [10_000, 20_000, 30_000]


def test_a_recording_without_a_sample_leaves_no_file(session: DrivenSession, tmp_path: Path) -> None:
    session.play(1000)
    ended = record(session.segment, request_for(tmp_path, start=1000), stop=1000)[-1]
    assert ended.path == ""
    assert ended.reason == "nothing was recorded: no sample came from the audio device; no file was kept"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_refused_in_one_sentence(session: DrivenSession, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder, why in ((tmp_path / "file", "there is a file of that name"), (tmp_path / "file" / "below", "not a directory")):
        said = record(session.segment, request_for(folder), stop=1)
        expected = f"{folder}: the folder for recordings cannot be made ({why}): set record.folder to one you may write to"
        assert said == [Refused(expected)]


def test_a_folder_that_does_not_exist_yet_is_made(session: DrivenSession, tmp_path: Path) -> None:
    session.play(1000)
    record(session.segment, request_for(tmp_path / "Music" / "rvcd"), stop=1000)
    assert (tmp_path / "Music" / "rvcd" / "take.flac").exists()


@pytest.mark.parametrize(
    ("voice", "expected"),
    [
        ("", "rvcd_2026-11-22_23-40-05"),
        ("Anna", "rvcd_2026-11-22_23-40-05_Anna"),
        ("my voice .2", "rvcd_2026-11-22_23-40-05_my-voice-.2"),
        ("../../etc/passwd", "rvcd_2026-11-22_23-40-05_..-..-etc-passwd"),
        ("猫" * 64, "rvcd_2026-11-22_23-40-05_" + "猫" * 35),
    ],
)
def test_files_are_named_by_the_moment_and_the_voice(voice: str, expected: str) -> None:
    assert file_name(voice, time.strptime("2026-11-22 23:40:05", "%Y-%m-%d %H:%M:%S")) == expected


def test_the_configuration_says_where_recordings_go_and_what_ends_them(tmp_path: Path) -> None:
    chosen = Record(folder=str(tmp_path), min_free_mb=20, max_minutes=5)
    assert record_settings(chosen) == RecordSettings(tmp_path, min_free_mb=20, max_minutes=5)
