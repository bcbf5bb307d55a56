from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rvcd.engine.pitch import PitchTrack, coarse_pitch, fill_unvoiced, transpose
from rvcd.engine.pitch.track import clean_audio, settle, to_frame_grid

PARITY = Path(__file__).parents[1] / "data" / "parity"


def track_of(*f0_hz: float) -> PitchTrack:
    values = np.array(f0_hz, np.float32)
    return PitchTrack(values, values > 0)


def test_coarse_pitch_equals_upstreams() -> None:
    vector = np.load(PARITY / "coarse_pitch.npz")
    coarse = coarse_pitch(vector["f0_hz"], vector["f0_hz"] > 0)
    assert coarse.dtype == np.int64
    np.testing.assert_array_equal(coarse, vector["coarse"])


def test_coarse_pitch_is_1_where_unvoiced_whatever_f0_is_stored() -> None:
    coarse = coarse_pitch(np.array([440.0, 440.0], np.float32), np.array([True, False]))
    assert coarse.tolist() == [122, 1]


def test_coarse_pitch_covers_1_to_255_and_never_falls() -> None:
    f0_hz = np.linspace(50, 1100, 5000)
    coarse = coarse_pitch(f0_hz, np.ones(5000, np.bool_))
    assert (coarse[0], coarse[-1]) == (1, 255)
    assert set(np.diff(coarse)) <= {0, 1}


def test_transposing_by_an_octave_doubles_f0() -> None:
    np.testing.assert_allclose(transpose(np.array([100.0, 0.0], np.float32), 12), [200.0, 0.0])
    np.testing.assert_allclose(transpose(np.array([100.0, 100.0], np.float32), np.array([-12.0, 0.0])), [50.0, 100.0])
    assert transpose(np.ones(3, np.float32), 7).dtype == np.float32


def test_filling_draws_straight_lines_through_unvoiced_frames_and_holds_the_ends() -> None:
    filled = fill_unvoiced(track_of(0, 0, 100, 0, 0, 0, 200, 0))
    np.testing.assert_allclose(filled.f0_hz, [100, 100, 100, 125, 150, 175, 200, 200])
    assert filled.voiced.all()


def test_filling_leaves_the_original_alone_and_an_unvoiced_track_unvoiced() -> None:
    original = track_of(100, 0)
    fill_unvoiced(original)
    assert original.voiced.tolist() == [True, False]
    assert not fill_unvoiced(track_of(0, 0)).voiced.any()
    assert len(fill_unvoiced(PitchTrack.unvoiced(0))) == 0


def test_a_track_of_two_lengths_is_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        PitchTrack(np.zeros(3, np.float32), np.zeros(2, np.bool_))


def test_settling_cuts_pads_and_drops_what_cannot_be_a_voice() -> None:
    audio = np.sin(np.arange(800)).astype(np.float32)
    track = settle([np.nan, 40.0, 200.0, 2000.0], [True, True, True, True], audio)
    assert track.voiced.tolist() == [False, False, True, False, False]
    assert track.f0_hz.tolist() == [0, 0, 200, 0, 0]
    assert len(settle(np.full(9, 200.0), np.full(9, True), audio)) == 5


def test_frames_are_interpolated_in_octaves_between_voiced_neighbours_only() -> None:
    times = np.array([0.0, 320.0, 640.0])
    f0_hz, voiced = to_frame_grid(times, np.array([100.0, 400.0, 0.0]), np.array([True, True, False]), 6)
    np.testing.assert_allclose(f0_hz[:3], [100, 200, 400])
    assert voiced.tolist() == [True, True, True, False, False, False]


def test_one_native_frame_or_none_is_enough_for_the_grid() -> None:
    f0_hz, voiced = to_frame_grid(np.array([80.0]), np.array([100.0]), np.array([True]), 2)
    assert voiced.all()
    np.testing.assert_allclose(f0_hz, 100.0)
    assert not to_frame_grid(np.zeros(0), np.zeros(0), np.zeros(0, np.bool_), 3)[1].any()


def test_broken_samples_become_zero() -> None:
    assert clean_audio([0.5, np.nan, np.inf, -np.inf]).tolist() == [0.5, 0, 0, 0]
