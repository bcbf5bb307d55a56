"""Input and output with different clocks: the delay stays, nothing clicks, nothing is lost. Time is simulated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rvcd.ipc._native import ffi, lib
from tests.audio.two_clocks import Side, Simulation

FILL = 1100
FILL_MS = 1000.0 * FILL / 48000
SETTLED_S = 25.0
AMPLITUDE = 0.5


def tone(tone_hz: float, rate_hz: float = 48000.0) -> Callable[[Any], Any]:
    return lambda position: AMPLITUDE * np.sin(2 * np.pi * tone_hz / rate_hz * position)


def second_difference(samples: NDArray[np.float32]) -> float:
    return float(np.abs(np.diff(samples.astype(np.float64), 2)).max())


def bound(tone_hz: float, rate_hz: float = 48000.0) -> float:
    """The second difference of an unbroken tone, and 3 % more; a cut in the middle of it has many times as much."""
    return 1.03 * AMPLITUDE * (2 * np.pi * tone_hz / rate_hz) ** 2


FADED = 0.04
"""What a fade with a held sample in it may have: the tone's greatest step, 0.029, and the fade's. A cut has up to 1."""


def fitted(samples: NDArray[np.float32], tone_hz: float) -> tuple[float, float]:
    """Return (gain in dB, signal to noise in dB) of a tone near tone_hz, whose exact frequency is found first."""
    n, omega = np.arange(len(samples)), 2 * np.pi * tone_hz / 48000
    for _ in range(6):
        basis = np.stack([np.cos(omega * n), np.sin(omega * n), n * np.cos(omega * n), n * np.sin(omega * n)], 1)
        (a, b, da, db), *_ = np.linalg.lstsq(basis, samples.astype(np.float64), rcond=None)
        omega += (b * da - a * db) / (a * a + b * b)
    basis = np.stack([np.cos(omega * n), np.sin(omega * n)], 1)
    weights, *_ = np.linalg.lstsq(basis, samples.astype(np.float64), rcond=None)
    noise = samples - basis @ weights
    return 20 * np.log10(np.hypot(*weights) / AMPLITUDE), 10 * np.log10((basis @ weights).var() / noise.var())


@pytest.mark.parametrize(("tone_hz", "least_snr_db"), [(100, 100), (1000, 105), (5000, 100), (10000, 95), (16000, 90)])
def test_a_tone_passes_flat_and_clean(tone_hz: float, least_snr_db: float) -> None:
    heard = Simulation(Side(48000, 256, lambda t: 100.0), Side(48000, 256), FILL, tone(tone_hz)).run(32)
    gain_db, snr_db = fitted(heard.samples[-24000:], tone_hz * 1.0001)
    assert abs(gain_db) < 0.01
    assert snr_db > least_snr_db


def test_what_the_slower_side_cannot_carry_does_not_come_back_as_another_tone() -> None:
    heard = Simulation(Side(96000, 512), Side(48000, 256), 2 * FILL, tone(30000, 96000)).run(4)
    assert np.abs(heard.samples[-48000:]).max() < AMPLITUDE * 1e-4


@pytest.mark.parametrize("source_hz", [8000, 44100, 88200, 96000, 192000])
def test_different_rates_are_only_a_larger_drift(source_hz: int) -> None:
    capture = Side(source_hz, round(source_hz * 0.005), lambda t: -120.0)
    heard = Simulation(capture, Side(48000, 256), round(source_hz * 0.025), tone(1000, source_hz)).run(40)
    gain_db, snr_db = fitted(heard.samples[-24000:], 1000 * (1 - 120e-6))
    assert abs(gain_db) < 0.01 and snr_db > 90
    assert np.ptp(heard.after(SETTLED_S)) < 0.1
    assert abs(heard.drift_ppm[-1] + 120) < 2
    assert (heard.starved, heard.recentred) == (0, 0)


@pytest.mark.parametrize("ppm", [pytest.param(-200.0, marks=pytest.mark.soak), 200.0])
def test_an_hour_of_drift_changes_neither_the_delay_nor_the_sound(ppm: float) -> None:
    """At 8 kHz, so that it takes seconds. Calls come up to 1 ms late."""
    capture, output = Side(8000, 64, lambda t: ppm, jitter_s=0.001), Side(8000, 64, jitter_s=0.001)
    heard = Simulation(capture, output, 240, tone(300, 8000)).run(3600)
    settled = heard.after(SETTLED_S)
    assert settled.max() - 30.0 < 0.1 and settled.min() - 30.0 > -0.1
    assert (heard.starved, heard.recentred) == (0, 0)
    assert second_difference(heard.samples[16000:]) < bound(300, 8000)
    assert abs(np.mean(heard.drift_ppm[-10000:]) - ppm) < 5


@settings(max_examples=5, deadline=None)
@given(
    before=st.floats(-200, 200), after=st.floats(-200, 200), capture_period=st.sampled_from([64, 256, 480, 512]),
    output_period=st.sampled_from([128, 256, 441, 512]), jitter_ms=st.floats(0, 2), seed=st.integers(0, 99),
)  # fmt: skip
def test_after_a_step_of_the_drift_the_delay_is_what_it_was(
    before: float, after: float, capture_period: int, output_period: int, jitter_ms: float, seed: int
) -> None:
    jitter_s = jitter_ms / 1000
    capture = Side(48000, capture_period, lambda t: after if t > 20 else before, jitter_s=jitter_s)
    heard = Simulation(capture, Side(48000, output_period, jitter_s=jitter_s), FILL + 256, tone(440), seed=seed).run(70)
    wanted_ms = 1000.0 * (FILL + 256) / 48000
    assert np.abs(heard.after(45) - wanted_ms).max() < 0.15  # what the lateness itself is on average counts as delay
    assert (heard.starved, heard.recentred) == (0, 0)
    assert second_difference(heard.samples[48000:]) < bound(440)


@settings(max_examples=5, deadline=None)
@given(
    ppm=st.floats(-200, 200), begins_s=st.floats(10, 11), lasts_s=st.floats(0.03, 0.9),
    side=st.sampled_from(["capture", "output"]),
)  # fmt: skip
def test_a_side_that_stalls_and_catches_up_leaves_the_delay_what_it_was(
    ppm: float, begins_s: float, lasts_s: float, side: str
) -> None:
    def late_s(t: float) -> float:
        return max(0.0, begins_s + lasts_s - t) if t > begins_s else 0.0

    capture = Side(48000, 256, lambda t: ppm, late_s=late_s if side == "capture" else lambda t: 0.0)
    output = Side(48000, 256, late_s=late_s if side == "output" else lambda t: 0.0)
    heard = Simulation(capture, output, FILL, tone(440)).run(42)
    assert np.abs(heard.after(40) - FILL_MS).max() < 0.1
    assert second_difference(heard.samples[48000:]) < FADED
    if side == "capture":
        assert heard.starved >= 1


@settings(max_examples=5, deadline=None)
@given(ppm=st.floats(-200, 200), lost_periods=st.integers(1, 40))
def test_lost_periods_are_counted_and_do_not_change_the_delay(ppm: float, lost_periods: int) -> None:
    lasts_s = lost_periods * 256 / 48000
    capture = Side(48000, 256, lambda t: ppm, lost=lambda t: 10.0 < t < 10.0 + lasts_s)
    heard = Simulation(capture, Side(48000, 256), FILL, tone(440)).run(45)
    assert np.abs(heard.after(40) - FILL_MS).max() < 0.1
    assert heard.recentred >= 1


def test_before_the_clocks_are_known_there_is_silence_and_then_a_fade() -> None:
    heard = Simulation(Side(48000, 256), Side(48000, 256), FILL, lambda position: np.full(len(position), AMPLITUDE)).run(3)
    sounding = np.flatnonzero(heard.samples)
    assert 0.4 * 48000 < sounding[0] < 0.7 * 48000
    assert second_difference(heard.samples) < 1e-3
    assert abs(heard.samples[-1] - AMPLITUDE) < 1e-6


@pytest.mark.parametrize(
    "arguments", [(0, 48000, 1000), (48000, 0, 1000), (48000, 48000, 31), (48000, 48000, 1e6), (1e6, 8000, 9999)]
)
def test_what_cannot_work_is_refused(arguments: tuple[float, float, float]) -> None:
    assert lib.rvcd_drift_new(*arguments) == ffi.NULL
