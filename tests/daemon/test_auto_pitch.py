"""Auto brings the speaker's median to the voice's register: in whole semitones, in pauses, and not to and fro."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.daemon.auto_pitch import HYSTERESIS_SEMITONES, LEAST_S, MEMORY_S, AutoPitch

BLOCK_S = 0.14
SPOKEN, QUIET = -20.0, -60.0


def speak(auto: AutoPitch, f0_hz: float, seconds: float) -> bool:
    return sum(auto.hear(BLOCK_S, f0_hz, True, SPOKEN) for _ in range(round(seconds / BLOCK_S))) > 0


def pause(auto: AutoPitch, seconds: float = 1.0, level_dbfs: float = QUIET) -> bool:
    return sum(auto.hear(BLOCK_S, 0.0, False, level_dbfs) for _ in range(round(seconds / BLOCK_S))) > 0


def auto_for(register_hz: float) -> AutoPitch:
    auto = AutoPitch()
    auto.use_register(register_hz)
    return auto


def test_it_waits_for_some_seconds_of_speech_and_for_a_pause() -> None:
    auto = auto_for(220.0)
    speak(auto, 110.0, LEAST_S / 2)
    assert not pause(auto) and auto.semitones == 0
    assert not speak(auto, 110.0, LEAST_S) and auto.semitones == 0, "never within a phrase"
    assert pause(auto) and auto.semitones == 12


def test_consonants_and_a_loud_room_are_no_pause() -> None:
    auto = auto_for(220.0)
    speak(auto, 110.0, 2 * LEAST_S)
    for _ in range(10):
        assert not pause(auto, 0.28)
        speak(auto, 110.0, 0.3)
    assert not pause(auto, 5.0, SPOKEN - 5), "unvoiced but loud: a whisper, a long s, music"
    assert pause(auto) and auto.semitones == 12


def test_a_register_that_is_near_enough_moves_nothing() -> None:
    auto = auto_for(200.0)
    speak(auto, 200.0 * 2 ** (0.7 / 12), 10)
    assert not pause(auto) and auto.semitones == 0


def test_it_does_not_go_to_and_fro_between_two_semitones() -> None:
    auto, moves = auto_for(220.0), 0
    for n in range(60):
        speak(auto, 110.0 * 2 ** ((0.5 + 0.2 * (-1) ** n) / 12), 5)
        moves += pause(auto)
    assert moves == 1


def test_it_follows_another_speaker_within_the_memory() -> None:
    auto = auto_for(220.0)
    speak(auto, 110.0, 2 * MEMORY_S)
    pause(auto)
    assert auto.semitones == 12
    speak(auto, 220.0, 0.6 * MEMORY_S)
    assert pause(auto) and auto.semitones == 0


def test_a_few_octave_errors_do_not_move_it() -> None:
    auto = auto_for(220.0)
    for _ in range(20):
        speak(auto, 110.0, 1.0)
        speak(auto, 55.0, 0.2)
        pause(auto, 0.5)
    assert auto.semitones == 12


def test_another_voice_gets_its_own_transposition_at_once() -> None:
    auto = auto_for(220.0)
    speak(auto, 110.0, 10)
    pause(auto)
    auto.use_register(165.0)
    assert auto.semitones == 7


def test_without_a_register_nothing_moves() -> None:
    auto = auto_for(0.0)
    speak(auto, 110.0, 10)
    assert not pause(auto) and auto.semitones == 0


def test_what_it_begins_with_holds_until_it_knows_better() -> None:
    auto = AutoPitch(5)
    auto.use_register(220.0)
    assert auto.semitones == 5
    speak(auto, 110.0, 10)
    pause(auto)
    assert auto.semitones == 12


@settings(deadline=None, max_examples=60)
@given(
    st.floats(50, 1000),
    st.lists(st.tuples(st.booleans(), st.floats(50, 1100), st.floats(-90, 0), st.integers(1, 40)), max_size=12),
)
def test_it_is_always_whole_bounded_and_moves_only_in_unvoiced_blocks(
    register_hz: float, stretches: list[tuple[bool, float, float, int]]
) -> None:
    auto = auto_for(register_hz)
    for voiced, f0_hz, level_dbfs, blocks in stretches:
        for _ in range(blocks):
            before = auto.semitones
            moved = auto.hear(BLOCK_S, f0_hz if voiced else 0.0, voiced, level_dbfs)
            assert moved == (auto.semitones != before)
            assert not (moved and voiced)
            assert isinstance(auto.semitones, int) and -24 <= auto.semitones <= 24
            if moved:
                wanted = 12 * math.log2(register_hz / auto.speaker_hz)
                assert auto.semitones == pytest.approx(max(-24.0, min(24.0, wanted)), abs=HYSTERESIS_SEMITONES)
