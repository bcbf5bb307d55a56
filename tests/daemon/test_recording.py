"""Recording from the control process, with a real recorder: nothing but the recorder ever suffers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rvcd.daemon import recording as recording_module
from rvcd.daemon.recording import Recording, RecordSettings
from rvcd.errors import RvcdError
from tests.recorder.session import (
    RATE_HZ,
    ROOT,
    DrivenSession,
    contents,
    in_24_bits,
    new_session,
)
from tests.waiting import HANG_S, eventually_async, has_ended


@pytest.fixture(autouse=True)
def _patient_with_a_slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a healthy recorder takes to begin and to end is not judged."""
    monkeypatch.setattr(recording_module, "START_LIMIT_S", HANG_S)
    monkeypatch.setattr(recording_module, "STOP_LIMIT_S", HANG_S)


@pytest.fixture
def session() -> Iterator[DrivenSession]:
    with new_session() as session:
        yield session


# ---- the control process and a real recorder


def run(scenario: Callable[[], Any]) -> None:
    """Run an async test with a time limit."""

    async def limited() -> None:
        await asyncio.wait_for(scenario(), 3 * HANG_S)

    asyncio.run(limited())


async def until(condition: Callable[[], bool]) -> None:
    await eventually_async(condition)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_recording_begins_at_the_request_and_ends_at_the_next_one(session: DrivenSession, tmp_path: Path) -> None:
    async def scenario() -> None:
        session.segment.set_latency_samples(9600)
        session.play(30_000)
        recording = Recording(session.segment, RecordSettings(tmp_path, min_free_mb=1))
        assert not recording.active and recording.path is None and recording.seconds == 0.0
        started = asyncio.create_task(recording.start("Anna B"))
        await asyncio.sleep(0)
        session.play(50_000)  # while the recorder is still being started
        path = await started
        assert recording.active and recording.path == path
        assert recording.seconds == 50_000 / RATE_HZ
        session.play(20_000)
        ended = await recording.stop()
        assert ended is not None
        assert (Path(ended.path), ended.samples, ended.lost_samples, ended.reason) == (path, 70_000, 0, "")
        assert not recording.active and recording.seconds == 0.0
        assert re.fullmatch(r"rvcd_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_Anna-B\.flac", path.name)
        dry, wet = contents(path)
        np.testing.assert_array_equal(dry, in_24_bits(session.heard()[30_000:]))
        np.testing.assert_array_equal(wet, in_24_bits(session.given[30_000:]))
        assert await recording.stop() is None

    run(scenario)


def test_a_second_recording_is_refused_while_one_runs(session: DrivenSession, tmp_path: Path) -> None:
    async def scenario() -> None:
        recording = Recording(session.segment, RecordSettings(tmp_path, min_free_mb=1))
        starting = asyncio.create_task(recording.start())
        await asyncio.sleep(0)
        with pytest.raises(RvcdError, match=r"already recording to a file that is being made: end that recording first"):
            await recording.start()
        path = await starting
        with pytest.raises(RvcdError, match=re.escape(f"already recording to {path}: end that recording first")):
            await recording.start()
        session.play(1000)
        await recording.stop()

    run(scenario)


def test_a_full_disk_is_refused_by_the_real_recorder_and_the_next_try_is_free(session: DrivenSession, tmp_path: Path) -> None:
    async def scenario() -> None:
        ends: list[str] = []
        recording = Recording(session.segment, RecordSettings(tmp_path, min_free_mb=10**9), ends.append)
        with pytest.raises(RvcdError, match=r"\d+ MB are free where recordings go and 1000000000 MB must stay free"):
            await recording.start()
        assert not recording.active and not list(tmp_path.iterdir()) and ends == []
        recording.settings = RecordSettings(tmp_path, min_free_mb=1)
        await recording.start()
        session.play(1000)
        await recording.stop()

    run(scenario)


def test_the_control_process_itself_never_touches_the_disk(
    session: DrivenSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"touched: {args}")

    async def scenario() -> None:
        recording = Recording(session.segment, RecordSettings(tmp_path / "new", min_free_mb=1))
        for name in ("statvfs", "stat", "mkdir", "access", "scandir", "listdir"):
            monkeypatch.setattr(os, name, touched)
        try:
            await recording.start()
            session.play(1000)
            await recording.stop()
        finally:
            monkeypatch.undo()

    run(scenario)
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_a_killed_recorder_is_told_of_and_the_file_holds_all_but_the_last_moment(session: DrivenSession, tmp_path: Path) -> None:
    async def scenario() -> None:
        ends: list[str] = []
        recording = Recording(session.segment, RecordSettings(tmp_path, min_free_mb=1), ends.append)
        path = await recording.start()
        session.play(3 * RATE_HZ)
        await until(lambda: path.stat().st_size > 3 * RATE_HZ * 4)  # of about 6 bytes a sample: noise does not shrink
        assert recording.pid is not None
        os.kill(recording.pid, signal.SIGKILL)
        await until(lambda: bool(ends))
        assert ends == [f"the recorder ended unexpectedly (killed by signal 9): {path} holds what it had written"]
        assert not recording.active and await recording.stop() is None
        dry, wet = contents(path)
        assert len(wet) > RATE_HZ
        np.testing.assert_array_equal(dry, in_24_bits(session.heard()[: len(wet)]))
        np.testing.assert_array_equal(wet, in_24_bits(session.given[: len(wet)]))
        assert (await recording.start()) != path
        session.play(100)
        await recording.stop()

    run(scenario)


SMALL_DISK = """
import resource
from rvcd.recorder.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
main()
"""


def test_a_disk_that_takes_no_more_ends_the_recording_with_a_reason_and_a_readable_file(
    session: DrivenSession, tmp_path: Path
) -> None:
    async def scenario() -> None:
        ends: list[str] = []
        settings = RecordSettings(tmp_path, min_free_mb=1)
        recording = Recording(session.segment, settings, ends.append, command=(sys.executable, "-c", SMALL_DISK))
        path = await recording.start()
        session.play(3 * RATE_HZ)
        await until(lambda: bool(ends))
        assert re.fullmatch(re.escape(str(path)) + r": the disk took no more after \d\.\d s: is it full, or gone\?", ends[0])
        _, wet = contents(path)
        assert len(wet) > 24_000
        np.testing.assert_array_equal(wet, in_24_bits(session.given[: len(wet)]))

    run(scenario)


HUNG = "import time; time.sleep(600)"
HUNG_AFTER_BEGINNING = """
import socket, sys, time
from rvcd.ipc.channel import frame
from rvcd.ipc.messages import Began
socket.socket(fileno=int(sys.argv[1])).sendall(frame(Began("/mnt/server/take.flac")))
time.sleep(600)
"""


DEAF = """
import socket, sys
from rvcd.ipc.channel import frame
from rvcd.ipc.messages import Began, Ended
channel = socket.socket(fileno=int(sys.argv[1]))
channel.sendall(frame(Began("/a/take.flac")) + frame(Ended("/a/take.flac", 1, 0, "that was all")))
"""


def test_what_a_recorder_says_last_is_heard_even_if_it_left_words_of_ours_unread(session: DrivenSession, tmp_path: Path) -> None:
    async def scenario() -> None:
        ends: list[str] = []
        recording = Recording(session.segment, RecordSettings(tmp_path), ends.append, command=(sys.executable, "-c", DEAF))
        assert await recording.start() == Path("/a/take.flac")
        await until(lambda: bool(ends))
        assert ends == ["that was all"]

    run(scenario)


def test_a_folder_that_does_not_answer_is_refused_and_the_loop_goes_on(
    session: DrivenSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording_module, "START_LIMIT_S", 0.5)

    async def scenario() -> None:
        recording = Recording(session.segment, RecordSettings(tmp_path), command=(sys.executable, "-c", HUNG))
        starting = asyncio.create_task(recording.start())
        await until(lambda: recording.pid is not None)
        pid = recording.pid
        with pytest.raises(RvcdError, match=rf"{tmp_path}: the folder for recordings did not answer within"):
            await starting
        assert not recording.active and recording.pid is None
        assert not Path(f"/proc/{pid}").exists()

    run(scenario)


def test_a_disk_that_hangs_at_the_end_is_given_up(
    session: DrivenSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording_module, "STOP_LIMIT_S", 0.3)

    async def scenario() -> None:
        ends: list[str] = []
        command = (sys.executable, "-c", HUNG_AFTER_BEGINNING)
        recording = Recording(session.segment, RecordSettings(tmp_path), ends.append, command=command)
        assert await recording.start() == Path("/mnt/server/take.flac")
        pid = recording.pid
        with pytest.raises(RvcdError, match=r"/mnt/server/take\.flac: the disk did not take the end .* may lack it"):
            await recording.stop()
        assert not recording.active and ends == []
        assert not Path(f"/proc/{pid}").exists()

    run(scenario)


def test_stopping_before_it_has_begun_calls_it_off(session: DrivenSession, tmp_path: Path) -> None:
    async def scenario() -> None:
        recording = Recording(session.segment, RecordSettings(tmp_path), command=(sys.executable, "-c", HUNG))
        starting = asyncio.create_task(recording.start())
        await until(lambda: recording.pid is not None)
        assert await recording.stop() is None
        with pytest.raises(RvcdError, match="ended before it began"):
            await starting

    run(scenario)


def test_a_recorder_that_cannot_run_is_a_sentence_and_not_a_traceback(session: DrivenSession, tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = RecordSettings(tmp_path)
        with pytest.raises(RvcdError, match=r"ended before it had begun \(exit status 3\)"):
            await Recording(session.segment, settings, command=(sys.executable, "-c", "import sys; sys.exit(3)")).start()
        with pytest.raises(RvcdError, match="the recorder cannot be started"):
            await Recording(session.segment, settings, command=(str(tmp_path / "python"),)).start()

    run(scenario)


def test_no_descriptor_is_left_open_however_a_recording_ends(session: DrivenSession, tmp_path: Path) -> None:
    async def scenario() -> None:
        async def one_of_each() -> None:
            recording = Recording(session.segment, RecordSettings(tmp_path, min_free_mb=1))
            await recording.start()
            session.play(1000)
            await recording.stop()
            await recording.start()
            with pytest.raises(RvcdError, match="nothing was recorded"):
                await recording.stop()
            recording.settings = RecordSettings(tmp_path, min_free_mb=10**9)
            with pytest.raises(RvcdError, match="must stay free"):
                await recording.start()
            with pytest.raises(RvcdError, match="cannot be started"):
                await Recording(session.segment, recording.settings, command=(str(tmp_path / "python"),)).start()

        await one_of_each()
        before = descriptors()
        for _ in range(3):
            await one_of_each()
        await until(lambda: descriptors() <= before)

    run(scenario)


def test_the_recorder_goes_behind_everybody_else_for_the_processor(session: DrivenSession, tmp_path: Path) -> None:
    async def scenario() -> None:
        recording = Recording(session.segment, RecordSettings(tmp_path, min_free_mb=1))
        await recording.start()
        assert recording.pid is not None
        pid, own = recording.pid, os.getpriority(os.PRIO_PROCESS, 0)
        await until(lambda: os.getpriority(os.PRIO_PROCESS, pid) == min(19, own + 10))
        session.play(10)
        await recording.stop()

    run(scenario)


CONTROL_PROCESS = """
import asyncio, json, sys
import numpy as np
from pathlib import Path
from rvcd.ipc.segment import AudioSegment
from rvcd.daemon.recording import Recording, RecordSettings
from tests.daemon.test_recording import DrivenSession

async def main():
    segment = AudioSegment.create(48000)
    session = DrivenSession(segment)
    recording = Recording(segment, RecordSettings(Path(sys.argv[1]), min_free_mb=1))
    path = await recording.start()
    session.play(100_000)
    print(json.dumps({"path": str(path), "pid": recording.pid}), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_recorder_whose_control_process_is_killed_finishes_its_file_and_ends(session: DrivenSession, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CONTROL_PROCESS, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as control:  # fmt: skip
        assert control.stdout is not None
        said = json.loads(control.stdout.readline())
        control.kill()
    asyncio.run(until(lambda: has_ended(said["pid"])))
    session.play(100_000)  # the same sound
    dry, wet = contents(said["path"])
    np.testing.assert_array_equal(wet, in_24_bits(session.given))
    np.testing.assert_array_equal(dry, in_24_bits(session.heard()))


def test_a_recorder_ignores_the_signals_that_reach_the_whole_group(session: DrivenSession, tmp_path: Path) -> None:
    async def scenario() -> None:
        recording = Recording(session.segment, RecordSettings(tmp_path, min_free_mb=1))
        path = await recording.start()
        assert recording.pid is not None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(recording.pid, number)
        session.play(50_000)
        ended = await recording.stop()
        assert ended is not None and ended.samples == len(contents(path)[0]) == 50_000

    run(scenario)
