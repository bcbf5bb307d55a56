"""SwiftF0 against what onnxruntime made of its published graph (tests/data/parity/swift_f0.npz)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rvcd.nets import swift
from rvcd.nets.swift import HOP_SAMPLES, SwiftF0, load_weights
from tests.support import PARITY

KNOWN = dict(np.load(PARITY / "swift_f0.npz"))
AUDIO = torch.from_numpy(KNOWN["audio_q"].astype(np.float32) / 32768)
LENGTHS = sorted(int(name.removeprefix("pitch_")) for name in KNOWN if name.startswith("pitch_"))


@pytest.fixture(params=[True, False], ids=["fused operators", "plain operators"])
def network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SwiftF0:
    if not request.param:
        monkeypatch.setattr(swift, "fuses", lambda _: False)
    return SwiftF0(load_weights())


@pytest.mark.parametrize("length", LENGTHS)
def test_pitch_and_confidence_equal_onnxruntimes(network: SwiftF0, length: int) -> None:
    pitch, confidence = network(AUDIO[:length], 50.0, 1100.0)
    assert pitch.shape == confidence.shape == KNOWN[f"pitch_{length}"].shape
    assert np.abs(confidence.numpy() - KNOWN[f"confidence_{length}"]).max() < 1e-4
    cents = 1200 * np.abs(np.log2(pitch.numpy() / KNOWN[f"pitch_{length}"]))
    assert cents[KNOWN[f"confidence_{length}"] > 0.5].max(initial=0.0) < 0.2


def test_a_hop_depends_on_the_audio_within_the_reach_alone(network: SwiftF0) -> None:
    hop = 60
    centre = hop * HOP_SAMPLES
    pitch, confidence = network(AUDIO, 50.0, 1100.0)
    changed = torch.randn(len(AUDIO), generator=torch.Generator().manual_seed(1))
    near = slice(centre - SwiftF0.reach_samples, centre + SwiftF0.reach_samples + 1)
    changed[near] = AUDIO[near]
    found, sure = network(changed, 50.0, 1100.0)
    assert abs(float(found[hop] - pitch[hop])) < 1e-3
    assert abs(float(sure[hop] - confidence[hop])) < 1e-5


def test_a_pitch_outside_the_limits_is_not_trusted(network: SwiftF0) -> None:
    tone = 0.3 * torch.sin(2 * torch.pi * 300 * torch.arange(8000) / 16000)
    assert network(tone, 50.0, 1100.0)[1][5:-5].min() > 0.5
    assert network(tone, 400.0, 1100.0)[1][5:-5].max() == 0.0
    assert network(F.pad(tone, (0, 500)), 400.0, 1100.0)[0].min() > 390.0
