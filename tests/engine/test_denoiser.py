"""The denoiser as a stream, with networks made up for it and with the real one."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rvcd.engine.denoiser import Denoiser, Network
from rvcd.geometry import LIVE_MAX_DENOISE_MS, denoise_samples
from rvcd.nets.gtcrn import Gtcrn, GtcrnState, load_weights
from tests.support import speech_like

RATES_HZ = (8000, 11000, 16000, 22000, 32000, 44100, 48000, 96000, 192000)


def unchanged(spectra: Tensor, state: GtcrnState) -> Tensor:
    return spectra


def counting(spectra: Tensor, state: GtcrnState) -> Tensor:
    """Makes each hop softer or louder than the one before, so that a hop that is lost or doubled is heard."""
    gains = []
    for _ in range(len(spectra)):
        state.bands[0] += 1
        gains.append(0.2 + float(state.bands[0].max()) % 7 / 7)
    return spectra * torch.tensor(gains)[:, None]


@lru_cache(maxsize=1)
def real_network() -> Gtcrn:
    return Gtcrn(load_weights())


def stream(denoiser: Denoiser, audio: np.ndarray, cuts: list[int], amount: float | Callable[[int], float] = 1.0) -> np.ndarray:
    """Feed audio in blocks of the lengths of cuts, over and over."""
    made, at, number = [], 0, 0
    while at < len(audio):
        block = audio[at : at + cuts[number % len(cuts)]]
        made.append(denoiser.process(block, amount if isinstance(amount, float) else amount(at)))
        assert made[-1].dtype == np.float32 and len(made[-1]) == len(block)
        at, number = at + len(block), number + 1
    return np.concatenate(made)


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


@settings(max_examples=12, deadline=None)
@given(rate_hz=st.sampled_from(RATES_HZ), cuts=st.lists(st.integers(50, 4000), min_size=1, max_size=6), network=st.booleans())
def test_any_cut_into_blocks_gives_the_same_samples(rate_hz: int, cuts: list[int], network: bool) -> None:
    audio = speech_like(rate_hz, 0.4)
    made: Network = counting if network else unchanged
    reference = stream(Denoiser(made, rate_hz, len(audio)), audio, [len(audio)])
    found = stream(Denoiser(made, rate_hz, max(cuts)), audio, cuts)
    assert rms(reference) > 0.003
    assert np.abs(found - reference).max() < 1e-6


@pytest.mark.parametrize("block_ms", [20, 40, 140])
def test_the_real_network_gives_the_same_samples_for_every_block_size(block_ms: int) -> None:
    audio = speech_like(48000, 1.0) + 0.02 * np.random.default_rng(1).standard_normal(48000).astype(np.float32)
    reference = stream(Denoiser(real_network(), 48000, 48000), audio, [48000])
    found = stream(Denoiser(real_network(), 48000, 48 * block_ms), audio, [48 * block_ms])
    assert np.abs(found - reference).max() < 1e-5


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_output_is_the_input_delayed_by_as_much_as_is_said_whatever_the_amount(rate_hz: int) -> None:
    t = np.arange(rate_hz) / rate_hz
    audio = (0.3 * np.sin(2 * np.pi * 300 * t) + 0.2 * np.sin(2 * np.pi * 1700 * t)).astype(np.float32)
    delay, cut = denoise_samples(rate_hz), rate_hz // 50
    expected = np.concatenate((np.zeros(delay, np.float32), audio))[: len(audio)]
    assert Denoiser(unchanged, rate_hz, cut).delay_samples == delay <= LIVE_MAX_DENOISE_MS * rate_hz / 1000
    assert np.array_equal(stream(Denoiser(unchanged, rate_hz, cut), audio, [cut], 0.0), expected)
    inside = slice(delay + rate_hz // 50, None)  # the sine begins with a step, which the resamplers round off
    for amount in (0.5, 1.0):
        assert np.abs(stream(Denoiser(unchanged, rate_hz, cut), audio, [cut], amount) - expected)[inside].max() < 1e-3


def test_the_real_network_takes_out_noise_and_leaves_speech() -> None:
    rate_hz = 48000
    noise = 0.02 * np.random.default_rng(2).standard_normal(3 * rate_hz).astype(np.float32)
    cleaned = stream(Denoiser(real_network(), rate_hz, 960), noise, [960])
    assert rms(cleaned[rate_hz:]) < 0.1 * rms(noise)


def test_silence_stays_exact_silence() -> None:
    silence = np.zeros(48000, np.float32)
    assert not stream(Denoiser(real_network(), 48000, 1920), silence, [1920]).any()


def test_what_was_loud_before_does_not_sound_on_in_digital_silence() -> None:
    audio = np.concatenate((speech_like(48000, 1.0), np.zeros(48000, np.float32)))
    made = stream(Denoiser(real_network(), 48000, 1920), audio, [1920])
    assert rms(made[:48000]) > 0.003
    assert np.abs(made[48000 + 2 * denoise_samples(48000) :]).max() < 1e-6


@pytest.mark.parametrize("start, end", [(0.0, 1.0), (1.0, 0.0), (0.0, 0.5)])
def test_switching_it_in_mid_sound_makes_no_step(start: float, end: float) -> None:
    """The network here takes out 20 dB: a switch without a crossfade would be a step of 0.27 of full scale."""
    rate_hz, cut = 48000, 1920
    audio = (0.3 * np.sin(2 * np.pi * 200 * np.arange(rate_hz) / rate_hz)).astype(np.float32)
    denoiser = Denoiser(lambda spectra, state: 0.1 * spectra, rate_hz, cut)
    made = stream(denoiser, audio, [cut], lambda at: start if at < rate_hz // 2 else end)
    bend = np.abs(np.diff(made, 3))[denoiser.delay_samples + cut :]
    slope = 0.3 * (2 * np.pi * 200 / rate_hz) ** 3
    assert bend.max() < 2 * slope + 1e-6
    shares = [rms(made[at : at + cut]) / rms(audio) for at in (rate_hz // 2 - cut, rate_hz - cut)]
    assert shares == pytest.approx([1 - 0.9 * start, 1 - 0.9 * end], abs=0.02)


def broken(kind: str) -> Network:
    def network(spectra: Tensor, state: GtcrnState) -> Tensor:
        state.bands[0] += 1  # a state that would stay spoilt
        if kind == "raises" and not state.bands[0].isnan().any():
            state.bands[0] *= torch.nan
            raise RuntimeError("no memory")
        if kind == "loud":
            return spectra * 1e9
        return spectra * torch.nan if kind == "nan" else spectra

    return network


@pytest.mark.parametrize("kind", ["nan", "loud", "raises"])
def test_a_network_that_fails_is_silence_and_a_reason_and_begins_afresh(kind: str) -> None:
    audio = speech_like(48000, 0.5)
    denoiser = Denoiser(broken(kind), 48000, 1920)
    faults = set()
    for at in range(0, len(audio), 1920):
        assert not denoiser.process(audio[at : at + 1920], 1.0).any()
        faults.add(denoiser.fault)
    assert any("network" in fault for fault in faults)
    assert denoiser._state.network.bands[0].isfinite().all()
    denoiser._network = unchanged
    made = stream(denoiser, audio, [1920])
    assert denoiser.fault == "" and rms(made[9600:]) > 0.003


def test_a_network_that_fails_while_it_is_off_harms_nothing() -> None:
    audio = speech_like(48000, 0.5)
    denoiser = Denoiser(broken("nan"), 48000, 1920)
    made = stream(denoiser, audio, [1920], 0.0)
    assert denoiser.fault == ""
    assert np.array_equal(made[denoiser.delay_samples :], audio[: -denoiser.delay_samples])


def test_without_its_network_the_signal_is_held_back_and_no_more() -> None:
    audio = speech_like(44100, 0.5)
    denoiser = Denoiser(None, 44100, 882)
    made = stream(denoiser, audio, [882])
    assert np.array_equal(made[denoiser.delay_samples :], audio[: -denoiser.delay_samples])
