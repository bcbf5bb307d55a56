from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rvcd.errors import ModelFileError
from rvcd.models.synthesizer import SourceState, build_synthesizer, fold_weight_norm, sine_source
from rvcd.models.voice import read_voice
from tests.support import PARITY, VOICES, parity_voice


def batch(vectors: dict[str, np.ndarray], name: str) -> torch.Tensor:
    return torch.from_numpy(vectors[name])[None]


def worst(found: torch.Tensor, vectors: dict[str, np.ndarray], name: str) -> float:
    return float((found.reshape(-1) - torch.from_numpy(vectors[name]).reshape(-1)).abs().max())


@pytest.mark.parametrize("stem", VOICES)
def test_prior_latents_and_audio_equal_upstreams(stem):
    model, vectors = parity_voice(stem)
    speaker_id = int(vectors["sid"])
    mean, log_std = model.enc_p(batch(vectors, "units"), batch(vectors, "coarse"))
    assert worst(mean, vectors, "m_p") < 1e-4
    assert worst(log_std, vectors, "logs_p") < 1e-4
    assert worst(model.flow(mean, model.speaker(speaker_id)), vectors, "z") < 1e-4
    inputs = batch(vectors, "units"), batch(vectors, "coarse"), batch(vectors, "f0_hz"), speaker_id
    assert worst(model.infer(*inputs), vectors, "audio") < 1e-4


@pytest.mark.parametrize("stem", VOICES)
def test_a_part_of_the_frames_and_a_formant_shift_equal_upstreams(stem):
    model, vectors = parity_voice(stem)
    inputs = batch(vectors, "units"), batch(vectors, "coarse"), batch(vectors, "f0_hz"), int(vectors["sid"])
    part = {"skip_head": 30, "return_length": 24}
    assert worst(model.infer(*inputs, **part), vectors, "audio_skip30_len24") < 1e-4
    longer = math.ceil(24 * 2 ** (3 / 12))
    assert worst(model.infer(*inputs, **part, return_length2=longer), vectors, "audio_skip30_len24_formant3") < 1e-4


def test_the_source_is_the_same_however_the_frames_are_cut():
    f0, voiced = torch.rand(50) * 300 + 80, torch.rand(50) > 0.2
    noise = torch.randn(50 * 400)
    whole = sine_source(f0, voiced, noise, 400, 40000, SourceState())
    state, pieces = SourceState(), []
    for first, end in ((0, 1), (1, 17), (17, 17), (17, 50)):
        pieces.append(sine_source(f0[first:end], voiced[first:end], noise[400 * first : 400 * end], 400, 40000, state))
    assert (torch.cat(pieces) - whole).abs().max() < 1e-6


def test_weight_norm_folds_to_what_torch_computes():
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(3, 5, 7))
    weights = {"c.weight_g": layer.parametrizations.weight.original0, "c.weight_v": layer.parametrizations.weight.original1}
    assert torch.allclose(fold_weight_norm(weights)["c.weight"], layer.weight, atol=1e-6)


def test_weights_that_do_not_fit_the_config_are_refused_in_one_sentence():
    file = read_voice(PARITY / "v2_40k_f0.pth")
    weights = dict(file.weights)
    weights["dec.conv_pre.weight"] = weights["dec.conv_pre.weight"][:, :-1]
    with pytest.raises(ModelFileError, match=r"^mine\.pth: .*conv_pre"):
        build_synthesizer(file.spec.config, weights, path="mine.pth")


def test_a_speaker_outside_the_voice_is_refused():
    model, _ = parity_voice("v1_48k_f0")
    with pytest.raises(IndexError, match=r"speaker 1 is outside 0\.\.0"):
        model.speaker(1)
