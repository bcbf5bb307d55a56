"""The worker's life, with workers that have no networks: told what is wanted, watched, started again whatever becomes of them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rvcd.daemon import worker as worker_module
from rvcd.daemon.wanted import Owner, Request
from rvcd.daemon.worker import BACK_OFF_S, WorkerState, WorkerSupervisor, start_worker
from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import ModelSetup, VoiceFiles, Wanted
from rvcd.ipc.segment import AudioSegment
from tests.waiting import HANG_S

GEOMETRIES = {name: StreamGeometry(16000, 8, 4, 20, 160) for name in ("low", "safe")}
ANNA, BERT = VoiceFiles("Anna", "anna.pth"), VoiceFiles("Bert", "bert.pth")
START = Wanted(ANNA, 0, "swift", "low")
ROOT = Path(__file__).parents[2]


def command(behaviour: str = "obedient") -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.daemon.fake_worker", behaviour)


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@asynccontextmanager
async def supervising(behaviour: str = "obedient", wanted: Wanted = START, **more: Any) -> AsyncIterator[WorkerSupervisor]:
    with AudioSegment.create(16000) as segment:
        owner = Owner(wanted)
        supervisor = WorkerSupervisor(segment, ModelSetup(""), GEOMETRIES, owner, command=command(behaviour), **more)
        supervisor.owner = owner  # type: ignore[attr-defined]
        supervisor.start()
        try:
            yield supervisor
        finally:
            await supervisor.stop()


async def until(condition: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(wait(), HANG_S)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


def ask(supervisor: WorkerSupervisor, field: str, value: Any, **others: Any) -> Request:
    request: Request = supervisor.owner.request(lambda request: None, field, value, **others)  # type: ignore[attr-defined]
    supervisor.tell_wanted()
    return request


def is_running(supervisor: WorkerSupervisor) -> bool:
    return supervisor.state is WorkerState.RUNNING


def noted_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return what will hold the pauses before workers are started again; none of them is really waited for."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        if seconds in BACK_OFF_S:
            pauses.append(seconds)
            seconds = 0.0
        await sleep(seconds)

    monkeypatch.setattr(worker_module, "LOOK_S", 0.07)  # no pause of those
    monkeypatch.setattr(worker_module.asyncio, "sleep", noted)
    return pauses


def test_what_is_wanted_is_told_and_answered() -> None:
    async def work() -> None:
        async with supervising() as supervisor:
            await until(lambda: is_running(supervisor))
            bert = ask(supervisor, "voice", BERT, speaker=1)
            await until(lambda: bert.error == "")
            assert supervisor.owner.settled and supervisor.owner.applied.voice == BERT  # type: ignore[attr-defined]

    run(work)


def test_what_is_wanted_before_the_worker_is_ready_is_told_when_it_is(tmp_path: Path) -> None:
    async def work() -> None:
        slow = Wanted(VoiceFiles("Slow", str(tmp_path / "slow.pth")), 0, "swift", "low")
        async with supervising(wanted=slow) as supervisor:
            await until(lambda: supervisor.pid is not None)
            bert = ask(supervisor, "voice", BERT)
            (tmp_path / "go").touch()
            await until(lambda: bert.error == "")

    run(work)


def test_a_killed_worker_is_back_twenty_times_in_a_row_without_a_pause_and_with_the_same_voice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses = noted_pauses(monkeypatch)

    async def work() -> None:
        async with supervising() as supervisor:
            for count in range(20):
                await until(lambda count=count: is_running(supervisor) and supervisor.restarts == count)
                assert supervisor.owner.applied.voice == ANNA  # type: ignore[attr-defined]
                assert supervisor.pid is not None
                os.kill(supervisor.pid, signal.SIGKILL)
                await until(lambda count=count: supervisor.restarts > count)
            assert pauses == [0.0] * 20

    run(work)


def test_a_worker_that_fails_before_it_is_ready_is_tried_again_after_longer_and_longer_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses = noted_pauses(monkeypatch)

    async def work() -> None:
        async with supervising("failing") as supervisor:
            await until(lambda: supervisor.restarts >= 7)
            assert supervisor.state is WorkerState.RESTARTING
        assert pauses[:6] == [0.5, 1.0, 2.0, 5.0, 10.0, 10.0]

    run(work)


def test_a_worker_that_says_what_is_no_message_is_started_again_with_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work() -> None:
        async with supervising("babbling") as supervisor:
            await until(lambda: supervisor.restarts >= 2)

    with caplog.at_level(logging.ERROR, "rvcd.worker"):
        run(work)
    assert any("what it said could not be used" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("behaviour", ["silent", "hanging"])
def test_a_worker_that_gives_no_sign_of_life_is_started_again(behaviour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "SILENCE_LIMIT_S", 0.3)
    monkeypatch.setattr(worker_module, "LOOK_S", 0.05)

    async def work() -> None:
        async with supervising(behaviour) as supervisor:
            await until(lambda: supervisor.restarts >= 1)
            assert "no sign of life" in supervisor.reason

    run(work)


def test_a_voice_that_ends_worker_after_worker_is_given_up_and_the_old_one_is_live() -> None:
    async def work() -> None:
        async with supervising() as supervisor:
            await until(lambda: is_running(supervisor))
            deadly = ask(supervisor, "voice", VoiceFiles("Deadly", "deadly.pth"))
            await until(lambda: deadly.error is not None)
            assert "ended 2 times" in str(deadly.error)
            await until(lambda: is_running(supervisor))
            assert supervisor.owner.applied.voice == ANNA  # type: ignore[attr-defined]

    run(work)


def test_figures_go_on_counting_when_a_worker_is_replaced() -> None:
    async def work() -> None:
        async with supervising() as supervisor:
            await until(lambda: is_running(supervisor) and supervisor.total("blocks") == 7)
            assert supervisor.pid is not None
            os.kill(supervisor.pid, signal.SIGKILL)
            await until(lambda: supervisor.restarts == 1)
            assert supervisor.total("blocks") == 7 and supervisor.stats.blocks == 0
            await until(lambda: is_running(supervisor) and supervisor.total("blocks") == 14)

    run(work)


def test_a_running_worker_is_responsive_and_one_that_is_gone_is_not() -> None:
    async def work() -> None:
        async with supervising() as supervisor:
            assert not supervisor.responsive
            await until(lambda: supervisor.responsive)
        assert not supervisor.responsive

    run(work)


def test_a_flush_goes_through_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with supervising() as supervisor:
            await until(lambda: is_running(supervisor))
            supervisor.flush()
            await until(lambda: "flushed" in caplog.text)

    with caplog.at_level(logging.INFO, "rvcd.worker"):
        run(work)


def test_a_worker_that_was_started_early_is_the_first() -> None:
    async def work() -> None:
        early = await start_worker(command())
        pid = early.pid
        async with supervising(first=early) as supervisor:
            await until(lambda: is_running(supervisor))
            assert (supervisor.pid, supervisor.restarts) == (pid, 0)

    run(work)


def test_a_worker_that_is_not_needed_after_all_is_ended() -> None:
    async def work() -> None:
        early = await start_worker()
        await early.discard()
        assert early.pid is None

    run(work)


def test_a_worker_that_cannot_be_started_is_tried_again_and_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    noted_pauses(monkeypatch)

    async def work() -> None:
        async with supervising() as supervisor:
            supervisor._command = ("/nowhere/python",)
            await until(lambda: supervisor.restarts >= 4)
            assert supervisor.reason.startswith("FileNotFoundError: ") and "/nowhere/python" in supervisor.reason
            supervisor._command = command()
            await until(lambda: is_running(supervisor))
            assert supervisor.owner.applied.voice == ANNA  # type: ignore[attr-defined]  # nobody blamed the voice

    run(work)


def test_a_worker_that_is_back_is_said_once_for_each_death_and_never_at_the_first_start(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rvcd.worker")

    def said() -> int:
        return sum("the worker converts again after" in record.getMessage() for record in caplog.records)

    async def work() -> None:
        async with supervising() as supervisor:
            for deaths in (1, 2):
                await until(lambda deaths=deaths: is_running(supervisor) and supervisor.restarts == deaths - 1)
                assert said() == deaths - 1 and supervisor.pid is not None
                os.kill(supervisor.pid, signal.SIGKILL)
                await until(lambda deaths=deaths: is_running(supervisor) and supervisor.restarts == deaths)
                assert said() == deaths

    run(work)
