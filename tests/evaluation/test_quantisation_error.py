"""The quantisation error of bfloat16 on speech: `pytest -s tests/evaluation/test_quantisation_error.py` prints it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from rvcd.engine.loader import Loader
from rvcd.evaluation.quantisation_error import latents_of, measure_quantisation_error, seam_ratio
from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import ModelSetup, VoiceFiles
from rvcd.nets.test_weights import ensure_test_weights
from rvcd.params import Snapshot

DEMO = Path(__file__).parents[2] / "rvcd" / "data" / "demo_speech.flac"
RATE_HZ = 48000


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """The test voice's plain generator, its speaker, and the latents and excitation of six seconds of speech."""
    cache = tmp_path_factory.mktemp("cache")
    paths = ensure_test_weights(cache)
    geometry = StreamGeometry.from_ms(rate_hz=RATE_HZ, block_ms=100, lookahead_ms=100, deadline_ms=100, context_ms=500)
    setup = ModelSetup(encoder="", test_weights_cache=str(cache))
    loader = Loader(setup, geometry)
    voice = loader.voice(VoiceFiles("test", str(paths.voice_v2)), keep_decoder=True)
    speech, rate_hz = soundfile.read(DEMO, dtype="float32")
    audio = soxr.resample(speech[: 6 * rate_hz], rate_hz, RATE_HZ).astype(np.float32)
    z, source = latents_of(loader.converter(voice, loader.pitch_method("swift"), Snapshot()), audio)
    return voice.synthesizer.dec, voice.synthesizer.speaker(0), z, source


@pytest.mark.parametrize("block_frames", [4, 10, 20])
def test_bfloat16_streams_within_40_db_of_offline_float32_and_without_seams(spoken, block_frames, capsys):
    generator, speaker, z, source = spoken
    found = measure_quantisation_error(generator, speaker, z, source, dtype=torch.bfloat16, block_frames=block_frames)
    with capsys.disabled():
        print(f"\n{10 * block_frames} ms blocks: {found.snr_db:.1f} dB, seam ratio {found.seam_ratio:.3f}, {found.seconds:.1f} s")
    assert found.seconds > 5
    assert found.snr_db >= 40
    assert found.seam_ratio == pytest.approx(1.0, abs=0.05)


def test_float32_is_exact(spoken):
    generator, speaker, z, source = spoken
    found = measure_quantisation_error(generator, speaker, z, source, dtype=torch.float32, block_frames=10)
    assert found.snr_db > 110


def test_a_click_at_every_boundary_is_a_seam():
    smooth = np.sin(np.arange(40000) / 30).astype(np.float32)
    clicking = smooth.copy()
    clicking[150::1000] += 0.01
    assert seam_ratio(smooth, 1000, 150, 40) == pytest.approx(1.0, abs=0.1)
    assert seam_ratio(clicking, 1000, 150, 40) > 10


def test_without_torchs_onednn_operators_the_numbers_are_as_good(spoken, monkeypatch):
    """As on a GPU, or with another build of torch."""
    monkeypatch.setattr("rvcd.nets.packed.fuses", lambda weight: False)
    generator, speaker, z, source = spoken
    cut = z[..., :150], None if source is None else source[..., : 150 * generator.hop]
    found = measure_quantisation_error(generator, speaker, *cut, dtype=torch.bfloat16, block_frames=10)
    assert found.snr_db >= 40
