"""GTCRN against what onnxruntime made of its published graph, hop by hop (tests/data/parity/gtcrn.npz)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rvcd.nets.gtcrn import HOP_SAMPLES, WINDOW_SAMPLES, Gtcrn, GtcrnState, load_weights
from tests.support import PARITY

KNOWN = dict(np.load(PARITY / "gtcrn.npz"))
AUDIO = torch.from_numpy(KNOWN["audio_q"].astype(np.float32) / 32768)
SPECTRA = torch.fft.rfft(AUDIO.unfold(0, WINDOW_SAMPLES, HOP_SAMPLES) * torch.hann_window(WINDOW_SAMPLES).sqrt())


def cleaned(hops_at_once: int) -> np.ndarray:
    network, state = Gtcrn(load_weights()), GtcrnState.fresh()
    return torch.cat([network(hops, state) for hops in SPECTRA.split(hops_at_once)]).numpy()


@pytest.mark.parametrize("hops_at_once", [1, 2, 9, len(SPECTRA)])
def test_the_cleaned_spectra_equal_onnxruntimes_however_many_hops_come_at_once(hops_at_once: int) -> None:
    found, scale = cleaned(hops_at_once), np.abs(KNOWN["cleaned"]).max()
    assert np.abs(SPECTRA.numpy() - KNOWN["cleaned"]).max() > 0.1 * scale  # there was something to take out
    assert np.abs(found - KNOWN["cleaned"]).max() < 1e-5 * scale


def test_no_hop_depends_on_a_later_one() -> None:
    changed = SPECTRA.clone()
    changed[20:] = 5.0
    found = torch.cat((SPECTRA[:20], changed[20:]))
    before, after = (Gtcrn(load_weights())(spectra, GtcrnState.fresh())[:20] for spectra in (SPECTRA, found))
    assert float((before - after).abs().max()) < 1e-5


def test_silence_stays_silence() -> None:
    assert not Gtcrn(load_weights())(torch.zeros_like(SPECTRA), GtcrnState.fresh()).any()
