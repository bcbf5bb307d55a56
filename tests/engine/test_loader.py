from __future__ import annotations

import gc
import os
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from rvcd.engine.loader import Loader, choose_device
from rvcd.errors import ModelFileError, ParamError
from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import ModelSetup, VoiceFiles
from rvcd.nets import gtcrn
from rvcd.nets.random_weights import write_encoder
from rvcd.nets.test_weights import ENCODER, ensure_test_weights
from rvcd.params import Snapshot
from tests.support import PARITY

GEOMETRY = StreamGeometry(48000, 6, 10, 100, 1920)


@pytest.fixture(scope="module")
def setup(tmp_path_factory) -> ModelSetup:
    cache = tmp_path_factory.mktemp("cache")
    ensure_test_weights(cache)
    return ModelSetup(encoder="", test_weights_cache=str(cache))


def paths(setup: ModelSetup):
    return ensure_test_weights(Path(setup.test_weights_cache))


def test_a_voice_its_index_and_a_pitch_method_become_a_converter(setup):
    loader = Loader(setup, GEOMETRY)
    voice = loader.voice(VoiceFiles("buzz", str(paths(setup).voice_v2), str(paths(setup).index_v2)))
    converter = loader.converter(voice, loader.pitch_method("yin"), Snapshot(gate=-90.0))
    noise = (0.1 * np.random.default_rng(0).standard_normal(GEOMETRY.block_samples)).astype(np.float32)
    for _ in range(8):
        block = converter.process(noise, converter.applied)
    assert block.audio.shape == (GEOMETRY.block_samples,) and np.abs(block.audio).max() > 1e-3


def test_the_content_encoder_is_loaded_once(setup):
    loader = Loader(setup, GEOMETRY)
    assert loader.encoder() is loader.encoder()


def test_a_voice_that_wants_other_units_names_both_files(setup):
    with pytest.raises(ModelFileError, match=r"v2_40k_f0\.pth: .*hubert_test.*width 64 or 32.*width 768"):
        Loader(setup, GEOMETRY).voice(VoiceFiles("parity", str(PARITY / "v2_40k_f0.pth")))


def test_a_broken_content_encoder_is_not_blamed_on_the_voice(setup, tmp_path):
    broken = tmp_path / "hubert.pt"
    broken.write_text("hello")
    with pytest.raises(ModelFileError, match=rf"^{broken}: is not a torch file"):
        Loader(replace(setup, encoder=str(broken)), GEOMETRY).voice(VoiceFiles("buzz", str(paths(setup).voice_v2)))


def test_an_index_of_another_width_is_refused(setup):
    request = VoiceFiles("buzz", str(paths(setup).voice_v2), str(PARITY / "added_IVF8_Flat_nprobe_1_kit_v1.index"))
    with pytest.raises(ModelFileError, match=r"width 256.*width 64"):
        Loader(setup, GEOMETRY).voice(request)


@pytest.mark.parametrize("kind", ["missing", "text", "cut", "other width", "not a number"])
def test_a_voice_whose_index_cannot_serve_is_loaded_without_it_and_the_reason_is_told_once(setup, tmp_path, kind):
    index, good = tmp_path / "buzz.index", paths(setup).index_v2.read_bytes()
    content = {
        "text": b"hello", "cut": good[: len(good) // 2], "not a number": good[:50_000] + b"\xff" * 8 + good[50_008:],
        "other width": (PARITY / "added_IVF8_Flat_nprobe_1_kit_v1.index").read_bytes(),
    }  # fmt: skip
    if kind in content:
        index.write_bytes(content[kind])
    told: list[str] = []
    loader = Loader(setup, GEOMETRY, warn=told.append)
    files = VoiceFiles("buzz", str(paths(setup).voice_v2), str(index))
    voice = loader.voice(files)
    assert voice.index is None and loader.voice(files).name == "buzz"
    (sentence,) = told
    assert sentence.startswith(f"buzz runs without its index: {index}: ") and "\n" not in sentence
    index.write_bytes(good)
    assert loader.voice(files).index is not None


def test_rmvpe_without_its_file_says_what_is_missing(setup):
    with pytest.raises(ModelFileError, match=r"rmvpe\.pt"):
        Loader(setup, GEOMETRY).pitch_method("rmvpe")


def test_a_gpu_that_is_not_there_is_named(setup):
    with pytest.raises(ParamError, match=r"'cuda:7' is not here.*'cpu' or 'auto'"):
        Loader(replace(setup, device="cuda:7"), GEOMETRY).encoder()
    assert choose_device("cpu") == "cpu"


def test_a_voice_is_read_again_only_when_its_file_has_changed(setup, tmp_path):
    path, loader = tmp_path / "buzz.pth", Loader(setup, GEOMETRY)
    shutil.copy(paths(setup).voice_v2, path)
    first = loader.voice(VoiceFiles("buzz", str(path)))
    again = loader.voice(VoiceFiles("another name", str(path)))
    assert again.synthesizer is first.synthesizer
    assert (first.name, again.name) == ("buzz", "another name")
    os.utime(path, ns=(0, 0))
    assert loader.voice(VoiceFiles("buzz", str(path))).synthesizer is not first.synthesizer


def test_as_many_voices_as_the_setup_says_stay_in_memory_those_used_last(setup):
    loader = Loader(replace(setup, keep_loaded=2), GEOMETRY)
    old, plain, new = (
        VoiceFiles("old", str(paths(setup).voice_v1)),
        VoiceFiles("plain", str(paths(setup).voice_v2)),
        VoiceFiles("new", str(paths(setup).voice_v2), str(paths(setup).index_v2)),
    )
    kept = {request.name: loader.voice(request).synthesizer for request in (old, plain, old, new)}
    assert loader.voice(old).synthesizer is kept["old"]
    assert loader.voice(new).synthesizer is kept["new"]
    assert loader.voice(plain).synthesizer is not kept["plain"]


# ---- encoders


@pytest.fixture(scope="module")
def second_encoder(tmp_path_factory) -> str:
    """Another content encoder of the test weights' sizes."""
    folder = tmp_path_factory.mktemp("second") / "hubert"
    write_encoder(folder, ENCODER, torch.Generator().manual_seed(5))
    return str(folder)


def test_a_voice_has_the_encoder_that_it_names(setup, second_encoder):
    loader = Loader(setup, GEOMETRY)
    usual = loader.voice(VoiceFiles("usual", str(paths(setup).voice_v2)))
    own = loader.voice(VoiceFiles("own", str(paths(setup).voice_v2), encoder=second_encoder))
    assert usual.encoder is loader.encoder() and own.encoder is loader.encoder(second_encoder)
    assert own.encoder is not usual.encoder
    assert own.synthesizer is not usual.synthesizer, "the same file with another encoder is another voice"


def test_encoders_stay_in_memory_as_long_as_voices_that_use_them(setup, second_encoder):
    loader = Loader(replace(setup, keep_loaded=2), GEOMETRY)
    usual = VoiceFiles("usual", str(paths(setup).voice_v2))
    own = VoiceFiles("own", str(paths(setup).voice_v2), encoder=second_encoder)
    first = weakref.ref(loader.voice(usual).encoder)
    second = weakref.ref(loader.voice(own).encoder)
    assert loader.voice(usual).encoder is first() and loader.voice(own).encoder is second()
    for index in ("", str(paths(setup).index_v2)):  # two voices of the second encoder take the places
        loader.voice(replace(own, name="other", index=index))
    gc.collect()
    assert first() is None and second() is not None


def test_a_voice_of_another_encoder_comes_in_live_and_the_way_back_too(setup, second_encoder):
    loader = Loader(setup, GEOMETRY)
    usual = loader.voice(VoiceFiles("usual", str(paths(setup).voice_v2)))
    own = loader.voice(VoiceFiles("own", str(paths(setup).voice_v2), encoder=second_encoder))
    converter = loader.converter(usual, loader.pitch_method("yin"), Snapshot(gate=-90.0))
    random = np.random.default_rng(0)

    def play(blocks: int) -> np.ndarray:
        size = GEOMETRY.block_samples
        noise = (0.1 * random.standard_normal((blocks, size))).astype(np.float32)
        return np.concatenate([converter.process(block, converter.applied).audio for block in noise])

    play(30)
    for voice in (own, usual):
        converter.switch.begin(converter.new_stream(voice))
        while converter.switch.next_step() is not None:
            converter.switch.prepare()
        audio = play(6)
        assert converter.voice is voice
        levels = np.sqrt((audio.reshape(-1, 480) ** 2).mean(1))
        assert np.isfinite(audio).all() and levels.min() > 1e-4, "without a gap"


def test_what_is_known_to_be_wrong_is_said_without_loading_anything(setup):
    with pytest.raises(ModelFileError, match="needs the encoder 'spin'"):
        Loader(setup, GEOMETRY).voice(VoiceFiles("x", "/nowhere.pth", problem="/nowhere.pth: needs the encoder 'spin'"))


def test_a_damaged_denoiser_is_told_and_the_voice_goes_on_at_the_same_delay_or_is_refused(setup, tmp_path, monkeypatch):
    geometry = StreamGeometry.from_ms(
        rate_hz=48000, block_ms=60, lookahead_ms=100, deadline_ms=40, context_ms=1000, denoiser=True
    )
    whole, damaged = gtcrn.WEIGHTS.read_bytes(), tmp_path / "gtcrn.safetensors"
    files = VoiceFiles("buzz", str(paths(setup).voice_v2))
    for content in (None, whole[:-1000], b""):
        damaged.unlink(missing_ok=True)
        if content is not None:
            damaged.write_bytes(content)
        monkeypatch.setattr(gtcrn, "WEIGHTS", damaged)
        told: list[str] = []
        loader = Loader(setup, geometry, warn=told.append)
        converter = loader.converter(loader.voice(files), loader.pitch_method("yin"), Snapshot(denoise=1.0))
        assert len(told) == 1 and str(damaged) in told[0] and "install rvcd again" in told[0]
        assert converter.denoiser is not None and converter.denoiser.delay_samples == geometry.denoise_samples
        assert not converter.process(np.zeros(geometry.block_samples, np.float32), Snapshot(denoise=1.0)).audio.any()
        strict = Loader(setup, geometry)
        with pytest.raises(ModelFileError, match="install rvcd again"):
            strict.converter(strict.voice(files), strict.pitch_method("yin"), Snapshot())


def test_the_denoiser_is_there_only_where_the_geometry_has_its_delay(setup):
    loader = Loader(setup, GEOMETRY)
    voice = loader.voice(VoiceFiles("buzz", str(paths(setup).voice_v2)))
    assert loader.converter(voice, loader.pitch_method("yin"), Snapshot(denoise=1.0)).denoiser is None
