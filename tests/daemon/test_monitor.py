"""The monitor as the control process sees it: what is handed to the audio path, and a process that may hang or die."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from rvcd.config.settings import Audio
from rvcd.config.settings import Monitor as MonitorSettings
from rvcd.daemon.monitor import TOO_FAST, Monitor
from rvcd.daemon.monitor_process import BACKOFF_FIRST_S, OPEN_LIMIT_S, SILENT_LIMIT_S, MonitorProcess
from rvcd.ipc._native import ffi, lib
from rvcd.ipc.messages import OpenMonitor
from rvcd.ipc.segment import AudioSegment
from rvcd.protocol import MonitorState
from tests.audio.conftest import HandDriven
from tests.daemon.fake_monitor import EXIT_STATUS
from tests.waiting import eventually_async

REQUEST = OpenMonitor("headphones", "", 256, 0.01)


@pytest.fixture
def segment() -> Iterator[AudioSegment]:
    with AudioSegment.create(48000) as made:
        yield made


class Watched:
    """A monitor process under a clock that the test moves."""

    def __init__(self, segment: AudioSegment, way: str, environment: dict[str, str] | None = None) -> None:
        command = (sys.executable, "-m", "tests.daemon.fake_monitor", way)
        self.process = MonitorProcess(segment, environment, command=command)
        self.now_s = 100.0
        self.request: OpenMonitor | None = REQUEST

    async def until(self, condition: Callable[[MonitorProcess], Any]) -> None:
        """Go on, without time, until something is true of it."""

        def look() -> bool:
            self.process.want(self.request, self.now_s)
            return bool(condition(self.process))

        await eventually_async(look)


def watching(segment: AudioSegment, way: str, story: Callable[[Watched], Awaitable[None]]) -> None:
    async def run() -> None:
        watched = Watched(segment, way)
        try:
            await story(watched)
        finally:
            await watched.process.stop()

    asyncio.run(run())


def test_it_says_what_it_plays_on_and_ends_when_nothing_is_wanted(segment: AudioSegment) -> None:
    async def story(on: Watched) -> None:
        await on.until(lambda process: process.opened)
        assert on.process.opened.startswith("headphones") and on.process.problem == "" and on.process.latency_ms == 20.0
        pid = on.process.pid
        await on.until(lambda process: segment.counters().monitor_samples > 0)
        for _ in range(5):  # its device calls: it is alive however much time passes
            samples = segment.counters().monitor_samples
            await eventually_async(lambda samples=samples: segment.counters().monitor_samples > samples)
            on.now_s += SILENT_LIMIT_S - 0.1
            on.process.want(REQUEST, on.now_s)
        assert on.process.pid == pid
        on.request = None
        await on.until(lambda process: not process.running)
        assert on.process.opened == ""
        assert pid is not None and not os.path.exists(f"/proc/{pid}")

    watching(segment, "play", story)


def test_a_device_that_is_missing_is_said_until_it_is_there_and_the_process_stays(segment: AudioSegment) -> None:
    async def story(on: Watched) -> None:
        await on.until(lambda process: process.problem)
        pid = on.process.pid
        assert on.process.problem == "'headphones' was not found" and on.process.opened == ""
        await on.until(lambda process: process.opened)
        assert on.process.problem == "" and on.process.pid == pid

    watching(segment, "missing", story)


def test_a_device_that_stops_calling_is_given_up_and_another_process_tries(segment: AudioSegment) -> None:
    async def story(on: Watched) -> None:
        await on.until(lambda process: process.opened)
        pid = on.process.pid
        on.now_s += SILENT_LIMIT_S + 0.1
        await on.until(lambda process: not process.running)
        assert "stopped calling" in on.process.problem and "headphones" in on.process.problem
        on.now_s += BACKOFF_FIRST_S
        await on.until(lambda process: process.opened)
        assert on.process.pid != pid

    watching(segment, "silent", story)


def test_one_that_hangs_before_it_plays_is_ended(segment: AudioSegment) -> None:
    async def story(on: Watched) -> None:
        await on.until(lambda process: process.pid)
        on.now_s += OPEN_LIMIT_S + 0.1
        await on.until(lambda process: not process.running)
        assert "has not answered" in on.process.problem

    watching(segment, "hang", story)


@pytest.mark.parametrize(("way", "words"), [("die", f"exit status {EXIT_STATUS}"), ("babble", "could not be used")])
def test_one_that_dies_or_talks_nonsense_is_replaced_after_a_pause(segment: AudioSegment, way: str, words: str) -> None:
    async def story(on: Watched) -> None:
        await on.until(lambda process: words in process.problem)
        assert on.process.pid is None and not on.process.running
        on.process.want(REQUEST, on.now_s)
        assert not on.process.running, "not at once"
        on.now_s += BACKOFF_FIRST_S
        await on.until(lambda process: process.pid)

    watching(segment, way, story)


def test_another_request_is_played_by_another_process(segment: AudioSegment) -> None:
    async def story(on: Watched) -> None:
        await on.until(lambda process: process.opened)
        on.request = OpenMonitor("speakers", "", 256, 0.01)
        await on.until(lambda process: process.opened.startswith("speakers"))

    watching(segment, "play", story)


# ---- what is wanted of it


@dataclass
class FakeDevice:
    """As much of a main device as the monitor looks at."""

    rate_hz: int = 48000
    period_samples: int = 480
    output_latency_ms: float = 20.0
    realtime: bool = True


@dataclass
class FakeProcess:
    opened: str = ""
    problem: str = ""
    latency_ms: float = 20.4
    request: OpenMonitor | None = None

    def want(self, request: OpenMonitor | None, now_s: float) -> None:
        self.request = request


def monitor_of(segment: AudioSegment, process: FakeProcess, device: str = "default") -> Monitor:
    audio = Audio(monitor=MonitorSettings(device=device), host_api="ALSA")
    made = Monitor(segment, audio, gain_db=0.0, mute=False, source="microphone", process=process)  # type: ignore[arg-type]
    made.set()
    return made


def gain_heard(segment: AudioSegment) -> float:
    """The gain that the audio path has arrived at, for the microphone."""
    device = HandDriven(segment)
    monitor = lib.rvcd_monitor_new(segment.hold())
    heard = np.empty(4800, np.float32)
    start = segment.device_position()
    device.process(np.full(4800, 0.125, np.float32))
    lib.rvcd_monitor_period(monitor, ffi.from_buffer("float[]", heard, require_writable=True), start, len(heard))
    lib.rvcd_monitor_free(monitor)
    segment.let_go()
    device.close()
    return float(heard[-1]) / 0.125


def test_gain_mute_source_and_panic_reach_the_audio_path(segment: AudioSegment) -> None:
    monitor = monitor_of(segment, FakeProcess())
    assert gain_heard(segment) == pytest.approx(1.0)
    monitor.set(gain_db=-6.0)
    assert gain_heard(segment) == pytest.approx(10 ** (-6 / 20))
    for off, on in (
        ({"mute": True}, {"mute": False}), ({"silent": True}, {"silent": False}), ({"gain_db": -60.0}, {"gain_db": 0.0}),
        ({"source": "converted"}, {"source": "microphone"}),
    ):  # fmt: skip
        monitor.set(**off)  # type: ignore[arg-type]
        assert gain_heard(segment) == 0.0
        monitor.set(**on)  # type: ignore[arg-type]
        assert gain_heard(segment) > 0.0


def test_without_a_device_it_is_off_and_gives_nothing(segment: AudioSegment) -> None:
    process = FakeProcess()
    monitor = monitor_of(segment, process, device="")
    monitor.look(FakeDevice(), 1.0)  # type: ignore[arg-type]
    assert monitor.state is MonitorState.OFF and process.request is None
    assert gain_heard(segment) == 0.0


def test_the_process_is_told_the_device_and_how_the_main_device_calls(segment: AudioSegment) -> None:
    process, device = FakeProcess(), FakeDevice()
    monitor = monitor_of(segment, process)
    monitor.look(device, 1.0)  # type: ignore[arg-type]
    assert process.request == OpenMonitor("default", "ALSA", 256, 0.02)
    asked = process.request
    device.output_latency_ms = 25.0  # settles while it runs: no reason to open anything anew
    monitor.look(device, 2.0)  # type: ignore[arg-type]
    monitor.look(None, 3.0)
    assert process.request is asked, "while the main device is away, it goes on"
    device.period_samples = 4800
    monitor.look(device, 4.0)  # type: ignore[arg-type]
    assert process.request == OpenMonitor("default", "ALSA", 256, 0.1)


def test_beside_a_device_faster_than_time_there_is_none(segment: AudioSegment) -> None:
    process = FakeProcess()
    monitor = monitor_of(segment, process)
    monitor.look(FakeDevice(realtime=False), 1.0)  # type: ignore[arg-type]
    assert process.request is None and monitor.problem == TOO_FAST and monitor.state is MonitorState.WAITING


def test_each_thing_is_said_once(segment: AudioSegment, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rvcd.monitor")
    process = FakeProcess()
    monitor = monitor_of(segment, process)
    for opened, problem in (("", "no headphones"), ("", "no headphones"), ("usb", ""), ("usb", ""), ("", "no headphones")):
        process.opened, process.problem = opened, problem
        monitor.look(FakeDevice(), 1.0)  # type: ignore[arg-type]
        assert monitor.state is (MonitorState.OPEN if opened else MonitorState.WAITING)
        assert monitor.problem == problem
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said == [
        ("WARNING", "no headphones"),
        ("INFO", "the monitor plays on usb, 20 ms behind the main device"),
        ("WARNING", "no headphones"),
    ]


def test_its_process_has_the_environment_from_before_the_microphone_was_made(
    segment: AudioSegment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULSE_SINK", "my headphones")
    monitor = Monitor(
        segment, Audio(monitor=MonitorSettings(device="pulse")), gain_db=0.0, mute=False, source="converted"
    )  # fmt: skip
    monkeypatch.setenv("PULSE_SINK", "rvcd-microphone-sink")
    assert monitor._process._environment["PULSE_SINK"] == "my headphones"
