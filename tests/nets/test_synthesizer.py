from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from rvcd.errors import ModelFileError
from rvcd.formats.voice_file import read_voice
from rvcd.nets.synthesizer import Flow, IdleFlow, Synthesizer, build_synthesizer, fold_weight_norm
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


# ---- enc_p in steps


def prior_inputs(model: Synthesizer, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(8)
    units = torch.randn(1, frames, model.config.unit_width, generator=random)
    return units, torch.randint(1, 256, (1, frames), generator=random)


def test_one_step_over_everything_is_offline():
    model, _ = parity_voice("v2_40k_f0")
    units, coarse = prior_inputs(model, 60)
    memory = model.enc_p.start(40)
    for found, expected in zip(model.enc_p.step(units, coarse, memory, 60), model.enc_p(units, coarse), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_provisional_frames_leave_no_trace_and_the_past_is_bounded():
    model, _ = parity_voice("v2_40k_f0")
    units, coarse = prior_inputs(model, 80)
    memory = model.enc_p.start(30)
    model.enc_p.step(units[:, :50], coarse[:, :50], memory, 40)
    assert all(m.attention.known == 30 for m in memory)
    again = [model.enc_p.step(units[:, 40:70], coarse[:, 40:70], memory, 0)[0] for _ in range(2)]
    assert torch.equal(*again)


def test_remembered_frames_come_as_close_to_offline_as_recomputed_ones():
    model, _ = parity_voice("v2_40k_f0")
    units, coarse = prior_inputs(model, 120)
    offline, _ = model.enc_p(units, coarse)
    memory, remembered, recomputed = model.enc_p.start(120), [], []
    for first in range(0, 100, 10):
        end = first + 20
        remembered.append(model.enc_p.step(units[:, first:end], coarse[:, first:end], memory, 10)[0][..., :10])
        recomputed.append(model.enc_p(units[:, :end], coarse[:, :end])[0][..., first : first + 10])
    errors = [float((torch.cat(x, dim=2) - offline[..., :100]).square().sum()) for x in (remembered, recomputed)]
    assert errors[0] < 1.3 * errors[1]


def test_a_voice_is_built_without_torchs_compiler_whose_import_takes_longer_than_everything_else():
    script = (
        "import sys; from pathlib import Path; from rvcd.nets.synthesizer import build_synthesizer as build;"
        "from rvcd.formats.voice_file import read_voice as read; file = read(Path(sys.argv[1]));"
        "build(file.spec.config, file.weights); print('torch._dynamo' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(PARITY / f"{VOICES[0]}.pth")]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout == "False\n"


def test_a_flow_that_adds_nothing_is_left_out_and_changes_nothing():
    file = read_voice(PARITY / "v2_40k_f0.pth")
    weights = dict(fold_weight_norm(file.weights))
    for i in range(4):
        for part in ("weight", "bias"):
            weights[f"flow.flows.{2 * i}.post.{part}"] = torch.zeros_like(weights[f"flow.flows.{2 * i}.post.{part}"])
    lean = build_synthesizer(file.spec.config, weights)
    assert isinstance(lean.flow, IdleFlow)
    whole = Synthesizer(file.spec.config)
    whole.load_state_dict(weights)
    units, coarse, f0_hz = torch.randn(1, 40, file.spec.unit_width), torch.full((1, 40), 90), torch.full((1, 40), 200.0)
    assert torch.equal(lean.infer(units, coarse, f0_hz), whole.infer(units, coarse, f0_hz))
    assert isinstance(build_synthesizer(file.spec.config, file.weights).flow, Flow)
