"""A dead microphone and one that hears its own output are noticed; speech, songs and silence in between are not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.audio.configured import DEMO_SPEECH
from rvcd.daemon.input_watch import DEAD_AFTER_S, ECHO_EVERY_S, InputWatch, echo_of
from rvcd.ipc.segment import AudioSegment
from tests.audio.conftest import HandDriven

RATE_HZ = 16_000
TICK_SAMPLES = RATE_HZ // 10
LATENCY_SAMPLES = int(0.396 * RATE_HZ)
ECHO_SAMPLES = 640
SPEECH = soundfile.read(DEMO_SPEECH, dtype="float32")[0]
NOISE = (1e-4 * np.random.default_rng(3).standard_normal(len(SPEECH))).astype(np.float32)


@pytest.fixture
def segment() -> Iterator[AudioSegment]:
    with AudioSegment.create(RATE_HZ) as segment:
        segment.set_latency_samples(LATENCY_SAMPLES)
        yield segment


class Rig:
    """A microphone, a voice that comes out after the latency, and what the room puts back into the microphone."""

    def __init__(self, segment: AudioSegment, echo: float = 0.0) -> None:
        self.device, self.watch, self.segment, self.echo = HandDriven(segment), InputWatch(segment), segment, echo
        self.at = 0

    def run(self, said: np.ndarray, seconds: float) -> None:
        """Say so much of it, in ticks. What is played is speech of elsewhere, which has nothing in common with it."""
        voice = np.roll(SPEECH, 5 * RATE_HZ)
        room = said + self.echo * np.roll(voice, ECHO_SAMPLES)
        for _ in range(int(10 * seconds)):
            tick = slice(self.at, self.at + TICK_SAMPLES)
            self.segment.write_output(self.at, voice[tick].copy())
            self.device.process(room[tick])
            self.at += TICK_SAMPLES
            self.watch.look()


def test_a_microphone_that_delivers_exact_zeros_is_dead_after_five_seconds_and_alive_at_once(segment: AudioSegment) -> None:
    rig = Rig(segment)
    zeros = np.zeros_like(SPEECH)
    rig.run(NOISE, 1.0)
    rig.run(zeros, DEAD_AFTER_S - 0.2)
    assert not rig.watch.dead
    rig.run(zeros, 0.5)
    assert rig.watch.dead
    rig.run(NOISE, 0.1)
    assert not rig.watch.dead


def test_the_noise_of_a_quiet_room_is_no_dead_microphone(segment: AudioSegment) -> None:
    rig = Rig(segment)
    rig.run(NOISE / 50, 3 * DEAD_AFTER_S)
    assert not rig.watch.dead


def test_a_device_that_comes_back_has_its_five_seconds_again(segment: AudioSegment) -> None:
    rig = Rig(segment)
    rig.run(np.zeros_like(SPEECH), DEAD_AFTER_S + 0.5)
    assert rig.watch.dead
    rig.watch.pause()
    rig.run(np.zeros_like(SPEECH), 1.0)
    assert not rig.watch.dead


def test_a_look_after_more_than_the_ring_holds_accuses_nobody(segment: AudioSegment) -> None:
    watch, device = InputWatch(segment), HandDriven(segment)
    for _ in range(2 * segment.in_capacity_samples // 4096):
        device.process(NOISE[:4096])
    watch.look()
    assert not watch.dead and watch.echo_ms == 0.0


@pytest.mark.parametrize("echo", [0.2, 1.0])
def test_a_microphone_that_hears_the_loudspeaker_is_found_with_its_delay(segment: AudioSegment, echo: float) -> None:
    rig = Rig(segment, echo=echo)
    rig.run(SPEECH * 0.3 + NOISE, 3 * ECHO_EVERY_S)
    assert rig.watch.echo_ms == pytest.approx(40.0, abs=1.0)
    rig.echo = 0.0
    rig.run(SPEECH * 0.3 + NOISE, 2 * ECHO_EVERY_S)
    assert rig.watch.echo_ms == 0.0


def test_headphones_are_no_echo(segment: AudioSegment) -> None:
    rig = Rig(segment)
    rig.run(SPEECH + NOISE, 20.0)
    assert rig.watch.echo_ms == 0.0


@given(st.integers(0, 16), st.floats(0.02, 1.5), st.booleans())
@settings(max_examples=25, deadline=None)
def test_ones_own_voice_played_later_is_no_echo(start_s: int, latency_s: float, sings: bool) -> None:
    """Bypass: what is played is what was heard before. Causality tells it from an echo."""
    count = int(3.5 * RATE_HZ)
    tone = np.sin(2 * np.pi * 220 * np.arange(len(SPEECH)) / RATE_HZ).astype(np.float32)
    said = (0.3 * tone if sings else SPEECH) + NOISE
    later = np.roll(said, int(latency_s * RATE_HZ))
    at = slice(start_s * RATE_HZ, start_s * RATE_HZ + count)
    assert echo_of(said[at], later[at], RATE_HZ) is None


def test_silence_and_numbers_at_the_limit_are_no_echo() -> None:
    nothing, loud = np.zeros(RATE_HZ, np.float32), np.full(RATE_HZ, 8.0, np.float32)
    for heard in (nothing, loud):
        for played in (nothing, loud):
            found = echo_of(heard, played, RATE_HZ)
            assert found is None or (heard is loud and played is loud)
