"""Changing the voice: prepared between blocks, one crossfade, the old voice untouched until then."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.engine.converter import Converter, EngineError
from rvcd.engine.units import CATCH_UP_FRAMES
from rvcd.engine.voice_stream import Voice
from rvcd.engine.voice_switch import FADE_MS, Step, StepCosts, crossfade
from rvcd.nets.contentvec_state import RECEPTIVE_FIELD_SAMPLES
from tests.engine.test_converter import PLAIN, RATE_HZ, make, rms
from tests.support import FakeEncoder, small_voice, speech_like

AUDIO = speech_like(RATE_HZ, 2.2) + 0.1 * speech_like(RATE_HZ, 2.2, seed=4)[::-1]
CHANGE_S = 1.2
CHANGE_AT = 20
"""The same in blocks of 60 ms."""


def other_voice(**changes: object) -> Voice:
    return small_voice("new", seed=2, n_layers=0, **changes)


def play(converter: Converter, voice: Voice | None, steps_a_block: int = 99) -> tuple[list[np.ndarray], list[str]]:
    """Convert AUDIO, asking for a voice after CHANGE_S; returns the blocks and the voice of each."""
    size, blocks, voices = converter.geometry.block_samples, [], []
    change_at = round(CHANGE_S * RATE_HZ) // size
    for number in range(len(AUDIO) // size):
        blocks.append(converter.process(AUDIO[number * size :][:size], PLAIN).audio)
        voices.append(converter.voice.name)
        if number == change_at and voice is not None:
            converter.switch.begin(converter.new_stream(voice))
        for _ in range(steps_a_block):
            converter.switch.prepare()
    return blocks, voices


@pytest.mark.parametrize("block_ms", [40, 140])
@pytest.mark.parametrize(("width", "own_encoder"), [(24, False), (32, False), (24, True)])
def test_after_the_crossfade_the_new_voice_says_what_it_would_have_said_all_along(
    block_ms: int, width: int, own_encoder: bool
) -> None:
    voice = replace(other_voice(unit_width=width), encoder=FakeEncoder(seed=7) if own_encoder else None)
    found, voices = play(make(small_voice("old", n_layers=0), block_ms=block_ms), voice)
    old, _ = play(make(small_voice("old", n_layers=0), block_ms=block_ms), None)
    new, _ = play(make(voice, block_ms=block_ms), None)
    at = voices.index("new")
    assert at == round(CHANGE_S * 1000) // block_ms + 1
    assert np.array_equal(np.concatenate(found[:at]), np.concatenate(old[:at]))
    # rms_mix holds 20 ms back and the fade lasts 30.
    whole, expected = np.concatenate(found), np.concatenate(new)
    start = at * len(found[0]) + round(0.055 * RATE_HZ)
    # The breath of both is the same noise; the phase of the sine starts when the voice does, so compare loudness by 10 ms.
    pieces = range(start, len(whole) - 400, 400)
    louder = np.array([[rms(signal[i : i + 400]) for i in pieces] for signal in (whole, expected)])
    assert np.median(np.abs(louder[0] - louder[1]) / (louder[1] + 1e-3)) < 0.15


@pytest.mark.parametrize("encoder", [None, FakeEncoder(seed=7)], ids=["the same encoder", "its own encoder"])
def test_a_voice_prepared_one_step_a_block_arrives_too_and_the_old_one_is_heard_until_then(encoder: FakeEncoder | None) -> None:
    voice = replace(other_voice(unit_width=32), encoder=encoder)
    found, voices = play(make(small_voice("old", n_layers=0)), voice, steps_a_block=1)
    old, _ = play(make(small_voice("old", n_layers=0)), None)
    at = voices.index("new")
    assert CHANGE_AT + 2 <= at <= CHANGE_AT + (12 if encoder is None else 14)
    assert set(voices[at:]) == {"new"}
    assert np.array_equal(np.concatenate(found[:at]), np.concatenate(old[:at]))


def test_an_encoder_on_its_way_in_hears_the_past_in_pieces_that_fit_between_blocks_and_the_old_one_is_forgotten() -> None:
    encoder, old = FakeEncoder(seed=7), FakeEncoder()
    converter = make(replace(small_voice("old", n_layers=0), encoder=old))
    play(converter, replace(other_voice(), encoder=encoder))
    frames = max(CATCH_UP_FRAMES, 2 * converter.geometry.block_frames)
    assert max(encoder.heard) <= frames * 160 + RECEPTIVE_FIELD_SAMPLES
    assert sum(encoder.heard) >= converter.geometry.window_frames * 160
    assert [stream.encoder for stream in converter.units._streams.values()] == [encoder]
    calls = old.calls
    play(converter, None)
    assert old.calls == calls


def test_a_voice_of_another_encoder_that_is_given_up_leaves_nothing_of_it() -> None:
    converter = make(small_voice("old", n_layers=0))
    size = converter.geometry.block_samples
    for number in range(CHANGE_AT):
        converter.process(AUDIO[number * size :][:size], PLAIN)
    converter.switch.begin(converter.new_stream(replace(other_voice(), encoder=FakeEncoder(seed=7))))
    assert converter.switch.next_step() is Step.UNITS
    converter.switch.prepare()
    converter.switch.cancel()
    assert [stream.encoder for stream in converter.units._streams.values()] == [converter.encoder]


def test_there_is_neither_a_gap_nor_a_click_where_the_voices_meet() -> None:
    found, voices = play(make(small_voice("old", n_layers=0)), other_voice())
    whole, size = np.concatenate(found), len(found[0])
    meet = voices.index("new") * size
    alone = [np.concatenate(play(make(voice), None)[0]) for voice in (small_voice("old", n_layers=0), other_voice())]
    for start in range(meet - size, meet + 2 * size, 400):
        found_rms, *alone_rms = (rms(signal[start : start + 400]) for signal in (whole, *alone))
        assert found_rms > 0.3 * min(alone_rms)
    bend = np.abs(np.diff(whole, 2))
    seam = bend[meet - 10 : meet + round(FADE_MS * RATE_HZ / 1000) + 1000].max()
    assert seam < 2.0 * bend[10 * size :].max() or seam < 2.0 * np.quantile(bend[10 * size :], 0.999)


def test_in_a_silence_the_change_is_immediate_and_costs_nothing() -> None:
    converter = make(small_voice("old", n_layers=0))
    gated = replace(PLAIN, gate=-50.0)
    silence = np.zeros(converter.geometry.block_samples, np.float32)
    for _ in range(20):
        converter.process(silence, gated)
    converter.switch.begin(converter.new_stream(other_voice()))
    assert converter.voice.name == "new" and not converter.switch.active
    assert converter.switch.next_step() is None


def test_a_voice_asked_for_while_another_is_on_its_way_takes_its_place() -> None:
    converter = make(small_voice("old", n_layers=0))
    size = converter.geometry.block_samples
    for number in range(CHANGE_AT):
        converter.process(AUDIO[number * size :][:size], PLAIN)
    converter.switch.begin(converter.new_stream(other_voice()))
    while converter.switch.next_step() is not None:
        converter.switch.prepare()
    converter.switch.begin(converter.new_stream(small_voice("newest", seed=3, n_layers=0)))
    while converter.switch.next_step() is not None:
        converter.switch.prepare()
    converter.process(AUDIO[CHANGE_AT * size :][:size], PLAIN)
    assert converter.voice.name == "newest"


def test_a_voice_that_gives_nan_is_refused_before_it_is_heard() -> None:
    broken = other_voice()
    broken.synthesizer.enc_p.emb_pitch.weight.fill_(float("nan"))
    converter = make(small_voice("old", n_layers=0))
    size = converter.geometry.block_samples
    for number in range(CHANGE_AT):
        converter.process(AUDIO[number * size :][:size], PLAIN)
    converter.switch.begin(converter.new_stream(broken))

    def prepare_all() -> None:
        while converter.switch.next_step() is not None:
            converter.switch.prepare()

    with pytest.raises(EngineError):
        prepare_all()
    converter.switch.cancel()
    block = converter.process(AUDIO[CHANGE_AT * size :][:size], PLAIN)
    assert converter.voice.name == "old"
    assert np.isfinite(block.audio).all() and rms(block.audio) > 1e-3


def test_a_cancelled_change_leaves_the_old_voice_as_if_nobody_had_asked() -> None:
    asked, alone = (make(small_voice("old", n_layers=0)) for _ in range(2))
    size = asked.geometry.block_samples
    for number in range(len(AUDIO) // size):
        block = AUDIO[number * size :][:size]
        assert np.array_equal(asked.process(block, PLAIN).audio, alone.process(block, PLAIN).audio)
        if number == CHANGE_AT:
            asked.switch.begin(asked.new_stream(other_voice()))
            asked.switch.prepare()
            assert asked.switch.active
        if number == CHANGE_AT + 3:
            asked.switch.cancel()
            assert not asked.switch.active and asked.switch.next_step() is None
    assert asked.voice.name == "old"


def test_a_voice_that_lost_its_place_because_blocks_were_late_comes_with_the_next_block() -> None:
    converter = make(small_voice("old", n_layers=0))
    size = converter.geometry.block_samples
    for number in range(CHANGE_AT):
        converter.process(AUDIO[number * size :][:size], PLAIN)
    converter.switch.begin(converter.new_stream(other_voice()))
    converter.switch.prepare()
    converter.absorb(AUDIO[CHANGE_AT * size :][:size], PLAIN)
    block = converter.process(AUDIO[(CHANGE_AT + 1) * size :][:size], PLAIN)
    assert converter.voice.name == "new"
    assert rms(block.audio) > 1e-3


def test_a_voice_may_be_louder_by_its_own_gain_whatever_the_loudness_match_does() -> None:
    levels = []
    for gain_db in (0.0, 6.0):
        converter = make(small_voice("old", n_layers=0), gain_db=gain_db)
        size, snapshot = converter.geometry.block_samples, replace(PLAIN, rms_mix=0.0, gain_out=-20.0)
        levels.append(rms(np.concatenate([converter.process(AUDIO[i * size :][:size], snapshot).audio for i in range(30)])))
    assert 20 * np.log10(levels[1] / levels[0]) == pytest.approx(6.0, abs=0.1)


VOICES = {
    name: replace(small_voice(name, seed=seed, n_layers=0, unit_width=width), encoder=encoder)
    for name, seed, width, encoder in (("old", 1, 24, None), ("second", 2, 24, FakeEncoder(7)), ("third", 3, 32, None))
}
EVENTS = st.lists(
    st.sampled_from(["block", "block", "block", "pause", "late block", "second", "third", "step", "step", "cancel", "failed"]),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(events=EVENTS)
def test_whatever_happens_on_the_way_the_voice_asked_for_last_is_heard_in_the_end(events: list[str]) -> None:
    converter, wanted = make(VOICES["old"], block_ms=40, lookahead_ms=60), "old"
    size, gated = converter.geometry.block_samples, replace(PLAIN, gate=-50.0)
    blocks = itertools.cycle(AUDIO[start : start + size] for start in range(0, len(AUDIO) - size, size))
    for event in ["block"] * 4 + events:
        if event in VOICES:
            converter.switch.begin(converter.new_stream(VOICES[event]))
            wanted = event
        elif event == "step":
            converter.switch.prepare()
        elif event == "cancel":
            converter.switch.cancel()
            wanted = converter.voice.name
        elif event == "failed":
            converter.recover()
        elif event == "late block":
            converter.absorb(next(blocks), gated)
        else:
            silence = np.zeros(size, np.float32)
            audio = converter.process(silence if event == "pause" else next(blocks), gated).audio
            assert audio.shape == (size,) and np.isfinite(audio).all() and np.abs(audio).max() <= 1.0
        if not converter.switch.active:
            assert converter.voice.name == wanted and converter.switch.next_step() is None
    while converter.switch.next_step() is not None:
        converter.switch.prepare()
    converter.process(next(blocks), PLAIN)
    assert converter.voice.name == wanted and not converter.switch.active


def test_a_step_is_expected_to_cost_as_much_of_a_block_as_lately() -> None:
    costs = StepCosts()
    for _ in range(30):
        costs.add(Step.JOIN, 60.0, 100.0)
    assert costs.expect_ms(Step.JOIN, 100.0) == pytest.approx(60.0, rel=0.01)
    assert costs.expect_ms(Step.JOIN, 170.0) == pytest.approx(102.0, rel=0.01), "in a slow second all takes longer"
    costs.add(Step.JOIN, 300.0, 100.0)
    assert costs.expect_ms(Step.JOIN, 100.0) < 140.0, "one stall is not believed for long"


def test_a_fade_begins_with_the_old_and_ends_with_the_new() -> None:
    faded = crossfade(np.zeros(6, np.float32), np.ones(10, np.float32))
    assert faded[0] == 0.0 and (np.diff(faded[:6]) > 0).all() and (faded[5:] == 1.0).all()
    assert (crossfade(np.zeros(0, np.float32), np.ones(4, np.float32)) == 1.0).all()
