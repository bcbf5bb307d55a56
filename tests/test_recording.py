"""Recordings: what is in the file, when there is none, and that nothing but the recorder ever suffers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd import recording as recording_module
from rvcd.audio.ring import AudioSegment
from rvcd.config import Record
from rvcd.errors import RvcdError
from rvcd.record_protocol import RecordRequest
from rvcd.recorder import Recorder
from rvcd.recording import Recording, RecordSettings, file_name, record_settings
from rvcd.worker_protocol import MAX_MESSAGE_BYTES, receive, send
from tests.audio.conftest import HandDriven

RATE_HZ = 48000
ROOT = Path(__file__).parents[1]
VOICE = np.random.default_rng(1).uniform(-0.8, 0.8, 20 * RATE_HZ).astype(np.float32)
CONVERTED = np.random.default_rng(2).uniform(-0.8, 0.8, 20 * RATE_HZ).astype(np.float32)
SETTLED = 480  # samples of the longest fade
HOUR = 3600 * RATE_HZ
PLENTY = 10**15


def in_24_bits(samples: np.ndarray) -> np.ndarray:
    """What a 24-bit file gives back."""
    return (np.clip(np.rint(samples.astype(np.float64) * 2**23), -(2**23), 2**23 - 1) / 2**23).astype(np.float32)


def delayed(sound: np.ndarray, latency: int) -> np.ndarray:
    return np.concatenate([np.zeros(latency, np.float32), sound])[: len(sound)]


class Rig:
    """A device driven by hand and a worker that turns VOICE into CONVERTED: `given` is what the device got, all of it."""

    def __init__(self, segment: AudioSegment) -> None:
        self.segment, self.device = segment, HandDriven(segment)
        self.given = np.empty(0, np.float32)
        self.works = True

    def play(self, samples: int, period: int = 480) -> None:
        end = len(self.given) + samples
        played = [self.given]
        for at in range(len(self.given), end, period):
            to = min(end, at + period)
            if self.works:
                self.segment.write_output(at, CONVERTED[at:to])
            played.append(self.device.process(VOICE[at:to]))
        self.given = np.concatenate(played)

    def heard(self, latency: int | None = None) -> np.ndarray:
        """The input as late as the output: the dry channel."""
        return delayed(VOICE[: len(self.given)], self.segment.latency_samples() if latency is None else latency)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with AudioSegment.create(RATE_HZ) as segment:
        rig = Rig(segment)
        yield rig
        rig.device.close()


def request_for(folder: Path, **changes: Any) -> RecordRequest:
    values = {"folder": str(folder), "name": "take", "voice": "Anna", "start": 0, "min_free_bytes": 10**9, "max_samples": HOUR}
    return RecordRequest(**{**values, **changes})


def record(
    segment: AudioSegment, request: RecordRequest, *, stop: int | None, free_bytes: Callable[[Path], int] = lambda folder: PLENTY
) -> list[dict[str, Any]]:
    """Run a whole recording here and now; stop None: the control process goes away. Returns what the recorder said."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        if stop is None:
            ours.shutdown(socket.SHUT_WR)
        else:
            send(ours, {"command": "stop", "position": stop})
        recorder = Recorder(segment, theirs, request, free_bytes)
        file = recorder.begin()
        if file is not None:
            recorder.record(file)
        said: list[dict[str, Any]] = []
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                said.append(json.loads(ours.recv(MAX_MESSAGE_BYTES)))
        return said


def contents(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Dry and wet."""
    frames, rate_hz = soundfile.read(path, dtype="float32")
    assert rate_hz == RATE_HZ and frames.shape[1] == 2
    return frames[:, 0], frames[:, 1]


# ---- what is in the file


@settings(max_examples=25, deadline=None)
@given(latency=st.integers(0, 30_000), before=st.integers(0, 40_000), length=st.integers(1, 60_000), period=st.integers(64, 5000))
def test_both_channels_hold_every_sample_and_line_up(
    tmp_path_factory: pytest.TempPathFactory, latency: int, before: int, length: int, period: int
) -> None:
    folder = tmp_path_factory.mktemp("takes")
    with AudioSegment.create(RATE_HZ) as segment:
        segment.set_latency_samples(latency)
        rig = Rig(segment)
        rig.play(before + length + 1000, period)
        began, ended = record(segment, request_for(folder, start=before), stop=before + length)
        dry, wet = contents(began["path"])
        np.testing.assert_array_equal(dry, in_24_bits(rig.heard()[before : before + length]))
        np.testing.assert_array_equal(wet, in_24_bits(rig.given[before : before + length]))
        assert ended["ended"] == {"path": began["path"], "samples": length, "lost_samples": 0, "reason": ""}
        rig.device.close()
    shutil.rmtree(folder)


def test_with_bypass_both_channels_are_the_same(rig: Rig, tmp_path: Path) -> None:
    """The device delays the raw voice by the latency, and so does the recorder: by as much, to the sample."""
    rig.segment.set_latency_samples(12_345)
    rig.segment.set_bypass(True)
    rig.play(2 * RATE_HZ)
    began, _ = record(rig.segment, request_for(tmp_path, start=SETTLED), stop=2 * RATE_HZ)
    dry, wet = contents(began["path"])
    np.testing.assert_array_equal(dry, wet)
    assert dry[12_345:].any()


def test_mute_panic_and_what_came_too_late_are_silence_in_wet_and_dry_goes_on(rig: Rig, tmp_path: Path) -> None:
    rig.segment.set_latency_samples(4800)
    rig.play(10_000)
    rig.segment.set_mute(True)
    rig.play(10_000)
    rig.segment.set_mute(False)
    rig.play(10_000)
    rig.segment.silence_until(38_000)
    rig.play(10_000)
    rig.works = False
    rig.play(10_000)
    began, _ = record(rig.segment, request_for(tmp_path), stop=50_000)
    dry, wet = contents(began["path"])
    silent = [(10_000 + SETTLED, 20_000), (30_000, 38_000), (40_000 + SETTLED, 50_000)]
    assert not any(wet[start:end].any() for start, end in silent)
    assert all(wet[start - 2000 : start - 1500].all() for start, _ in silent)
    np.testing.assert_array_equal(wet, in_24_bits(rig.given))
    np.testing.assert_array_equal(dry, in_24_bits(rig.heard()))


def test_a_recorder_that_came_too_late_writes_silence_and_is_in_step_again(rig: Rig, tmp_path: Path) -> None:
    rig.segment.set_latency_samples(9600)
    rig.play(8 * RATE_HZ)
    said = record(rig.segment, request_for(tmp_path), stop=8 * RATE_HZ)
    ended = said[-1]["ended"]
    dry, wet = contents(ended["path"])
    lost = ended["lost_samples"]
    assert 8 * RATE_HZ - 2**18 < lost < 4.5 * RATE_HZ
    assert len(wet) == ended["samples"] == 8 * RATE_HZ
    assert not dry[:lost].any() and not wet[:lost].any()
    np.testing.assert_array_equal(dry[lost:], in_24_bits(rig.heard()[lost:]))
    np.testing.assert_array_equal(wet[lost:], in_24_bits(rig.given[lost:]))
    warnings = [event["text"] for event in said if event["event"] == "log"]
    assert warnings == [f"{lost / RATE_HZ:.2f} s of the recording are silence: the disk or the processor was too busy"]


def test_a_recorder_overtaken_for_all_of_the_recording_writes_silence_only(rig: Rig, tmp_path: Path) -> None:
    rig.play(9 * RATE_HZ)
    ended = record(rig.segment, request_for(tmp_path), stop=2 * RATE_HZ)[-1]["ended"]
    assert ended["lost_samples"] == ended["samples"] == 2 * RATE_HZ
    assert not np.any(contents(ended["path"]))


def test_after_a_change_of_latency_the_channels_line_up_again_in_the_same_file(rig: Rig, tmp_path: Path) -> None:
    rig.segment.set_latency_samples(4800)
    rig.play(4 * RATE_HZ)
    looks = []

    def change_in_the_third_second(folder: Path) -> int:
        looks.append(folder)
        if len(looks) == 4:  # the first look is before the file is made
            rig.segment.set_latency_samples(9600)
        return PLENTY

    said = record(rig.segment, request_for(tmp_path), stop=4 * RATE_HZ, free_bytes=change_in_the_third_second)
    dry, _ = contents(said[-1]["ended"]["path"])
    at = 2 * RATE_HZ
    np.testing.assert_array_equal(dry[:at], in_24_bits(rig.heard(4800)[:at]))
    np.testing.assert_array_equal(dry[at:], in_24_bits(rig.heard(9600)[at:]))
    assert [event["text"] for event in said if event["event"] == "log"] == [
        "the latency went from 100 to 200 ms; the dry channel jumps as far at 2.00 s"
    ]


@pytest.mark.parametrize("rate_hz", [8000, 22_100, 44_100, 96_000, 192_000])
def test_every_rate_of_the_device_is_recorded_as_it_is(tmp_path: Path, rate_hz: int) -> None:
    with AudioSegment.create(rate_hz) as segment:
        device = HandDriven(segment)
        segment.set_bypass(True)
        given = np.concatenate([device.process(VOICE[at : at + 4000]) for at in range(0, 40_000, 4000)])
        ended = record(segment, request_for(tmp_path), stop=40_000)[-1]["ended"]
        frames, rate = soundfile.read(ended["path"], dtype="float32")
        assert (rate, soundfile.info(ended["path"]).subtype) == (rate_hz, "PCM_24")
        np.testing.assert_array_equal(frames, in_24_bits(np.stack([VOICE[:40_000], given], axis=1)))
        device.close()


def test_the_file_says_which_voice_it_is_and_what_its_channels_are(rig: Rig, tmp_path: Path) -> None:
    rig.segment.set_latency_samples(4800)
    rig.play(10_000)
    began, _ = record(rig.segment, request_for(tmp_path, voice="Ännchen"), stop=10_000)
    with soundfile.SoundFile(began["path"]) as file:
        assert file.title == "Ännchen"
        assert file.comment == "rvcd: channel 1 is dry, the input 100.0 ms later; channel 2 is wet, the output"


# ---- where it ends, and where there is none


def test_too_little_free_space_is_refused_with_what_is_free_what_is_needed_and_what_to_do(rig: Rig, tmp_path: Path) -> None:
    said = record(rig.segment, request_for(tmp_path), stop=1, free_bytes=lambda folder: 999_999_999)
    assert said == [
        {
            "event": "refused",
            "error": f"{tmp_path}: 999 MB are free where recordings go and 1000 MB must stay free (record.min_free_mb): "
            "delete something, or set record.folder to another disk",
        }
    ]
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_ends_the_recording_and_keeps_it(rig: Rig, tmp_path: Path) -> None:
    rig.play(5 * RATE_HZ)
    free = iter([2 * 10**9, 2 * 10**9, 2 * 10**9, 3 * 10**8])  # before the file is made, then once a second
    ended = record(rig.segment, request_for(tmp_path), stop=5 * RATE_HZ, free_bytes=lambda folder: next(free))[-1]["ended"]
    assert ended["reason"].startswith(f"{tmp_path}: 300 MB are free where recordings go and 1000 MB must stay free")
    dry, wet = contents(ended["path"])
    assert len(dry) == ended["samples"] == 2 * RATE_HZ
    np.testing.assert_array_equal(wet, in_24_bits(rig.given[: 2 * RATE_HZ]))


def test_a_folder_that_goes_away_ends_the_recording(rig: Rig, tmp_path: Path) -> None:
    rig.play(3 * RATE_HZ)
    looks = iter([PLENTY, PLENTY])

    def free(folder: Path) -> int:
        with contextlib.suppress(StopIteration):
            return next(looks)
        raise OSError(116, "Stale file handle")

    ended = record(rig.segment, request_for(tmp_path), stop=3 * RATE_HZ, free_bytes=free)[-1]["ended"]
    assert ended["reason"] == f"{tmp_path}: the folder for recordings is out of reach (stale file handle)"
    assert ended["samples"] == RATE_HZ


def test_the_longest_recording_ends_by_itself_at_its_last_sample(rig: Rig, tmp_path: Path) -> None:
    rig.play(3 * RATE_HZ)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        recorder = Recorder(rig.segment, theirs, request_for(tmp_path, start=1000, max_samples=100_001), lambda folder: PLENTY)
        file = recorder.begin()
        assert file is not None
        recorder.record(file)  # nobody tells it to stop
        receive(ours)
        ended = receive(ours)
    assert ended is not None
    assert (ended["ended"]["samples"], len(contents(file.path)[0])) == (100_001, 100_001)
    assert "record.max_minutes" in ended["ended"]["reason"]


def test_when_the_control_process_is_gone_the_file_is_finished(rig: Rig, tmp_path: Path) -> None:
    rig.play(2 * RATE_HZ + 77)
    record(rig.segment, request_for(tmp_path, start=77), stop=None)
    _, wet = contents(tmp_path / "take.flac")
    np.testing.assert_array_equal(wet, in_24_bits(rig.given[77:]))


def test_no_recording_overwrites_another(rig: Rig, tmp_path: Path) -> None:
    rig.play(30_000)
    for length in (10_000, 20_000, 30_000):
        record(rig.segment, request_for(tmp_path), stop=length)
    names = ["take.flac", "take-2.flac", "take-3.flac"]
    assert [len(contents(tmp_path / name)[0]) for name in names] == [10_000, 20_000, 30_000]


def test_a_recording_without_a_sample_leaves_no_file(rig: Rig, tmp_path: Path) -> None:
    rig.play(1000)
    ended = record(rig.segment, request_for(tmp_path, start=1000), stop=1000)[-1]["ended"]
    assert ended["path"] == ""
    assert ended["reason"] == "nothing was recorded: no sample came from the audio device; no file was kept"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_refused_in_one_sentence(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder, why in ((tmp_path / "file", "there is a file of that name"), (tmp_path / "file" / "below", "not a directory")):
        said = record(rig.segment, request_for(folder), stop=1)
        expected = f"{folder}: the folder for recordings cannot be made ({why}): set record.folder to one you may write to"
        assert said == [{"event": "refused", "error": expected}]


def test_a_folder_that_does_not_exist_yet_is_made(rig: Rig, tmp_path: Path) -> None:
    rig.play(1000)
    record(rig.segment, request_for(tmp_path / "Music" / "rvcd"), stop=1000)
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


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HOME": "/home/anna"}, "/home/anna/Music/rvcd"),
        ({"HOME": "/home/anna", "STATE_DIRECTORY": "/home/anna/.local/state/rvcd"}, "/home/anna/Music/rvcd"),
        ({"HOME": "/var/lib/rvcd", "STATE_DIRECTORY": "/var/lib/rvcd:/var/lib/more"}, "/var/lib/rvcd/recordings"),
    ],
)
def test_without_a_folder_in_the_configuration_recordings_go_where_this_user_may_write(
    environment: dict[str, str], expected: str
) -> None:
    assert record_settings(Record(), environment) == RecordSettings(Path(expected), 500, 180)


def test_the_configuration_says_where_recordings_go_and_what_ends_them(tmp_path: Path) -> None:
    chosen = Record(folder=str(tmp_path), min_free_mb=20, max_minutes=5)
    assert record_settings(chosen) == RecordSettings(tmp_path, min_free_mb=20, max_minutes=5)


# ---- the control process and a real recorder


def run(scenario: Callable[[], Any]) -> None:
    """Run an async test with a time limit."""

    async def limited() -> None:
        await asyncio.wait_for(scenario(), 90)

    asyncio.run(limited())


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("did not come true within 30 s")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_recording_begins_at_the_request_and_ends_at_the_next_one(rig: Rig, tmp_path: Path) -> None:
    async def scenario() -> None:
        rig.segment.set_latency_samples(9600)
        rig.play(30_000)
        recording = Recording(rig.segment, RecordSettings(tmp_path, min_free_mb=1))
        assert not recording.active and recording.path is None and recording.seconds == 0.0
        started = asyncio.create_task(recording.start("Anna B"))
        await asyncio.sleep(0)
        rig.play(50_000)  # while the recorder is still being started
        path = await started
        assert recording.active and recording.path == path
        assert recording.seconds == 50_000 / RATE_HZ
        rig.play(20_000)
        ended = await recording.stop()
        assert ended is not None
        assert (Path(ended.path), ended.samples, ended.lost_samples, ended.reason) == (path, 70_000, 0, "")
        assert not recording.active and recording.seconds == 0.0
        assert re.fullmatch(r"rvcd_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_Anna-B\.flac", path.name)
        dry, wet = contents(path)
        np.testing.assert_array_equal(dry, in_24_bits(rig.heard()[30_000:]))
        np.testing.assert_array_equal(wet, in_24_bits(rig.given[30_000:]))
        assert await recording.stop() is None

    run(scenario)


def test_a_second_recording_is_refused_while_one_runs(rig: Rig, tmp_path: Path) -> None:
    async def scenario() -> None:
        recording = Recording(rig.segment, RecordSettings(tmp_path, min_free_mb=1))
        starting = asyncio.create_task(recording.start())
        await asyncio.sleep(0)
        with pytest.raises(RvcdError, match=r"already recording to a file that is being made: end that recording first"):
            await recording.start()
        path = await starting
        with pytest.raises(RvcdError, match=re.escape(f"already recording to {path}: end that recording first")):
            await recording.start()
        rig.play(1000)
        await recording.stop()

    run(scenario)


def test_a_full_disk_is_refused_by_the_real_recorder_and_the_next_try_is_free(rig: Rig, tmp_path: Path) -> None:
    async def scenario() -> None:
        ends: list[str] = []
        recording = Recording(rig.segment, RecordSettings(tmp_path, min_free_mb=10**9), ends.append)
        with pytest.raises(RvcdError, match=r"\d+ MB are free where recordings go and 1000000000 MB must stay free"):
            await recording.start()
        assert not recording.active and not list(tmp_path.iterdir()) and ends == []
        recording.settings = RecordSettings(tmp_path, min_free_mb=1)
        await recording.start()
        rig.play(1000)
        await recording.stop()

    run(scenario)


def test_the_control_process_itself_never_touches_the_disk(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"touched: {args}")

    async def scenario() -> None:
        recording = Recording(rig.segment, RecordSettings(tmp_path / "new", min_free_mb=1))
        for name in ("statvfs", "stat", "mkdir", "access", "scandir", "listdir"):
            monkeypatch.setattr(os, name, touched)
        try:
            await recording.start()
            rig.play(1000)
            await recording.stop()
        finally:
            monkeypatch.undo()

    run(scenario)
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_a_killed_recorder_is_told_of_and_the_file_holds_all_but_the_last_moment(rig: Rig, tmp_path: Path) -> None:
    async def scenario() -> None:
        ends: list[str] = []
        recording = Recording(rig.segment, RecordSettings(tmp_path, min_free_mb=1), ends.append)
        path = await recording.start()
        rig.play(3 * RATE_HZ)
        await until(lambda: path.stat().st_size > 3 * RATE_HZ * 4)  # of about 6 bytes a sample: noise does not shrink
        assert recording.pid is not None
        os.kill(recording.pid, signal.SIGKILL)
        await until(lambda: bool(ends))
        assert ends == [f"the recorder ended unexpectedly (killed by signal 9): {path} holds what it had written"]
        assert not recording.active and await recording.stop() is None
        dry, wet = contents(path)
        assert len(wet) > RATE_HZ
        np.testing.assert_array_equal(dry, in_24_bits(rig.heard()[: len(wet)]))
        np.testing.assert_array_equal(wet, in_24_bits(rig.given[: len(wet)]))
        assert (await recording.start()) != path
        rig.play(100)
        await recording.stop()

    run(scenario)


SMALL_DISK = """
import resource
from rvcd.recorder import main
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
main()
"""


def test_a_disk_that_takes_no_more_ends_the_recording_with_a_reason_and_a_readable_file(rig: Rig, tmp_path: Path) -> None:
    async def scenario() -> None:
        ends: list[str] = []
        settings = RecordSettings(tmp_path, min_free_mb=1)
        recording = Recording(rig.segment, settings, ends.append, command=(sys.executable, "-c", SMALL_DISK))
        path = await recording.start()
        rig.play(3 * RATE_HZ)
        await until(lambda: bool(ends))
        assert re.fullmatch(re.escape(str(path)) + r": the disk took no more after \d\.\d s: is it full, or gone\?", ends[0])
        _, wet = contents(path)
        assert len(wet) > 24_000
        np.testing.assert_array_equal(wet, in_24_bits(rig.given[: len(wet)]))

    run(scenario)


HUNG = "import time; time.sleep(600)"
HUNG_AFTER_BEGINNING = """
import socket, sys, time
from rvcd.worker_protocol import send
send(socket.socket(fileno=int(sys.argv[2])), {"event": "began", "path": "/mnt/server/take.flac"})
time.sleep(600)
"""


DEAF = """
import socket, sys
from rvcd.worker_protocol import send
channel = socket.socket(fileno=int(sys.argv[2]))
send(channel, {"event": "began", "path": "/a/take.flac"})
send(channel, {"event": "ended", "ended": {"path": "/a/take.flac", "samples": 1, "lost_samples": 0, "reason": "that was all"}})
"""


def test_what_a_recorder_says_last_is_heard_even_if_it_left_words_of_ours_unread(rig: Rig, tmp_path: Path) -> None:
    async def scenario() -> None:
        ends: list[str] = []
        recording = Recording(rig.segment, RecordSettings(tmp_path), ends.append, command=(sys.executable, "-c", DEAF))
        assert await recording.start() == Path("/a/take.flac")
        await until(lambda: bool(ends))
        assert ends == ["that was all"]

    run(scenario)


def test_a_folder_that_does_not_answer_is_refused_and_the_loop_goes_on(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording_module, "START_LIMIT_S", 0.5)

    async def scenario() -> None:
        recording = Recording(rig.segment, RecordSettings(tmp_path), command=(sys.executable, "-c", HUNG))
        starting = asyncio.create_task(recording.start())
        await until(lambda: recording.pid is not None)
        pid = recording.pid
        with pytest.raises(RvcdError, match=rf"{tmp_path}: the folder for recordings did not answer within"):
            await starting
        assert not recording.active and recording.pid is None
        assert not Path(f"/proc/{pid}").exists()

    run(scenario)


def test_a_disk_that_hangs_at_the_end_is_given_up(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_module, "STOP_LIMIT_S", 0.3)

    async def scenario() -> None:
        ends: list[str] = []
        command = (sys.executable, "-c", HUNG_AFTER_BEGINNING)
        recording = Recording(rig.segment, RecordSettings(tmp_path), ends.append, command=command)
        assert await recording.start() == Path("/mnt/server/take.flac")
        pid = recording.pid
        with pytest.raises(RvcdError, match=r"/mnt/server/take\.flac: the disk did not take the end .* may lack it"):
            await recording.stop()
        assert not recording.active and ends == []
        assert not Path(f"/proc/{pid}").exists()

    run(scenario)


def test_stopping_before_it_has_begun_calls_it_off(rig: Rig, tmp_path: Path) -> None:
    async def scenario() -> None:
        recording = Recording(rig.segment, RecordSettings(tmp_path), command=(sys.executable, "-c", HUNG))
        starting = asyncio.create_task(recording.start())
        await until(lambda: recording.pid is not None)
        assert await recording.stop() is None
        with pytest.raises(RvcdError, match="ended before it began"):
            await starting

    run(scenario)


def test_a_recorder_that_cannot_run_is_a_sentence_and_not_a_traceback(rig: Rig, tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = RecordSettings(tmp_path)
        with pytest.raises(RvcdError, match=r"ended before it had begun \(exit status 3\)"):
            await Recording(rig.segment, settings, command=(sys.executable, "-c", "import sys; sys.exit(3)")).start()
        with pytest.raises(RvcdError, match="the recorder cannot be started"):
            await Recording(rig.segment, settings, command=(str(tmp_path / "python"),)).start()

    run(scenario)


def test_no_descriptor_is_left_open_however_a_recording_ends(rig: Rig, tmp_path: Path) -> None:
    async def scenario() -> None:
        async def one_of_each() -> None:
            recording = Recording(rig.segment, RecordSettings(tmp_path, min_free_mb=1))
            await recording.start()
            rig.play(1000)
            await recording.stop()
            await recording.start()
            with pytest.raises(RvcdError, match="nothing was recorded"):
                await recording.stop()
            recording.settings = RecordSettings(tmp_path, min_free_mb=10**9)
            with pytest.raises(RvcdError, match="must stay free"):
                await recording.start()
            with pytest.raises(RvcdError, match="cannot be started"):
                await Recording(rig.segment, recording.settings, command=(str(tmp_path / "python"),)).start()

        await one_of_each()
        before = descriptors()
        for _ in range(3):
            await one_of_each()
        await until(lambda: descriptors() <= before)

    run(scenario)


def test_the_recorder_goes_behind_everybody_else_for_the_processor(rig: Rig, tmp_path: Path) -> None:
    async def scenario() -> None:
        recording = Recording(rig.segment, RecordSettings(tmp_path, min_free_mb=1))
        await recording.start()
        assert recording.pid is not None
        pid, own = recording.pid, os.getpriority(os.PRIO_PROCESS, 0)
        await until(lambda: os.getpriority(os.PRIO_PROCESS, pid) == min(19, own + 10))
        rig.play(10)
        await recording.stop()

    run(scenario)


CONTROL_PROCESS = """
import asyncio, json, sys
import numpy as np
from pathlib import Path
from rvcd.audio.ring import AudioSegment
from rvcd.recording import Recording, RecordSettings
from tests.test_recording import Rig

async def main():
    segment = AudioSegment.create(48000)
    rig = Rig(segment)
    recording = Recording(segment, RecordSettings(Path(sys.argv[1]), min_free_mb=1))
    path = await recording.start()
    rig.play(100_000)
    print(json.dumps({"path": str(path), "pid": recording.pid}), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_recorder_whose_control_process_is_killed_finishes_its_file_and_ends(rig: Rig, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CONTROL_PROCESS, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as control:  # fmt: skip
        assert control.stdout is not None
        said = json.loads(control.stdout.readline())
        control.kill()
    asyncio.run(until(lambda: has_ended(said["pid"])))
    rig.play(100_000)  # the same sound
    dry, wet = contents(said["path"])
    np.testing.assert_array_equal(wet, in_24_bits(rig.given))
    np.testing.assert_array_equal(dry, in_24_bits(rig.heard()))


def test_a_recorder_ignores_the_signals_that_reach_the_whole_group(rig: Rig, tmp_path: Path) -> None:
    async def scenario() -> None:
        recording = Recording(rig.segment, RecordSettings(tmp_path, min_free_mb=1))
        path = await recording.start()
        assert recording.pid is not None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(recording.pid, number)
        rig.play(50_000)
        ended = await recording.stop()
        assert ended is not None and ended.samples == len(contents(path)[0]) == 50_000

    run(scenario)
