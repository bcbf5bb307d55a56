"""How much of a voice runs from block to block: nothing, all but the decoder, everything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rvcd.engine.converter import Converter, EngineError
from rvcd.engine.live_voice import Phase
from tests.engine.test_converter import PLAIN, RATE_HZ, make
from tests.support import small_voice, speech_like

GATED = replace(PLAIN, gate=-55.0)
WORD = speech_like(RATE_HZ, 0.6) + 0.05 * speech_like(RATE_HZ, 0.6, seed=4)[::-1]


def phases_of(converter: Converter, audio: np.ndarray) -> list[Phase]:
    """Convert audio and return the phase after each block, which is also the block's own."""
    size, phases = converter.geometry.block_samples, []
    for start in range(0, len(audio) - size + 1, size):
        block = converter.process(audio[start : start + size], GATED)
        assert block.silent == (converter.live.phase is not Phase.SPEAKING)
        phases.append(converter.live.phase)
    return phases


def in_turn(phases: list[Phase]) -> list[Phase]:
    """Return the phases without repetitions."""
    return [phase for i, phase in enumerate(phases) if i == 0 or phase is not phases[i - 1]]


def speaking_converter() -> Converter:
    converter = make()
    phases_of(converter, WORD)
    assert converter.live.phase is Phase.SPEAKING
    return converter


def test_a_word_a_short_pause_and_a_long_one() -> None:
    silence = np.zeros(round(0.6 * RATE_HZ), np.float32)
    heard = phases_of(make(), np.concatenate((silence, WORD, silence, WORD, *[silence] * 5)))
    # Before the word is heard itself, its beginning lies in the lookahead: the networks follow already.
    assert in_turn(heard) in (
        [Phase.IDLE, Phase.SPEAKING, Phase.FOLLOWING, Phase.SPEAKING, Phase.FOLLOWING, Phase.IDLE],
        [Phase.IDLE, Phase.FOLLOWING, Phase.SPEAKING, Phase.FOLLOWING, Phase.SPEAKING, Phase.FOLLOWING, Phase.IDLE],
    )


def test_a_block_that_came_too_late_lets_the_voice_begin_afresh() -> None:
    converter = speaking_converter()
    converter.absorb(WORD[: converter.geometry.block_samples], GATED)
    assert converter.live.phase is Phase.IDLE
    assert phases_of(converter, WORD)[0] is Phase.SPEAKING


def test_a_block_that_failed_lets_the_voice_begin_afresh() -> None:
    converter = speaking_converter()
    converter.stream.decoder.condition = converter.stream.decoder.condition * float("nan")
    with pytest.raises(EngineError):
        converter.process(WORD[: converter.geometry.block_samples], GATED)
    converter.recover()
    assert converter.live.phase is Phase.IDLE


def test_a_voice_can_go_on_only_from_one_that_is_speaking() -> None:
    converter = make()
    with pytest.raises(RuntimeError, match="idle"):
        converter.live.go_on_as(converter.new_stream(small_voice("new", seed=2)))
