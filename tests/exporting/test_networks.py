"""What is exported is the network that converts: the same samples from the same inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rvcd.engine.pitch.track import coarse_pitch
from rvcd.exporting.networks import ExportedEncoder, ExportedVoice, _coarse_pitch
from rvcd.formats.voice_file import read_voice
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.synthesizer import build_synthesizer
from tests.support import PARITY, VOICES, parity_voice

APPLIO = sorted((PARITY.parent / "parity_applio").glob("*.pth"))


@pytest.mark.parametrize("stem", VOICES)
def test_the_exported_voice_makes_what_upstream_makes(stem):
    model, vectors = parity_voice(stem)
    network = ExportedVoice(model)
    units = torch.from_numpy(vectors["units"])[None]
    frames = units.shape[1]
    inputs = {name: torch.zeros_like(value) for name, value in network.example(frames, 0).items()}
    inputs |= {"units": units, "speaker": torch.tensor([int(vectors["sid"])])}
    if "f0_hz" in network.names:
        inputs["f0_hz"] = torch.from_numpy(vectors["f0_hz"])[None].float()
    with torch.no_grad():
        made = network(*(inputs[name] for name in network.names))
    assert np.abs(made.numpy().reshape(-1) - vectors["audio"].reshape(-1)).max() < 1e-4


@pytest.mark.parametrize("path", [*(PARITY / f"{stem}.pth" for stem in VOICES), *APPLIO], ids=lambda path: path.stem)
def test_with_its_noise_it_is_what_the_offline_network_makes(path: Path):
    file = read_voice(path)
    model = build_synthesizer(file.spec.config, file.weights)
    network = ExportedVoice(model)
    inputs = network.example(33, 3)
    f0_hz = inputs.get("f0_hz")
    coarse = None if f0_hz is None else torch.from_numpy(coarse_pitch(f0_hz[0].numpy(), f0_hz[0].numpy() > 0))[None]
    wanted = model.infer(
        inputs["units"], coarse, f0_hz, int(inputs["speaker"]),
        prior_noise=inputs["prior_noise"], source_noise=inputs.get("source_noise"),
    )  # fmt: skip
    with torch.no_grad():
        made = network(*inputs.values())
    assert torch.equal(made, wanted)


@pytest.mark.parametrize("path", [path for path in APPLIO if path.stem.startswith("refinegan")], ids=lambda path: path.stem)
def test_the_inner_noise_of_a_refinegan_is_drawn_where_it_is_asked_for(path: Path):
    file = read_voice(path)
    network = ExportedVoice(build_synthesizer(file.spec.config, file.weights))
    inputs = network.example(20, 1)
    with torch.no_grad():
        without, again = (network(*inputs.values()) for _ in range(2))
        inputs["activation_noise"] = torch.ones(1)
        one, other = (network(*inputs.values()) for _ in range(2))
    assert torch.equal(without, again)
    assert not torch.equal(one, other) and not torch.equal(one, without)


def test_the_coarse_pitch_inside_is_rvcds():
    f0_hz = np.concatenate((np.zeros(3), np.linspace(30, 1300, 5000))).astype(np.float32)
    wanted = coarse_pitch(f0_hz, f0_hz > 0)
    assert np.array_equal(_coarse_pitch(torch.from_numpy(f0_hz)).numpy(), wanted)


def test_the_exported_encoder_makes_the_units_that_voices_get():
    encoder = load_content_encoder(PARITY / "hubert_tiny")
    width = encoder.unit_widths[0]
    network = ExportedEncoder(encoder, width, 0)
    audio = network.example(5000, 1)["audio"]
    with torch.no_grad():
        assert torch.equal(network(audio), encoder.units(audio, unit_width=width))
