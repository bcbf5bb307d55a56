"""The adapters around networks, with fakes in the networks' place."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
import torch

from rvcd.engine.pitch.methods.fcpe import FcpePitch
from rvcd.engine.pitch.methods.imports import stand_ins
from rvcd.engine.pitch.methods.rmvpe import RmvpePitch
from rvcd.nets.rmvpe import RMVPE, PitchNetwork
from rvcd.nets.rmvpe_weights import RmvpeSizes
from tests.engine.voice_signals import steady, vowel

AUDIO = vowel(steady(200.0, 0.2))


class FakeRmvpe:
    """Answers one frame more than asked for, as centred analysis does."""

    def __init__(self, f0_hz: float, salience: float) -> None:
        self.answer = f0_hz, salience

    def f0(self, audio_16k: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        frames = len(audio_16k) // 160 + 1
        f0_hz, salience = self.answer
        return np.full(frames, f0_hz, np.float32), np.full(frames, salience, np.float32)


def test_rmvpe_is_voiced_above_its_salience_threshold() -> None:
    track = RmvpePitch(FakeRmvpe(200.0, 0.031)).estimate(AUDIO)
    assert len(track) == 20
    assert track.voiced.all()
    assert (track.f0_hz == 200.0).all()
    assert not RmvpePitch(FakeRmvpe(200.0, 0.03)).estimate(AUDIO).voiced.any()


@pytest.mark.parametrize("f0_hz", [0.0, 49.0, 1101.0, np.nan, np.inf])
def test_rmvpe_frames_outside_the_range_are_unvoiced(f0_hz: float) -> None:
    track = RmvpePitch(FakeRmvpe(f0_hz, 0.9)).estimate(AUDIO)
    assert not track.voiced.any()
    assert (track.f0_hz == 0).all()


def test_rmvpe_is_unvoiced_in_silence_and_in_a_window_too_short_for_it() -> None:
    method = RmvpePitch(FakeRmvpe(200.0, 0.9))
    assert not method.estimate(np.zeros(3200)).voiced.any()
    assert len(method.estimate(AUDIO[:800])) == 5


def test_rmvpes_own_network_speaks_the_same_language_as_the_adapter() -> None:
    torch.manual_seed(0)
    sizes = RmvpeSizes(
        channels=(2, 4), blocks=1, middle_channels=4, middle_layers=1, output_channels=2, mel_bands=16, gru_width=8, gru_layers=1
    )
    network = PitchNetwork(sizes.mel_bands, "cpu", RMVPE(sizes).eval())
    f0_hz, salience = network.f0(AUDIO)
    track = RmvpePitch(network).estimate(AUDIO)
    inside = (salience > 0.03) & (f0_hz >= 50) & (f0_hz <= 1100)
    assert len(track) == 20
    np.testing.assert_array_equal(track.voiced, inside[:20])
    np.testing.assert_allclose(track.f0_hz, np.where(inside, f0_hz, 0)[:20], rtol=1e-6)


class FakeFcpe:
    """Answers 200 Hz everywhere; keeps what it was asked."""

    def __call__(self, wave: torch.Tensor, *, sr: int, decoder_mode: str, threshold: float) -> torch.Tensor:
        self.asked = (tuple(wave.shape), sr, decoder_mode, threshold)
        return torch.full((1, wave.shape[1] // 160 + 1, 1), 200.0)


def test_fcpe_is_asked_with_upstreams_settings() -> None:
    model = FakeFcpe()
    track = FcpePitch(model).estimate(AUDIO)
    assert model.asked == ((1, 3200 + 512, 1), 16000, "local_argmax", 0.006)
    assert track.voiced.all()
    assert (track.f0_hz == 200.0).all()


def test_a_pitch_that_is_not_in_the_audio_is_dropped() -> None:
    noise = 0.1 * np.random.default_rng(3).standard_normal(16000)
    assert not FcpePitch(FakeFcpe()).estimate(noise).voiced.any()


def test_a_stand_in_module_exists_only_while_it_is_needed() -> None:
    with stand_ins(not_there_at_all={}, not_there_at_all__part={"Value": 3}):
        from not_there_at_all.part import Value  # type: ignore[import-not-found]
    assert Value == 3
    assert "not_there_at_all" not in sys.modules
    assert "not_there_at_all.part" not in sys.modules


def test_a_module_that_is_already_imported_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ModuleType("already_here")
    monkeypatch.setitem(sys.modules, "already_here", real)
    with stand_ins(already_here={}, already_here__part={}):
        assert sys.modules["already_here"] is real
        assert "already_here.part" not in sys.modules
    assert sys.modules["already_here"] is real
