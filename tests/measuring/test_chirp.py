"""The chirp is found where it is, to the sample; noise, silence, tones and speech are not taken for it."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.audio.configured import DEMO_SPEECH
from rvcd.measuring.chirp import find, make_chirp
from rvcd.measuring.loop import LoopError
from rvcd.measuring.measurement import measure, what_was_heard

RATES_HZ = st.sampled_from([16000, 44100, 48000, 96000])


@settings(max_examples=40, deadline=None)
@given(
    rate_hz=RATES_HZ, delay_s=st.floats(0, 1.7), gain_db=st.floats(-30, 6), noise_db=st.floats(-80, 0), seed=st.integers(0, 99)
)
def test_a_chirp_in_noise_is_found_within_one_sample(
    rate_hz: int, delay_s: float, gain_db: float, noise_db: float, seed: int
) -> None:
    chirp, delay = make_chirp(rate_hz, -30), round(delay_s * rate_hz)
    recorded = np.zeros(2 * rate_hz, np.float32)
    gain = -(10 ** (gain_db / 20))
    recorded[delay : delay + len(chirp)] = gain * chirp
    power = abs(gain) * np.sqrt(np.mean(chirp**2)) * 10 ** (noise_db / 20)
    recorded += power * np.random.default_rng(seed).standard_normal(len(recorded)).astype(np.float32)
    echo = find(recorded, chirp, rate_hz)
    assert echo.found and abs(echo.delay_samples - delay) <= 1


@settings(max_examples=25, deadline=None)
@given(rate_hz=RATES_HZ, level_db=st.floats(-120, 0), seed=st.integers(0, 999))
def test_noise_alone_is_refused(rate_hz: int, level_db: float, seed: int) -> None:
    noise = 10 ** (level_db / 20) * np.random.default_rng(seed).standard_normal(2 * rate_hz)
    assert not find(noise.astype(np.float32), make_chirp(rate_hz, -30), rate_hz).found


def test_silence_hum_and_speech_are_refused_each_with_its_own_sentence() -> None:
    chirp = make_chirp(48000, -30)
    silence = find(np.zeros(96000, np.float32), chirp, 48000)
    assert not silence.found and "nothing came back" in what_was_heard(silence, -30, "the cable")
    hum = find((0.1 * np.sin(np.arange(96000) * 2 * np.pi * 440 / 48000)).astype(np.float32), chirp, 48000)
    assert not hum.found and "something else came back" in what_was_heard(hum, -30, "the cable")
    speech = soundfile.read(DEMO_SPEECH, dtype="float32")[0][:96000]
    assert not find(speech, chirp, 48000).found


def test_a_chirp_that_comes_back_twice_is_refused() -> None:
    chirp = make_chirp(48000, -30)
    recorded = np.zeros(96000, np.float32)
    recorded[1000 : 1000 + len(chirp)] += chirp
    recorded[30000 : 30000 + len(chirp)] += 0.95 * chirp
    echo = find(recorded, chirp, 48000)
    assert not echo.found and "more than once" in what_was_heard(echo, -30, "the cable")


class FakeLoop:
    """A way round whose delay is another one each time."""

    rate_hz, period_samples, description, ends_ms = 48000, 256, "a fake", (0.0, 0.0)

    def __init__(self, *delays: int) -> None:
        self._delays = list(delays)

    def take_over(self, sound_frames: int, record_s: float) -> None:
        pass

    def send(self, sound: np.ndarray, record_s: float) -> np.ndarray:
        recorded = np.zeros(round(record_s * self.rate_hz), np.float32)
        delay = self._delays.pop(0)
        recorded[delay : delay + len(sound)] = sound
        return recorded

    def close(self) -> None:
        pass


def test_the_delay_in_the_middle_is_reported_with_the_spread() -> None:
    found = measure(FakeLoop(30000, 4800, 4848, 4896), times=3, level_dbfs=-30, record_s=1.0)
    assert (found.delay_ms, found.spread_ms) == (pytest.approx(101.0), pytest.approx(2.0))


def test_a_delay_that_is_not_constant_is_refused() -> None:
    with pytest.raises(LoopError, match="not constant"):
        measure(FakeLoop(4800, 4800, 9600), times=2, level_dbfs=-30, record_s=1.0)
