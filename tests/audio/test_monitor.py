"""The monitor's samples: which source, how loud, and nothing on the main output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rvcd.ipc._native import ffi, lib
from rvcd.ipc.segment import AudioSegment
from tests.audio.conftest import HandDriven

PERIOD, RATE_HZ, LATENCY = 480, 48000, 960
RAW, CONVERTED = 0.25, -0.5


class Monitored:
    """A device driven by hand, a worker that answers CONVERTED, and a monitor that reads each period after it was played."""

    def __init__(self) -> None:
        self.segment = AudioSegment.create(RATE_HZ)
        self.segment.set_latency_samples(LATENCY)
        self.device = HandDriven(self.segment)
        self.monitor: Any = lib.rvcd_monitor_new(self.segment.hold())

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
    lib.rvcd_monitor_set(monitored.monitor, 1.0, 0)
    monitored.play(4)
    main, heard = monitored.play(4)
    assert heard.tolist() == main.tolist()
    assert heard[-1] == pytest.approx(CONVERTED)


def test_the_raw_voice_is_heard_on_the_monitor_and_never_on_the_main_output(monitored: Monitored) -> None:
    lib.rvcd_monitor_set(monitored.monitor, 2.0, 1)
    monitored.segment.set_mute(True)
    main, heard = monitored.play(8)
    assert heard[-1] == pytest.approx(2.0 * RAW)
    assert not main[2 * PERIOD :].any()
    monitored.segment.set_mute(False)
    main, _ = monitored.play(8)
    assert main.max() <= 0.0, "only the converted voice, which is negative"


@pytest.mark.parametrize(("gain", "is_raw"), [(0.0, 0), (4.0, 1), (1.0, 1), (0.0, 1), (0.5, 0)])
def test_a_change_of_gain_or_source_glides(monitored: Monitored, gain: float, is_raw: int) -> None:
    lib.rvcd_monitor_set(monitored.monitor, 1.0, 0)
    monitored.play(6)
    lib.rvcd_monitor_set(monitored.monitor, gain, is_raw)
    heard = monitored.play(6)[1]
    assert np.abs(np.diff(heard)).max() < 4.0 / (0.01 * RATE_HZ)
    assert heard[-1] == pytest.approx(gain * (RAW if is_raw else CONVERTED))


def test_it_is_limited_to_full_scale(monitored: Monitored) -> None:
    lib.rvcd_monitor_set(monitored.monitor, 8.0, 1)
    assert monitored.play(10)[1].max() == 1.0


@pytest.mark.parametrize("gain", [float("nan"), float("inf"), -1.0])
def test_a_gain_that_makes_no_sense_is_off(monitored: Monitored, gain: float) -> None:
    lib.rvcd_monitor_set(monitored.monitor, gain, 1)
    assert not monitored.play(4)[1].any()


def test_what_is_not_there_yet_or_any_more_is_silence(monitored: Monitored) -> None:
    lib.rvcd_monitor_set(monitored.monitor, 1.0, 1)
    capacity = monitored.segment.in_capacity_samples
    monitored.play(capacity // PERIOD + 2)
    newest = monitored.segment.device_position()
    assert not monitored.read(newest, PERIOD).any()
    assert not monitored.read(0, PERIOD).any()
    assert monitored.read(newest - PERIOD, PERIOD).all()
