"""Recordings are cut as RVC's training cuts them, whatever blocks they come in."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.geometry import ENCODER_RATE_HZ
from rvcd.indexing.slices import FRAME_SAMPLES, OVERLAP_SAMPLES, PIECE_SAMPLES, Slicer


def tone(seconds: float, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(np.arange(round(seconds * ENCODER_RATE_HZ)) * 0.1)).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * ENCODER_RATE_HZ), np.float32)


def cut(audio: np.ndarray, sizes: list[int] | None = None) -> list[np.ndarray]:
    slicer, pieces, at = Slicer(0.01), [], 0
    for size in sizes or [len(audio)]:
        pieces += slicer.push(audio[at : at + size])
        at += size
    return [*pieces, *slicer.push(audio[at:]), *slicer.finish()]


def test_silence_gives_nothing_and_neither_does_a_click() -> None:
    assert cut(silence(3)) == []
    assert cut(np.concatenate((silence(1), tone(0.04), silence(1)))) == []


def test_a_word_is_kept_with_a_quarter_of_a_second_around_it() -> None:
    (piece,) = cut(np.concatenate((silence(2), tone(1.0), silence(2))))
    assert abs(len(piece) / ENCODER_RATE_HZ - 1.48) < 0.03
    assert np.abs(piece[: ENCODER_RATE_HZ // 5]).max() == 0.0 and np.abs(piece).max() > 0.29


def test_a_long_pause_divides_and_a_short_one_does_not() -> None:
    assert len(cut(np.concatenate((tone(1), silence(0.4), tone(1))))) == 1
    assert len(cut(np.concatenate((tone(1), silence(1), tone(1))))) == 2


def test_long_speech_is_cut_into_overlapping_pieces_that_hold_all_of_it() -> None:
    audio = (np.random.default_rng(0).standard_normal(10 * ENCODER_RATE_HZ) * 0.1).astype(np.float32)
    pieces = cut(audio)
    assert [len(piece) for piece in pieces[:-1]] == [PIECE_SAMPLES] * (len(pieces) - 1)
    assert len(pieces[-1]) <= PIECE_SAMPLES + OVERLAP_SAMPLES
    joined = np.concatenate((pieces[0], *(piece[OVERLAP_SAMPLES:] for piece in pieces[1:])))
    assert np.array_equal(joined, audio)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(0.02, 3.0)), min_size=1, max_size=6), st.lists(st.integers(1, 40_000), max_size=8)
)
def test_how_the_audio_is_cut_into_blocks_does_not_matter(parts: list[tuple[bool, float]], sizes: list[int]) -> None:
    audio = np.concatenate([tone(seconds) if loud else silence(seconds) for loud, seconds in parts])
    whole, in_blocks = cut(audio), cut(audio, sizes)
    assert len(whole) == len(in_blocks)
    assert all(np.array_equal(a, b) for a, b in zip(whole, in_blocks, strict=True))
    loud = [seconds for is_loud, seconds in parts if is_loud]
    if not any(seconds > 5 * FRAME_SAMPLES / ENCODER_RATE_HZ for seconds in loud):
        return
    assert whole
