from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import soxr
import torch
from safetensors import SafetensorError

from rvcd.bench import synthetic
from rvcd.bench.synthetic import SyntheticModels, write_synthetic
from rvcd.engine.loader import Loader
from rvcd.engine.pitch import PitchTrack
from rvcd.errors import ModelFileError, ParamError
from rvcd.evaluation.offline import convert_offline
from rvcd.formats.voice_file import read_voice
from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import ModelSetup, VoiceFiles
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.random_weights import EncoderShape
from rvcd.nets.rmvpe import load_rmvpe
from rvcd.nets.rmvpe_weights import RmvpeSizes
from rvcd.nets.synthesizer import build_synthesizer
from rvcd.params import Snapshot

GEOMETRY = StreamGeometry(48000, 20, 10, 100, 9600)


class Whistle:
    """A pitch method that hears one pitch, and no pitch in the second half."""

    name, context_frames, lookahead_frames, grid_frames, step_frames = "whistle", 0, 0, 1, 1
    f0_hz = 220.0

    def estimate(self, audio_16k):
        voiced = np.arange(len(audio_16k) // 160) < len(audio_16k) // 320
        return PitchTrack(np.where(voiced, self.f0_hz, 0).astype(np.float32), voiced)


@pytest.fixture
def small(monkeypatch):
    """The same files, of networks that take no time to write."""
    whole = synthetic._voice_config(40000)
    monkeypatch.setattr(synthetic, "ENCODER", EncoderShape(64, 4, 2, 128, 32, 256, centred=True, alike=0.9))
    monkeypatch.setattr(synthetic, "INDEX_VECTORS", 400)
    monkeypatch.setattr(synthetic, "UNIT_WIDTH_V2", 64)
    monkeypatch.setattr(
        synthetic,
        "_voice_config",
        lambda rate_hz: replace(whole, upsample_initial_channel=32, unit_width=64, hidden_channels=32, inter_channels=32),
    )


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The full-size files, 0.5 GB: removed at once, pytest would keep them for days."""
    folder = tmp_path_factory.mktemp("full")
    yield write_synthetic(folder)
    shutil.rmtree(folder)


def content(models: SyntheticModels) -> dict[str, bytes]:
    voice = torch.load(models.voice)["weight"]
    files = {path.name: path.read_bytes() for path in (models.encoder / "model.safetensors", models.index)}
    return {**files, **{key: value.numpy().tobytes() for key, value in voice.items()}}


def test_full_size_files_load_as_a_users_own_and_sound_healthy(full):
    """Published sizes: HuBERT-base 94.4 M (and final_proj 0.2 M), generator 27.5 M, index 20,000 x 768."""
    assert [path.name for path in (full.voice, full.index)] == [
        "synthetic.pth", "added_IVF512_Flat_nprobe_1_synthetic_v2.index",
    ]  # fmt: skip
    request = VoiceFiles("synthetic", str(full.voice), str(full.index))
    loader = Loader(ModelSetup(encoder=str(full.encoder), precision="fp32"), GEOMETRY)
    voice, encoder = loader.voice(request, keep_decoder=True), loader.encoder()
    spec, sizes = voice.spec, encoder.sizes
    assert (spec.version, spec.rate_hz, spec.has_f0, spec.unit_width, spec.speakers) == ("v2", 40000, True, 768, 109)
    assert (sizes.layers, sizes.width, sizes.heads, sizes.inner_width, sizes.normalize) == (12, 768, 12, 3072, False)
    assert encoder.unit_widths == (768, 256)
    assert voice.index is not None and (voice.index.vectors, voice.index.width) == (20_000, 768)

    def millions(*modules) -> float:
        return round(sum(p.numel() for module in modules for p in module.parameters()) / 1e6, 1)

    # As they are in the files: what is streamed is packed, and its plain weights are freed.
    plain, file = load_content_encoder(full.encoder, device="cpu"), read_voice(full.voice)
    synthesizer = build_synthesizer(file.spec.config, file.weights, path=str(full.voice))
    assert millions(plain) - millions(plain.final_proj) == pytest.approx(94.4)
    assert millions(synthesizer) == 27.5
    assert [millions(part) for part in (synthesizer.enc_p, synthesizer.flow, synthesizer.dec)] == [6.5, 6.5, 14.5]

    # A second of noise that comes and goes. The first half is voiced at 220 Hz.
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    audio = 0.1 * noise * np.sin(np.linspace(0, 9, 16000, dtype=np.float32)) ** 2
    with torch.inference_mode():
        units = encoder.units(torch.from_numpy(audio)[None], unit_width=768)[0]
    assert units.var(dim=0).mean() > 0.5 * units.square().mean()  # they say what changes, not what is always there
    heard = convert_offline(audio, encoder, Whistle(), voice, Snapshot(index_rate=0.5, protect=0.5))
    assert np.isfinite(heard).all() and np.abs(heard).max() < 0.95
    assert 0.03 < heard.std() < 0.4 and abs(heard.mean()) < 0.25 * heard.std()
    voiced, unvoiced = soxr.resample(heard, 40000, 16000)[2000:7500], soxr.resample(heard, 40000, 16000)[8500:15500]
    assert periodicity(voiced, 16000 / Whistle.f0_hz) > 0.7 > 0.4 > periodicity(unvoiced, 16000 / Whistle.f0_hz)


def periodicity(audio: np.ndarray, period_samples: float) -> float:
    """Return how alike audio is to itself one period later, -1..1."""
    lag = round(period_samples)
    return float(np.corrcoef(audio[:-lag], audio[lag:])[0, 1])


def test_the_same_seed_gives_the_same_files_and_another_one_others(small, tmp_path):
    first = content(write_synthetic(tmp_path / "a", seed=1))
    assert content(write_synthetic(tmp_path / "b", seed=1)) == first
    other = content(write_synthetic(tmp_path / "a", seed=2))
    assert all(other[key] != first[key] for key in ("model.safetensors", "dec.conv_pre.weight", "enc_p.emb_phone.weight"))


def test_what_is_there_is_not_written_again_unless_something_is_missing(small, tmp_path):
    models = write_synthetic(tmp_path)
    before = models.voice.stat().st_mtime_ns
    assert write_synthetic(tmp_path).voice.stat().st_mtime_ns == before
    models.index.unlink()
    assert write_synthetic(tmp_path).complete()
    assert [path.name for path in tmp_path.iterdir()] == [models.voice.parent.name]


def test_the_small_ones_are_whole_too(small, tmp_path):
    models = write_synthetic(tmp_path)
    encoder, voice = load_content_encoder(models.encoder), read_voice(models.voice)
    encoder.check_units(voice.spec.unit_width)
    normed = voice.weights["dec.ups.0.weight_v"]
    assert normed.dtype == torch.float16 and voice.weights["dec.ups.0.weight_g"].shape == (normed.shape[0], 1, 1)


@pytest.mark.parametrize("rate_hz", synthetic.RATES_HZ)
def test_each_rate_has_the_published_sizes(rate_hz):
    config = synthetic._voice_config(rate_hz)
    assert 100 * config.hop_samples == config.rate_hz == rate_hz
    assert config.spec_channels == (513 if rate_hz == 32000 else 1025)


@pytest.mark.parametrize("rate_hz", [44100, 16000, 0])
def test_a_rate_no_voice_has_is_refused(tmp_path, rate_hz):
    with pytest.raises(ParamError, match=f"no RVC v2 voice of {rate_hz} Hz; the rate is one of 32000, 40000, 48000"):
        write_synthetic(tmp_path, rate_hz=rate_hz)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_sentence(small, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelFileError, match=r"the synthetic models cannot be written there \(Not a directory\); .*600 MB"):
        write_synthetic(tmp_path / "file" / "bench")


def test_a_full_disk_is_one_sentence_and_leaves_nothing(small, tmp_path, monkeypatch):
    def full_disk(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full_disk)
    with pytest.raises(ModelFileError, match="No space left on device"):
        write_synthetic(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_index_has_as_many_lists_as_rvc_gives_it():
    assert synthetic.index_lists(20_000) == 512 and synthetic.index_lists(1_000_000) == 16_000


def test_a_random_rmvpe_loads_and_hears_something(tmp_path, monkeypatch):
    sizes = RmvpeSizes(
        channels=(4, 8), blocks=1, middle_channels=8, middle_layers=1, output_channels=2, mel_bands=32, gru_width=16, gru_layers=1
    )
    monkeypatch.setattr(synthetic, "PUBLISHED", sizes)
    path = synthetic.write_synthetic_rmvpe(tmp_path)
    audio = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1
    f0_hz, salience = load_rmvpe(path).f0(audio)
    assert len(f0_hz) == 101 and np.isfinite(f0_hz).all() and salience.std() > 1e-4


def test_a_folder_without_room_for_a_random_rmvpe_is_a_sentence(tmp_path):
    with pytest.raises(ModelFileError, match=r"cannot be written .*free 200 MB"):
        synthetic.write_synthetic_rmvpe(tmp_path / "nowhere")
