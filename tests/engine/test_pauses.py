"""Pauses: through short ones the networks go on, long ones cost nothing, and the word after either is no dearer than others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from torch import Tensor

from rvcd.engine.converter import Converter
from tests.engine.test_converter import PLAIN, RATE_HZ, make, rms
from tests.support import FakeEncoder, speech_like

GATED = replace(PLAIN, gate=-55.0)
WORD = speech_like(RATE_HZ, 0.6) + 0.05 * speech_like(RATE_HZ, 0.6, seed=4)[::-1]


class CountingEncoder(FakeEncoder):
    """Notes how many units each step computes."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def step(self, features: Tensor, state: int, final: int, pitch: object = None) -> Tensor:
        self.steps.append(features.shape[1])
        return super().step(features, state, final)


def say(pause_s: float) -> tuple[Converter, list[np.ndarray], list[int]]:
    """Say a word, pause, say it again; returns the blocks heard and how many units each took."""
    converter = make()
    converter.units.encoder = encoder = CountingEncoder()
    converter.units.reset()
    size = converter.geometry.block_samples
    audio = np.concatenate((WORD, np.zeros(round(pause_s * RATE_HZ), np.float32), WORD, np.zeros(RATE_HZ, np.float32)))
    blocks, units = [], []
    for start in range(0, len(audio) - size, size):
        encoder.steps.clear()
        blocks.append(converter.process(audio[start : start + size], GATED).audio)
        units.append(sum(encoder.steps))
    return converter, blocks, units


def test_through_a_short_pause_units_are_made_for_every_block_and_none_has_more_to_do() -> None:
    converter, _, units = say(0.5)
    geometry = converter.geometry
    a_block = (geometry.block_frames + geometry.settle_frames) // 2 + 1
    spoken = units[5 : round(1.7 * RATE_HZ) // geometry.block_samples]
    assert min(spoken) > 0 and max(spoken) <= a_block


def test_a_long_pause_costs_nothing_and_the_next_word_little_more_than_any_block() -> None:
    converter, _, units = say(4.0)
    geometry = converter.geometry
    blocks_a_second = RATE_HZ / geometry.block_samples
    pause = units[round(2.5 * blocks_a_second) : round(4.0 * blocks_a_second)]
    assert not any(pause)
    again = units[round(4.0 * blocks_a_second) :]
    window = geometry.window_frames // 2
    first = next(count for count in again if count)
    assert first <= (converter.stream.start_frames + geometry.block_frames + geometry.lookahead_frames) // 2 + 2
    assert first <= 0.7 * window


@pytest.mark.parametrize("pause_s", [0.12, 0.5, 0.9, 1.3, 4.0])
def test_the_word_after_a_pause_is_as_loud_and_as_whole_as_before_it(pause_s: float) -> None:
    converter, blocks, _ = say(pause_s)
    heard = np.concatenate(blocks)[converter.geometry.lookahead_samples :]
    again = round((0.6 + pause_s) * RATE_HZ)
    first, second = heard[: len(WORD)], heard[again : again + len(WORD)]
    # The generator's breath is another one each time, so short pieces differ; none may be missing.
    assert rms(second) == pytest.approx(rms(first), rel=0.5)
    for start in range(0, len(WORD) - 2400, 2400):
        piece = slice(start, start + 2400)
        assert rms(second[piece]) > 0.25 * rms(first[piece]), start


def test_a_pause_is_exactly_silent_once_the_gate_has_closed() -> None:
    converter, blocks, _ = say(4.0)
    heard = np.concatenate(blocks)[converter.geometry.lookahead_samples :]
    assert not heard[round(1.0 * RATE_HZ) : round(4.5 * RATE_HZ)].any()
