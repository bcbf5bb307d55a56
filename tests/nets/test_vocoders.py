"""Applio's other vocoders: the same numbers as its own modules made (tests/data/parity_applio)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rvcd.formats.voice_config import SynthesizerConfig, Vocoder
from rvcd.formats.voice_file import read_voice
from rvcd.nets.excitation import Excitation, GlidingSource, HarmonicSource, SourceState
from rvcd.nets.refinegan import before, decimate, decimation_kernel
from rvcd.nets.synthesizer import Synthesizer, build_synthesizer
from tests.support import small_config

APPLIO = Path(__file__).parents[1] / "data" / "parity_applio"
STEMS = sorted(path.stem for path in APPLIO.glob("*.pth"))


def applio_voice(stem: str) -> tuple[Synthesizer, dict[str, torch.Tensor]]:
    file = read_voice(APPLIO / f"{stem}.pth")
    vectors = {name: torch.from_numpy(np.asarray(value)) for name, value in np.load(APPLIO / f"{stem}.npz").items()}
    return build_synthesizer(file.spec.config, file.weights), vectors


def worst(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.reshape(-1) - expected.reshape(-1)).abs().max())


@pytest.mark.parametrize("stem", STEMS)
def test_the_kind_is_told_by_the_tensors(stem: str) -> None:
    kinds = {"mrf": Vocoder.MRF, "refinegan": Vocoder.REFINEGAN, "refinegan329": Vocoder.REFINEGAN_329}
    assert read_voice(APPLIO / f"{stem}.pth").spec.config.vocoder is kinds[stem.split("_")[0]]


@pytest.mark.parametrize("stem", STEMS)
def test_audio_equals_applios_without_noise(stem: str) -> None:
    model, known = applio_voice(stem)
    speaker_id = int(known["sid"])
    audio = model.infer(known["units"][None], known["coarse"][None], known["f0_hz"][None], speaker_id)
    assert worst(audio, known["audio"]) < 1e-4


@pytest.mark.parametrize("stem", STEMS)
def test_audio_equals_applios_with_the_same_noise(stem: str) -> None:
    model, known = applio_voice(stem)
    frames = known["n_z"].shape[1]
    starts = known["noise_phase_q"].double() / 256
    starts[0] = 0.0
    audio = model.infer(
        known["units"][None, :frames], known["coarse"][None, :frames], known["f0_hz"][None, :frames], int(known["sid"]),
        prior_noise=known["noise_prior_q"][None] / 32, source_noise=known["noise_sine_q"] / 32, start_cycles=starts,
        activation_noise=lambda stage, block, at, _: known[f"noise_adain_{stage}_{block}_{at}_q"] / 32,
    )  # fmt: skip
    assert worst(audio, known["n_audio"]) < 1e-4


@pytest.mark.parametrize("stem", STEMS)
def test_excitation_and_a_part_of_the_latents_equal_applios(stem: str) -> None:
    model, known = applio_voice(stem)
    source = model.dec.m_source
    assert source is not None
    with torch.inference_mode():
        f0 = known["f0_hz"]
        assert worst(source.of(f0, f0 > 0, None, SourceState()), known["excitation"]) < 1e-4
        name = next(name for name in known if name.startswith("audio_skip"))
        first, count = (int(word.lstrip("skiplen")) for word in name.split("_")[1:])
        part = f0[first : first + count]
        excitation = source.of(part, part > 0, None, SourceState())[None, None]
        made = model.dec(known["z"][None, :, first : first + count], excitation, model.speaker(int(known["sid"])))
    assert worst(made, known[name]) < 1e-4


def test_the_decimation_filters_are_applios() -> None:
    for name, taps in np.load(APPLIO / "refinegan_decimation_kernels.npz").items():
        assert np.abs(decimation_kernel(int(name[1:])) - taps).max() < 2e-7


@pytest.mark.parametrize("rate", [2, 7, 10])
def test_decimation_keeps_a_slow_wave_and_loses_a_fast_one(rate: int) -> None:
    positions = torch.arange(400 * rate, dtype=torch.float64)
    slow = torch.cos(2 * torch.pi * 0.2 * positions / rate).float()[None, None]
    fast = torch.cos(2 * torch.pi * 0.7 * positions / rate).float()[None, None]
    edge = before(rate) // rate + 1
    assert worst(decimate(slow, rate)[..., edge:-edge], slow[..., ::rate][..., edge:-edge]) < 1e-4
    assert decimate(fast, rate)[..., edge:-edge].abs().max() < 1e-4


def sources(config: SynthesizerConfig) -> list[Excitation]:
    return [HarmonicSource(n, config.hop_samples, config.rate_hz) for n in (1, 9)] + [
        GlidingSource(config.hop_samples, config.rate_hz)
    ]


@given(cuts=st.lists(st.integers(0, 9), max_size=9), voiced=st.lists(st.booleans(), min_size=12, max_size=12))
def test_an_excitation_is_the_same_however_the_frames_are_cut(cuts: list[int], voiced: list[bool]) -> None:
    f0, is_voiced = torch.linspace(80, 700, 12), torch.tensor(voiced)
    for source in sources(small_config()):
        noise = torch.randn(12 * source.hop, source.harmonics, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            whole = source.of(f0, is_voiced, noise, SourceState())
            state, pieces, first = SourceState(), [], 0
            for count in [*cuts, 12]:
                final = min(count, 12 - first)
                # The frames behind the final ones are known, and are made again.
                made = source.of(f0[first:], is_voiced[first:], noise[first * source.hop :], state, final=final)
                pieces.append(made[: final * source.hop])
                first += final
        assert (torch.cat(pieces) - whole).abs().max() < 1e-6


def test_harmonics_are_whole_multiples_of_the_pitch() -> None:
    source = HarmonicSource(9, 400, 40000)
    with torch.no_grad():
        source.l_linear.bias.zero_()
        for number in range(1, 10):
            source.l_linear.weight.zero_()
            source.l_linear.weight[0, number - 1] = 1.0
            made = source.of(torch.full((100,), 200.0), torch.ones(100, dtype=torch.bool), None, SourceState())
            spectrum = torch.fft.rfft(made * torch.hann_window(len(made))).abs()
            assert round(float(spectrum.argmax()) * 40000 / len(made)) == 200 * number
