"""The pull to a scale's notes: what it does to a sung pitch, and that a stream and a whole recording agree about it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rvcd.engine.pitch.autotune import (
    BRIDGED_FRAMES,
    DEGREES,
    Autotune,
    TuneState,
    Tuning,
    pulled,
    steer,
)
from rvcd.params import BY_NAME, SCALES, Snapshot

Floats = NDArray[np.float64]
FRAMES_A_SECOND = 100
CHROMATIC, MAJOR = SCALES.index("chromatic"), SCALES.index("major")
PLAIN = Snapshot(autotune=1.0)


def hz(midi: Floats | float, a4_hz: float = 440.0) -> NDArray[np.float32]:
    return np.asarray(a4_hz * np.exp2((np.asarray(midi) - 69) / 12), np.float32)


def midi(f0_hz: NDArray[np.floating], a4_hz: float = 440.0) -> Floats:
    return np.asarray(69 + 12 * np.log2(np.asarray(f0_hz, np.float64) / a4_hz))


def tuned(
    pitch: Floats, *, amount: float = 1.0, key: int = 0, scale: int = CHROMATIC, time_ms: float = 50.0,
    voiced: NDArray[np.bool_] | None = None, a4_hz: float = 440.0,
) -> Floats:  # fmt: skip
    """Return MIDI numbers after autotune."""
    f0 = hz(pitch)
    sounding = np.ones(len(f0), np.bool_) if voiced is None else voiced
    pulls = steer(TuneState(), f0, sounding, Tuning(key, scale, time_ms, a4_hz))
    return midi(pulled(f0, sounding, pulls, np.full(len(f0), amount, np.float32)))


def held(note: float, seconds: float) -> Floats:
    return np.full(round(seconds * FRAMES_A_SECOND), note)


def vibrato(centre: float, extent: float, seconds: float, rate_hz: float = 5.5, phase: float = 0.0) -> Floats:
    times = np.arange(round(seconds * FRAMES_A_SECOND)) / FRAMES_A_SECOND
    return np.asarray(centre + extent * np.sin(2 * np.pi * rate_hz * times + phase))


tunings = st.builds(Tuning, st.integers(0, 11), st.integers(0, len(SCALES) - 1), st.floats(0, 400), st.floats(400, 480))
tracks = st.lists(
    st.tuples(st.floats(40, 1200), st.booleans(), st.integers(1, 12)), min_size=1, max_size=12
).map(lambda runs: (
    np.concatenate([np.full(n, f, np.float32) for f, _, n in runs]), np.concatenate([np.full(n, v) for _, v, n in runs])
))  # fmt: skip


def test_every_scale_of_the_table_has_its_notes() -> None:
    assert tuple(DEGREES) == SCALES == BY_NAME["autotune_scale"].choices
    assert all(degrees[0] == 0 and list(degrees) == sorted(set(degrees)) for degrees in DEGREES.values())


@pytest.mark.parametrize("off_cents", [-49, -30, -1, 0, 12, 49])
@pytest.mark.parametrize("time_ms", [0, 50, 200])
def test_a_steady_tone_ends_within_a_cent_of_its_note(off_cents: float, time_ms: float) -> None:
    sung = np.concatenate((held(57 + off_cents / 100 - 3, 0.3), held(57 + off_cents / 100, 8 * time_ms / 1000 + 0.2)))
    assert abs(tuned(sung, time_ms=time_ms)[-1] - 57) < 0.01


@given(note=st.floats(36, 80), tuning=tunings)  # whose notes all lie within the bounds of f0
def test_a_steady_tone_ends_on_a_note_of_the_scale(note: float, tuning: Tuning) -> None:
    f0 = hz(held(note, 0.5))
    found = midi(pulled(f0, f0 > 0, steer(TuneState(), f0, f0 > 0, tuning), np.ones(len(f0), np.float32)), tuning.a4_hz)[-1]
    assert abs(found - round(found)) < 0.01
    assert (round(found) - tuning.key) % 12 in DEGREES[SCALES[tuning.scale]]


def test_a_note_outside_the_scale_goes_to_the_nearest_inside() -> None:
    assert tuned(held(61.2, 1), scale=MAJOR)[-1] == pytest.approx(62, abs=0.01)
    assert tuned(held(60.9, 1), scale=MAJOR)[-1] == pytest.approx(60, abs=0.01)
    assert tuned(held(61.2, 1), scale=MAJOR, key=1)[-1] == pytest.approx(61, abs=0.01)


def test_another_a4_moves_every_note() -> None:
    found = tuned(held(69.0, 1), a4_hz=442.0)[-1]
    assert float(hz(found)) == pytest.approx(442.0, abs=0.1)


def test_half_the_amount_takes_out_half() -> None:
    assert tuned(held(60.4, 1), amount=0.5)[-1] == pytest.approx(60.2, abs=0.005)


@given(track=tracks, tuning=tunings)
def test_amount_0_is_the_pitch_to_the_bit(track: tuple[NDArray[np.float32], NDArray[np.bool_]], tuning: Tuning) -> None:
    f0, voiced = track
    found = pulled(f0, voiced, steer(TuneState(), f0, voiced, tuning), np.zeros(len(f0), np.float32))
    assert found.dtype == np.float32 and found.tobytes() == f0.tobytes()


@given(track=tracks, tuning=tunings, amount=st.floats(0, 1, width=32))
def test_unvoiced_frames_stay_and_no_pitch_leaves_the_bounds_it_kept(
    track: tuple[NDArray[np.float32], NDArray[np.bool_]], tuning: Tuning, amount: float
) -> None:
    f0, voiced = track
    found = pulled(f0, voiced, steer(TuneState(), f0, voiced, tuning), np.full(len(f0), amount, np.float32))
    assert np.array_equal(found[~voiced], f0[~voiced])
    assert (found >= np.minimum(f0, 50) * (1 - 1e-6)).all() and (found <= np.maximum(f0, 1100) * (1 + 1e-6)).all()


@given(track=tracks, tuning=tunings)
def test_a_voice_an_octave_higher_is_pulled_as_far(track: tuple[NDArray[np.float32], NDArray[np.bool_]], tuning: Tuning) -> None:
    f0, voiced = track
    low = steer(TuneState(), f0, voiced, tuning)
    assert np.abs(low - steer(TuneState(), 2 * f0, voiced, tuning)).max() < 1e-5


@given(
    values=st.lists(st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -100.0, 1e-30, 1e30, 200.0]), min_size=1, max_size=40)
)
def test_what_is_no_pitch_is_left_alone_and_disturbs_nothing(values: list[float]) -> None:
    f0, voiced = np.array(values, np.float32), np.ones(len(values), np.bool_)
    pulls = steer(TuneState(), f0, voiced, Tuning(0, CHROMATIC, 50.0))
    with np.errstate(invalid="ignore", over="ignore"):
        found = pulled(f0, voiced, pulls, np.ones(len(f0), np.float32))
    assert np.isfinite(pulls).all() and not pulls[f0 != 200].any()
    assert np.array_equal(found[f0 != 200], f0[f0 != 200], equal_nan=True)


@pytest.mark.parametrize("phase", [0.0, 1.0, 2.5, 4.0])
@pytest.mark.parametrize(("centre", "extent"), [(60.0, 0.5), (60.2, 0.5), (60.0, 0.8), (59.8, 0.7), (60.0, 1.0)])
def test_a_vibrato_stays_on_one_note(centre: float, extent: float, phase: float) -> None:
    # The beginning of a sound may fall on a crest, so a steady moment comes first.
    sung = np.concatenate((held(centre, 0.2), vibrato(centre, extent, 2, phase=phase)))
    state, f0 = TuneState(), hz(sung)
    notes = [(steer(state, f0[t : t + 1], f0[:1] > 0, Tuning(0, CHROMATIC, 50.0)), state.note)[1] for t in range(len(f0))]
    assert set(notes) == {60.0}
    left = abs(tuned(sung)[-109:].mean() - 60)  # six turns
    assert left < (0.02 if extent <= 0.5 else 0.22)  # a wide one is never worse off than it was


def test_a_vibrato_outlives_the_usual_time_and_ends_with_none() -> None:
    sung = vibrato(60.2, 0.4, 2)
    assert np.ptp(tuned(sung)[-55:]) == pytest.approx(0.78 * 0.8, abs=0.02)
    assert np.ptp(tuned(sung, time_ms=0.0)[-55:]) < 1e-4


@given(seed=st.integers(0, 1000))
def test_a_tone_between_two_notes_does_not_go_to_and_fro(seed: int) -> None:
    random = np.random.default_rng(seed)
    for wavering in (random.uniform(-0.2, 0.2, 400), vibrato(0, 0.1, 4, rate_hz=1.0), random.uniform(-0.05, 0.05, 400)):
        notes = np.round(tuned(60.5 + wavering, time_ms=0.0), 3)
        assert np.count_nonzero(np.diff(notes)) == 0


@pytest.mark.parametrize(("leap", "frames"), [(1, 6), (2, 2), (7, 1), (12, 1), (-1, 6), (-2, 2), (-12, 1)])
def test_a_leap_to_another_note_is_followed_soon_and_never_bent_back(leap: float, frames: int) -> None:
    found = tuned(np.concatenate((held(60, 0.5), held(60 + leap, 0.5))))
    after = found[50:]
    assert np.abs(after - (60 + leap)).max() < 1e-4
    hard = tuned(np.concatenate((held(60, 0.5), held(60.02 + leap, 0.5))), time_ms=0.0)
    assert np.abs(hard[49 + frames :] - (60 + leap)).max() < 1e-4


@pytest.mark.parametrize("step", [-1, 1])
def test_somebody_who_is_always_a_quarter_of_a_semitone_off_gets_every_note_all_the_same(step: int) -> None:
    for off in (-0.25, 0.25):
        found = tuned(np.concatenate((held(60 + off, 0.5), held(60 + step + off, 0.8))))
        assert found[-1] == pytest.approx(60 + step, abs=0.01)


def test_a_short_gap_belongs_to_the_sound_and_a_longer_one_begins_another() -> None:
    for gap, same in ((BRIDGED_FRAMES, True), (BRIDGED_FRAMES + 1, False)):
        pitch = np.concatenate((held(60.1, 0.5), held(60.1, gap / 100), held(60.6, 0.5)))
        voiced = np.ones(len(pitch), np.bool_)
        voiced[50 : 50 + gap] = False
        assert round(tuned(pitch, voiced=voiced)[-1]) == (60 if same else 61)


def test_another_key_is_taken_up_without_a_jump() -> None:
    state, f0 = TuneState(), hz(held(61.0, 1))
    before = steer(state, f0, f0 > 0, Tuning(0, CHROMATIC, 50.0))
    after = steer(state, f0, f0 > 0, Tuning(0, MAJOR, 50.0))
    assert abs(after[0] - before[-1]) < 0.25 and abs(after[-1]) == pytest.approx(1, abs=1e-3)


@settings(deadline=None)
@given(track=tracks, tuning=tunings, cuts=st.lists(st.integers(1, 9), min_size=1, max_size=40), ahead=st.integers(0, 20))
def test_a_stream_in_any_blocks_has_the_pulls_of_the_whole(
    track: tuple[NDArray[np.float32], NDArray[np.bool_]], tuning: Tuning, cuts: list[int], ahead: int
) -> None:
    f0, voiced = track
    whole = steer(TuneState(), f0, voiced, tuning)
    asked = replace(PLAIN, autotune_key=tuning.key, autotune_scale=tuning.scale, autotune_time=tuning.time_ms)
    stream, first = Autotune(2 * len(f0), tuning.a4_hz), 0
    for cut in [*cuts, len(f0)]:
        settled = min(first + cut, len(f0))
        end = min(settled + ahead, len(f0))
        stream.settle(first, settled, f0[first:end], voiced[first:end], asked)
        found = stream.pulls(first, f0[first:end], voiced[first:end], asked)
        assert np.array_equal(found, whole[first:end])
        again = stream.pulls(0, f0[:end], voiced[:end], asked)  # for a voice that comes in later
        assert np.array_equal(again, whole[:end])
        first = settled


def test_after_frames_that_nobody_followed_a_new_sound_begins() -> None:
    stream, f0 = Autotune(50), hz(held(60.4, 0.3))
    stream.settle(0, 20, f0[:20], f0[:20] > 0, PLAIN)
    stream.settle(100_000, 100_010, f0[:10], f0[:10] > 0, PLAIN)
    found = stream.pulls(99_990, np.concatenate((f0[:10], f0[:10])), np.ones(20, np.bool_), PLAIN)
    assert not found[:10].any() and found[10:] == pytest.approx(-0.4, abs=1e-4)
    stream.reset()
    stream.settle(0, 5, f0[:5], f0[:5] > 0, PLAIN)
    assert stream.pulls(0, f0[:5], f0[:5] > 0, PLAIN) == pytest.approx(-0.4, abs=1e-4)
