"""The stream: while two latencies meet the output is silent, and the published latency is that of what runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rvcd.daemon.stream import STOPPING, Stream
from rvcd.daemon.switches import Switches, TalkKey
from rvcd.daemon.wanted import Request
from rvcd.errors import RvcdError
from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import ModelSetup, VoiceFiles, Wanted
from rvcd.ipc.segment import AudioSegment
from rvcd.osc.session import SupersededError
from tests.audio.conftest import HandDriven
from tests.daemon.test_worker import ROOT, command, until

LOW, SAFE = StreamGeometry(16000, 8, 4, 20, 160), StreamGeometry(16000, 20, 4, 20, 1600)
ANNA, BERT = VoiceFiles("Anna", "anna.pth"), VoiceFiles("Bert", "bert.pth")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@asynccontextmanager
async def streaming(voice: VoiceFiles = ANNA, **more: Any) -> AsyncIterator[tuple[Stream, AudioSegment, Switches]]:
    loop = asyncio.get_running_loop()
    with AudioSegment.create(16000) as segment:
        switches = Switches(segment, "off", TalkKey(loop.call_later, lambda: None))
        wanted = Wanted(voice, 0, "swift", "low")
        sizes = {"low": LOW, "safe": SAFE}
        stream = Stream(segment, ModelSetup(""), sizes, wanted, switches, command=command(), **more)
        stream.start()
        try:
            yield stream, segment, switches
        finally:
            await stream.stop()


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


def test_another_latency_holds_once_the_worker_has_gone_over_in_silence() -> None:
    async def work() -> None:
        silences: list[bool] = []
        async with streaming(on_change=lambda: silences.append(switches.changing_latency)) as (stream, segment, switches):
            await until(lambda: stream.voice == ANNA)
            assert segment.latency_samples() == LOW.latency_samples
            await stream.want("latency", "safe")
            assert segment.latency_samples() == SAFE.latency_samples and stream.geometry == SAFE
            await until(lambda: not switches.changing_latency)
        assert True in silences

    run(work)


def test_a_latency_asked_for_while_another_one_is_prepared_is_the_one_that_holds() -> None:
    async def work() -> None:
        async with streaming() as (stream, segment, switches):
            await until(lambda: stream.voice == ANNA)
            first, second = asyncio.ensure_future(stream.want("latency", "safe")), None
            await until(lambda: stream.owner.wanted.latency == "safe")
            second = asyncio.ensure_future(stream.want("latency", "low"))
            with pytest.raises(SupersededError):
                await first
            await second
            await until(lambda: stream.owner.settled and not switches.changing_latency)
            assert segment.latency_samples() == LOW.latency_samples

    run(work)


def test_a_voice_that_went_live_is_told_once_and_not_again_when_the_worker_is_replaced() -> None:
    async def work() -> None:
        live: list[str] = []
        async with streaming(on_voice=lambda voice: live.append(voice.name)) as (stream, _, _):
            await until(lambda: stream.voice == ANNA)
            await stream.want("voice", BERT, speaker=0)
            assert live == ["Bert"]
            stream.worker._child.kill()  # type: ignore[union-attr]
            await until(lambda: stream.worker.restarts == 1 and stream.voice == BERT)
            assert live == ["Bert"]

    run(work)


def test_a_voice_that_cannot_be_loaded_is_the_error_of_whoever_asked() -> None:
    async def work() -> None:
        async with streaming() as (stream, _, _):
            await until(lambda: stream.voice == ANNA)
            with pytest.raises(RvcdError, match="is cut short"):
                await stream.want("voice", VoiceFiles("Broken", "broken.pth"))
            assert stream.voice == ANNA and stream.owner.wanted.voice == ANNA

    run(work)


def test_whoever_waits_when_rvcd_stops_is_told(tmp_path: Path) -> None:
    async def work() -> None:
        async with streaming() as (stream, _, _):
            await until(lambda: stream.voice == ANNA)
            waiting = asyncio.ensure_future(stream.want("voice", VoiceFiles("Slow", str(tmp_path / "slow.pth"))))
            await until(lambda: "voice" in stream.owner.pending)
        with pytest.raises(RvcdError, match=STOPPING):
            await waiting

    run(work)


def test_one_who_stops_waiting_changes_nothing_of_what_is_wanted(tmp_path: Path) -> None:
    async def work() -> None:
        async with streaming() as (stream, _, _):
            await until(lambda: stream.voice == ANNA)
            slow = VoiceFiles("Slow", str(tmp_path / "slow.pth"))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(stream.want("voice", slow), 0.05)
            assert stream.owner.wanted.voice == slow
            (tmp_path / "go").touch()
            await until(lambda: stream.voice == slow)

    run(work)


def test_what_is_missing_counts_as_lost_while_a_worker_is_being_replaced() -> None:
    async def work() -> None:
        async with streaming() as (stream, segment, _):
            device = HandDriven(segment)
            device.process(np.zeros(160, np.float32))
            assert segment.counters().late_samples == 0, "nobody expects anything before the first voice"
            await until(lambda: stream.voice == ANNA)
            stream.worker._child.kill()  # type: ignore[union-attr]
            await until(lambda: stream.worker.restarts == 1)
            device.process(np.zeros(160, np.float32))
            assert segment.counters().late_samples == 160
            device.close()

    run(work)


def test_requests_are_data_that_can_be_looked_at() -> None:
    ended: list[Request] = []
    request = Request("voice", ANNA, 1, ended.append)
    request.end("first")
    request.end("second")
    assert ended == [request] and request.error == "first"
