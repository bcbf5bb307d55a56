"""A key's press is a leap, a fader's way is a glide: what the generator is given frame by frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rvcd.engine.faders import LEAP_FRAMES, Faders
from rvcd.params import Snapshot

BLOCK_FRAMES = 14
PLAIN = Snapshot()


def pitches(values: list[float], block_frames: int = BLOCK_FRAMES) -> NDArray[np.float32]:
    """Return every frame's pitch, when values[0] has long rested and the others are set, one a block."""
    faders, frames = Faders.at_rest(replace(PLAIN, pitch=values[0])), []
    for value in values[1:]:
        faders = faders.then(replace(PLAIN, pitch=value))
        frames.append(faders.per_frame("pitch", np.arange(block_frames), block_frames))
    return np.concatenate(frames)


def test_a_key_is_heard_at_once_and_rests_there() -> None:
    assert pitches([0, 12, 12])[LEAP_FRAMES - 1 :].tolist() == [12.0] * (2 * BLOCK_FRAMES - LEAP_FRAMES + 1)


def test_a_key_after_a_block_of_rest_is_heard_at_once() -> None:
    assert pitches([0, 12, 12, 5])[2 * BLOCK_FRAMES + LEAP_FRAMES - 1 :].tolist() == [5.0] * (BLOCK_FRAMES - LEAP_FRAMES + 1)


def test_a_fader_on_its_way_glides_over_whole_blocks() -> None:
    found = pitches([0, 2, 9, 16, 16])
    assert found[LEAP_FRAMES - 1 : BLOCK_FRAMES].tolist() == [2.0] * (BLOCK_FRAMES - LEAP_FRAMES + 1)
    way = found[BLOCK_FRAMES - 1 : 3 * BLOCK_FRAMES]
    assert np.diff(way) == pytest.approx(7 / BLOCK_FRAMES, abs=1e-5)
    assert found[3 * BLOCK_FRAMES :].tolist() == [16.0] * BLOCK_FRAMES


def test_frames_before_the_block_have_what_was_before_it_and_frames_after_it_what_it_ends_with() -> None:
    faders = Faders(*(replace(PLAIN, pitch=value) for value in (0.0, 3.0, 10.0)))
    found = faders.per_frame("pitch", np.arange(-5, BLOCK_FRAMES + 5), BLOCK_FRAMES)
    assert found[:5].tolist() == [3.0] * 5
    assert found[-6:].tolist() == [10.0] * 6


def test_a_fader_on_its_way_does_not_make_another_one_glide() -> None:
    faders = Faders.at_rest(PLAIN).then(replace(PLAIN, formant=1.0)).then(replace(PLAIN, formant=2.0, pitch=12.0))
    frames = np.arange(BLOCK_FRAMES)
    assert faders.per_frame("pitch", frames, BLOCK_FRAMES)[LEAP_FRAMES - 1] == 12.0
    assert faders.per_frame("formant", frames, BLOCK_FRAMES)[LEAP_FRAMES - 1] < 1.2


@given(values=st.lists(st.floats(-24, 24, width=32), min_size=2, max_size=8), block_frames=st.sampled_from([2, 4, 14, 20]))
def test_every_block_ends_on_its_value_and_nothing_overshoots(values: list[float], block_frames: int) -> None:
    blocks = pitches(values, block_frames).reshape(-1, block_frames)
    for before, now, frames in zip(values, values[1:], blocks, strict=False):
        assert frames[-1] == pytest.approx(now, abs=1e-5)
        assert min(before, now) - 1e-5 <= frames.min() <= frames.max() <= max(before, now) + 1e-5
