"""A voice with a source-filter decoder, from its files to what is heard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soxr
import torch

from rvcd.bench.recompute import load_plain
from rvcd.engine.loader import Loader
from rvcd.engine.voice_stream import Voice
from rvcd.errors import ModelFileError
from rvcd.evaluation.offline import convert_offline
from rvcd.exporting.command import export_voice
from rvcd.formats.voice_config import Vocoder
from rvcd.formats.voice_file import read_voice
from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import ModelSetup, VoiceFiles
from rvcd.nets.envelope_encoder_file import save_envelope_encoder
from rvcd.nets.synthesizer import Synthesizer
from tests.engine.test_converter import PLAIN, make, rms, run
from tests.support import PARITY, FakePitch, envelope_encoder, source_filter_voice, speech_like

RATE_HZ = 24000


def whole_voice() -> Voice:
    return replace(source_filter_voice(), encoder=envelope_encoder())


def write_voice(path: Path, **changes: object) -> Path:
    """Write the small voice as train_voice.py's recipe does. changes: of what stands in the file."""
    c = source_filter_voice().synthesizer.config
    synthesizer = Synthesizer(c)  # whose dense layers are not packed
    kept = ("dec.convert.", "dec.net.", "emb_g.")
    weights = {k: v.half().contiguous() for k, v in synthesizer.state_dict().items() if k.startswith(kept)}
    config = [
        513, 40, c.inter_channels, c.hidden_channels, c.filter_channels, 1, c.n_layers, c.kernel_size, 0, "1",
        list(c.resblock_kernel_sizes), [[1]] * len(c.resblock_kernel_sizes), list(c.upsample_rates),
        c.upsample_initial_channel, list(c.upsample_kernel_sizes), 2, c.gin_channels, c.rate_hz,
    ]  # fmt: skip
    file = {"weight": weights, "config": config, "sr": "24k", "f0": 1, "version": "v2", "vocoder": "rvcd source-filter",
            "embedder_model": "rvcd-envelope"}  # fmt: skip
    torch.save({**file, **changes}, path)
    return path


@pytest.mark.parametrize("block_ms", [20, 100, 240])
def test_blocks_of_any_length_make_the_same_samples(block_ms: int) -> None:
    audio = soxr.resample(speech_like(16000, 1.8), 16000, RATE_HZ, quality="VHQ")
    found, reference = (run(make(whole_voice(), block_ms=ms, rate_hz=RATE_HZ), audio) for ms in (block_ms, 60))
    assert rms(reference) > 1e-3
    assert np.abs(found - reference).max() < 0.01 * np.abs(reference).max()


def test_a_stream_equals_the_whole_recording() -> None:
    audio_16k, voice = speech_like(16000, 2.0), whole_voice()
    assert voice.encoder is not None
    expected = convert_offline(audio_16k, voice.encoder, FakePitch(), voice, PLAIN, seed=3)
    audio = soxr.resample(audio_16k, 16000, RATE_HZ, quality="VHQ")
    found = run(make(voice, lookahead_ms=200, rate_hz=RATE_HZ), audio)
    middle = slice(6000, len(expected) - 8000)
    # The two 16 kHz signals come from different resamplers, so the envelopes differ a little.
    assert rms(found[: len(expected)][middle] - expected[middle]) < 0.1 * rms(expected[middle])


def test_a_file_is_read_and_streamed(tmp_path: Path) -> None:
    path = write_voice(tmp_path / "small.pth")
    assert read_voice(path).spec.vocoder == Vocoder.SOURCE_FILTER.value
    save_envelope_encoder(envelope_encoder(), tmp_path / "encoder.safetensors")
    geometry = StreamGeometry.from_ms(rate_hz=RATE_HZ, block_ms=60, lookahead_ms=100, deadline_ms=60, context_ms=500)
    loader = Loader(ModelSetup(encoder=str(tmp_path / "encoder.safetensors")), geometry)
    voice = loader.voice(VoiceFiles("small", str(path)))
    converter = loader.converter(voice, FakePitch(), PLAIN)
    audio = soxr.resample(speech_like(16000, 1.5), 16000, RATE_HZ, quality="VHQ")
    assert rms(run(converter, audio)) > 1e-3


def test_a_voice_and_an_encoder_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    path = write_voice(tmp_path / "small.pth")
    encoder = tmp_path / "hubert.pt"
    geometry = StreamGeometry.from_ms(rate_hz=RATE_HZ, block_ms=60, lookahead_ms=100, deadline_ms=60, context_ms=500)
    encoder.write_bytes((PARITY / "hubert_tiny_fairseq.pt").read_bytes())
    with pytest.raises(ModelFileError, match="width 48 or 16, but the voice takes width 80"):
        Loader(ModelSetup(encoder=str(encoder)), geometry).voice(VoiceFiles("small", str(path)))


def test_weights_that_are_missing_or_of_another_size_are_named(tmp_path: Path) -> None:
    whole = torch.load(write_voice(tmp_path / "whole.pth"), weights_only=True)["weight"]
    missing = {key: value for key, value in whole.items() if key != "dec.net.blocks.1.outer.bias"}
    with pytest.raises(ModelFileError, match=r"dec\.net\.blocks\.1\.outer\.bias"):
        read_voice(write_voice(tmp_path / "missing.pth", weight=missing))
    other = {**whole, "dec.net.leave.weight": torch.zeros((3, 24), dtype=torch.float16)}
    with pytest.raises(ModelFileError, match=r"dec\.net\.leave\.weight is 3x24, not 640x24"):
        read_voice(write_voice(tmp_path / "other.pth", weight=other))


def test_what_it_cannot_do_is_said_in_a_sentence(tmp_path: Path) -> None:
    path, encoder = write_voice(tmp_path / "small.pth"), tmp_path / "encoder.safetensors"
    save_envelope_encoder(envelope_encoder(), encoder)
    with pytest.raises(ModelFileError, match=r"small\.pth: .*source-filter decoder, which cannot be exported"):
        export_voice(path, "small", tmp_path / "out.onnx")
    with pytest.raises(ModelFileError, match=r"small\.pth: is no RVC voice, so upstream has no way to run it"):
        load_plain(encoder, path)
    assert not (tmp_path / "out.onnx").exists()
