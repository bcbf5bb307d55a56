"""The monitor's samples: which source, how loud, at which time, and nothing of it on the main output."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.ipc._native import ffi, lib
from rvcd.ipc.segment import AudioSegment
from tests.audio.conftest import HandDriven

PERIOD, RATE_HZ, LATENCY = 480, 48000, 960
RAW, CONVERTED = 0.25, -0.5
GLIDE_S = 0.01
START_NS = 10**15


class Monitored:
    """A device driven by hand, a worker that answers CONVERTED, and a monitor that reads each period after it was played."""

    def __init__(self) -> None:
        self.segment = AudioSegment.create(RATE_HZ)
        self.segment.set_latency_samples(LATENCY)
        self.device = HandDriven(self.segment)
        self.monitor: Any = lib.rvcd_monitor_new(self.segment.hold())

    def set(self, gain: float, *, microphone: bool = False) -> None:
        self.segment.set_monitor(gain, microphone=microphone)

    def play(self, periods: int, raw: float = RAW) -> tuple[np.ndarray, np.ndarray]:
        """Return (main output, monitor), each (periods * PERIOD,)."""
        main, monitor = [], []
        for _ in range(periods):
            start = self.segment.device_position()
            self.segment.write_output(start + PERIOD, np.full(PERIOD, CONVERTED, np.float32))
            main.append(self.device.process(np.full(PERIOD, raw, np.float32)))
            monitor.append(self.read(start, PERIOD))
        return np.concatenate(main), np.concatenate(monitor)

    def read(self, start: int, count: int) -> np.ndarray:
        samples = np.full(count, 99.0, np.float32)
        lib.rvcd_monitor_period(self.monitor, ffi.from_buffer("float[]", samples, require_writable=True), start, count)
        return samples

    def close(self) -> None:
        lib.rvcd_monitor_free(self.monitor)
        self.device.close()
        self.segment.let_go()
        self.segment.close()


@pytest.fixture
def monitored() -> Iterator[Monitored]:
    made = Monitored()
    yield made
    made.close()


def test_it_is_silent_until_it_is_set(monitored: Monitored) -> None:
    assert not monitored.play(4)[1].any()


def test_it_gives_what_the_main_device_is_given(monitored: Monitored) -> None:
    monitored.set(1.0)
    monitored.play(4)
    main, heard = monitored.play(4)
    assert heard.tolist() == main.tolist()
    assert heard[-1] == pytest.approx(CONVERTED)


def test_muting_the_main_output_mutes_the_converted_monitor(monitored: Monitored) -> None:
    monitored.set(1.0)
    monitored.play(4)
    monitored.segment.set_mute(True)
    monitored.play(4)
    assert not monitored.play(4)[1].any()


def test_the_raw_voice_is_heard_on_the_monitor_and_never_on_the_main_output(monitored: Monitored) -> None:
    monitored.set(2.0, microphone=True)
    monitored.segment.set_mute(True)
    main, heard = monitored.play(8)
    assert heard[-1] == pytest.approx(2.0 * RAW)
    assert not main[2 * PERIOD :].any()
    monitored.segment.set_mute(False)
    main, _ = monitored.play(8)
    assert main.max() <= 0.0, "only the converted voice, which is negative"


@pytest.mark.parametrize(
    ("gain", "microphone"), [(0.0, False), (4.0, True), (1.0, True), (0.0, True), (0.5, False), (16.0, False)]
)
def test_a_change_of_gain_or_source_glides(monitored: Monitored, gain: float, microphone: bool) -> None:
    monitored.set(1.0)
    monitored.play(6)
    monitored.set(gain, microphone=microphone)
    heard = monitored.play(8)[1]
    assert np.abs(np.diff(heard)).max() < 2 * max(1.0, gain) / (GLIDE_S * RATE_HZ)
    assert heard[-1] == pytest.approx(np.clip(gain * (RAW if microphone else CONVERTED), -1.0, 1.0))


def test_it_is_limited_to_full_scale_and_its_level_tells_by_how_much(monitored: Monitored) -> None:
    monitored.set(8.0, microphone=True)
    assert monitored.play(10)[1].max() == 1.0
    assert monitored.segment.take_monitor_peak() == pytest.approx(8.0 * RAW)
    assert monitored.segment.take_monitor_peak() == 0.0


@pytest.mark.parametrize("gain", [float("nan"), float("inf"), -1.0])
def test_a_gain_that_makes_no_sense_is_off(monitored: Monitored, gain: float) -> None:
    monitored.set(gain, microphone=True)
    assert not monitored.play(4)[1].any()


def test_what_is_not_there_yet_or_any_more_is_silence(monitored: Monitored) -> None:
    monitored.set(1.0, microphone=True)
    capacity = monitored.segment.in_capacity_samples
    monitored.play(capacity // PERIOD + 2)
    newest = monitored.segment.device_position()
    assert not monitored.read(newest, PERIOD).any()
    assert not monitored.read(0, PERIOD).any()
    assert monitored.read(newest - PERIOD, PERIOD).all()


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.floats(allow_nan=True, allow_infinity=True, width=32),  # gain
            st.booleans(),  # microphone
            st.integers(1, 9000),  # samples of the period
            st.booleans(),  # mute
            st.booleans(),  # the monitor is called
        ),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_the_monitor_does_the_main_output_is_the_same_to_the_sample(
    steps: list[tuple[float, bool, int, bool, bool]],
) -> None:
    noise = np.random.default_rng(1).uniform(-1, 1, 9000).astype(np.float32)

    def run(*, with_monitor: bool) -> list[list[float]]:
        made = Monitored()
        played = []
        try:
            for gain, microphone, count, mute, called in steps:
                start = made.segment.device_position()
                made.segment.write_output(start, 0.5 * noise[:count])
                made.segment.set_mute(mute)
                if with_monitor:
                    made.set(gain, microphone=microphone)
                played.append(made.device.process(noise[:count]).tolist())
                if with_monitor and called:
                    heard = made.read(start, count)
                    assert np.abs(heard).max() <= 1.0, "and finite"
        finally:
            made.close()
        return played

    assert run(with_monitor=True) == run(with_monitor=False)


# ---- a device of its own


@dataclass
class Clock:
    """How a device calls. ppm: of its clock. runs(t): whether it calls at a time; jitter_s: the most that a call comes late."""

    rate_hz: float
    period: int
    ppm: float = 0.0
    jitter_s: float = 0.0
    runs: Callable[[float], bool] = lambda t: True


@dataclass
class Heard:
    """What came out: the true time of each call's first sample, its samples, and the main output."""

    time_s: list[float] = field(default_factory=list)
    blocks: list[np.ndarray] = field(default_factory=list)
    main: list[np.ndarray] = field(default_factory=list)
    underruns: int = 0

    def after(self, start_s: float, end_s: float = np.inf) -> np.ndarray:
        return np.concatenate([b for t, b in zip(self.time_s, self.blocks, strict=True) if start_s <= t < end_s])

    def delays_s(self, start_s: float, end_s: float = np.inf) -> np.ndarray:
        """How old the heard is, for an input that rises steadily: see RAMP_PER_S."""
        return np.array([
            t - b[0] / RAMP_PER_S for t, b in zip(self.time_s, self.blocks, strict=True) if start_s <= t < end_s
        ])  # fmt: skip


RAMP_PER_S = 0.05


def simulate(main: Clock, monitor: Clock, signal: Callable[[np.ndarray], np.ndarray], duration_s: float) -> Heard:
    """Run both devices in simulated time, the microphone on the monitor. signal: of true time in seconds."""
    heard, random = Heard(), np.random.default_rng(3)
    segment = AudioSegment.create(int(main.rate_hz))
    device = HandDriven(segment)
    segment.set_monitor(1.0, microphone=True)
    stream = lib.rvcd_monitor_stream_new(segment.hold(), 2)
    reach = lib.rvcd_drift_reach(main.rate_hz, monitor.rate_hz)
    fill = reach + (main.period / main.rate_hz + monitor.period / monitor.rate_hz + 0.004) * main.rate_hz
    drift = lib.rvcd_drift_new(main.rate_hz, monitor.rate_hz, fill)
    lib.rvcd_monitor_stream_set_drift(stream, drift)
    played = np.empty((monitor.period, 2), np.float32)
    out = ffi.from_buffer("float[]", played, require_writable=True)
    newest_ns = 0
    queue: list[tuple[float, str, float]] = [(0.0, "main", 0.0), (0.0017, "monitor", 0.0017)]
    while queue:
        at_s, name, due_s = heapq.heappop(queue)
        if due_s > duration_s:
            break
        clock = main if name == "main" else monitor
        now_ns = START_NS + int(at_s * 1e9)
        if not clock.runs(due_s):
            pass
        elif name == "main":
            heard.main.append(device.process(signal(due_s + np.arange(main.period) / main.rate_hz)))
            newest_ns = now_ns
        else:
            if newest_ns:
                lib.rvcd_monitor_stream_take(stream, segment.device_position(), newest_ns)
            lib.rvcd_monitor_stream_give(stream, out, monitor.period, 0, now_ns)
            heard.time_s.append(due_s)
            heard.blocks.append(played[:, 1].copy())
        due_s += clock.period / (clock.rate_hz * (1.0 + 1e-6 * clock.ppm))
        heapq.heappush(queue, (max(due_s, due_s + clock.jitter_s * random.random()), name, due_s))
    heard.underruns = segment.counters().monitor_underruns
    lib.rvcd_monitor_stream_free(stream)
    lib.rvcd_drift_free(drift)
    segment.let_go()
    device.close()
    segment.close()
    return heard


def ramp(time_s: np.ndarray) -> np.ndarray:
    return (RAMP_PER_S * time_s).astype(np.float32)


def tone(time_s: np.ndarray) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)


@pytest.mark.parametrize(
    "monitor",
    [
        Clock(48000, 480, ppm=150.0, jitter_s=0.001),
        Clock(48000, 128, ppm=-150.0),
        Clock(44100, 1024, ppm=100.0, jitter_s=0.001),
        Clock(48000, 8192, ppm=100.0),
    ],
)
def test_another_clock_is_followed_without_a_click(monitor: Clock) -> None:
    heard = simulate(Clock(48000, 256, jitter_s=0.001), monitor, tone, 20.0)
    assert heard.underruns == 0
    whole = heard.after(2.0)
    smooth = 0.5 * (2 * np.pi * 440 / monitor.rate_hz) ** 2
    assert np.abs(np.diff(whole, 2)).max() < 1.2 * smooth
    assert np.abs(whole).max() == pytest.approx(0.5, rel=0.01)


def test_the_delay_stays_what_it_is_whatever_the_drift() -> None:
    for ppm in (-200.0, 0.0, 200.0):
        heard = simulate(Clock(48000, 256), Clock(48000, 480, ppm=ppm), ramp, 18.0)
        delays_s = heard.delays_s(12.0)
        assert np.ptp(delays_s) < 0.0005
        assert 0.010 < delays_s.mean() < 0.030


def test_a_monitor_that_stalled_hears_nothing_old_and_has_its_delay_back() -> None:
    main, stalls = Clock(48000, 256), Clock(48000, 480, runs=lambda t: not 6.0 < t < 9.0)
    heard = simulate(main, stalls, ramp, 18.0)
    before, after = heard.delays_s(4.0, 6.0), heard.delays_s(12.0)
    assert after.mean() == pytest.approx(before.mean(), abs=0.001)
    audible = [(t, b[-1]) for t, b in zip(heard.time_s, heard.blocks, strict=True) if 9.0 <= t < 10.5 and b[-1] > 0.02]
    assert all(t - level / RAMP_PER_S < 1.0 for t, level in audible), "what was said while it stalled is never heard"
    undisturbed = simulate(main, Clock(48000, 480), ramp, 18.0)
    assert all(np.array_equal(a, b) for a, b in zip(heard.main, undisturbed.main, strict=True))


def test_while_the_main_device_is_away_it_is_silent_and_then_goes_on_at_its_delay() -> None:
    heard = simulate(Clock(48000, 256, runs=lambda t: not 6.0 < t < 8.0), Clock(48000, 480), ramp, 18.0)
    assert not heard.after(6.5, 8.0).any()
    assert heard.delays_s(12.0).mean() == pytest.approx(heard.delays_s(4.0, 6.0).mean(), abs=0.001)
    assert heard.underruns >= 1
