"""`rvcd voice index build` makes an index that the voice then uses, or leaves everything as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import faiss
import numpy as np
import pytest
import soundfile
import torch

from rvcd.config.settings import Settings, load_config
from rvcd.engine.loader import Loader
from rvcd.errors import AudioFileError, ModelFileError
from rvcd.formats.index_header import read_index_header
from rvcd.indexing import builder
from rvcd.indexing.builder import BuiltIndex, IndexRequest, build_index
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.test_weights import ensure_test_weights
from rvcd.voices.builtin_paths import BUILT_IN_FOLDER
from rvcd.voices.configured import model_setup, voice_files
from rvcd.voices.registry import VoiceRegistry
from rvcd.voices.test_weight_paths import TestWeightPaths
from tests.cli.conftest import Rvcd, rvcd
from tests.support import speech_like

__all__ = ["rvcd"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> TestWeightPaths:
    return ensure_test_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def config(weights: TestWeightPaths, tmp_path: Path) -> Path:
    (tmp_path / "voices" / "Anna").mkdir(parents=True)
    shutil.copy(weights.voice_v2, tmp_path / "voices" / "Anna" / "Anna.pth")
    path = tmp_path / "rvcd.toml"
    path.write_text(
        f"[models]\ncontent_encoder = '{weights.encoder}'\n[voices]\nfolders = ['{tmp_path / 'voices'}']\n[engine]\nthreads = 1\n"
    )
    return path


@pytest.fixture
def settings(config: Path) -> Settings:
    return load_config(config)


def recording(path: Path, seconds: float = 6.0, gain: float = 1.0, rate_hz: int = 22050) -> Path:
    soundfile.write(path, speech_like(rate_hz, seconds) * gain, rate_hz)
    return path


def build(settings: Settings, *files: Path, **options: object) -> BuiltIndex:
    voice = VoiceRegistry.scan(settings.voices.folders).find("Anna")
    return build_index(settings, IndexRequest(voice, list(files), **options), lambda stage, done: None)  # type: ignore[arg-type]


def test_a_voice_that_takes_envelopes_gets_no_index(settings: Settings, tmp_path: Path) -> None:
    shutil.copy(BUILT_IN_FOLDER / "built-in.pth", tmp_path / "voices" / "Anna" / "Anna.pth")
    with pytest.raises(ModelFileError, match=r"Anna\.pth: takes the spectral envelopes of rvcd's own encoder"):
        build(settings, recording(tmp_path / "a.wav"))


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_index_is_named_in_voice_toml_and_the_voice_is_loaded_with_it(settings: Settings, tmp_path: Path) -> None:
    made = build(settings, recording(tmp_path / "a.wav"))
    entry = VoiceRegistry.scan(settings.voices.folders).find("Anna")
    assert entry.index_path == made.header.path == entry.path.with_suffix(".index")
    assert 'index = "Anna.index"' in made.toml_path.read_text()
    voice = Loader(model_setup(settings), builder_geometry()).voice(voice_files(settings, entry))
    assert voice.index is not None and voice.index.vectors == made.header.vectors == made.units


def builder_geometry() -> object:
    from rvcd.geometry import StreamGeometry

    return StreamGeometry.from_ms(rate_hz=48000, block_ms=200, lookahead_ms=100, deadline_ms=100, context_ms=1000)


def test_the_vectors_are_the_encoders_units_of_the_recording_unpadded(
    settings: Settings, weights: TestWeightPaths, tmp_path: Path
) -> None:
    audio = np.random.default_rng(0).standard_normal(32000).astype(np.float32)
    audio *= np.float32(0.9) / np.abs(audio).max()  # loud all over and at its level already: a single piece
    soundfile.write(tmp_path / "a.wav", audio, 16000, subtype="FLOAT")
    index = faiss.read_index(str(build(settings, tmp_path / "a.wav").header.path))
    units = load_content_encoder(weights.encoder).units(torch.from_numpy(audio)[None], unit_width=64)[0].numpy()
    assert len(units) == (32000 - 400) // 320 + 1 == index.ntotal
    assert np.abs(index.reconstruct_n(0, index.ntotal) - units).max() < 1e-3


def test_the_level_and_the_order_of_blocks_of_a_recording_do_not_matter_but_silence_is_named(
    settings: Settings, tmp_path: Path
) -> None:
    recording(tmp_path / "quiet.flac", gain=0.05)
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    click = np.zeros(16000)
    click[8000:8100] = 0.5
    soundfile.write(tmp_path / "short.wav", click, 16000)
    (tmp_path / "text.wav").write_text("no audio")
    made = build(settings, *(tmp_path / f"{name}" for name in ("quiet.flac", "silent.wav", "short.wav", "text.wav", "none.wav")))
    told = "\n".join(made.heard.notes)
    assert made.heard.files == 1 and made.units > 100
    assert "silent.wav: is silent" in told and "short.wav: holds less than 0.1 s" in told
    assert "text.wav: not an audio file" in told and "none.wav: there is no such file" in told
    assert "s of sound are little" in told


def test_more_rows_than_the_bound_become_centres(settings: Settings, tmp_path: Path) -> None:
    made = build(settings, recording(tmp_path / "a.wav"), most_rows=200, centres=40)
    assert made.units > 200 and made.header.vectors == 40 and read_index_header(made.header.path).vectors == 40


def test_the_same_recordings_and_seed_give_the_same_bytes(settings: Settings, tmp_path: Path) -> None:
    file = recording(tmp_path / "a.wav")
    first = build(settings, file, most_rows=200, centres=40).header.path.read_bytes()
    assert build(settings, file, most_rows=200, centres=40, force=True).header.path.read_bytes() == first


def test_an_index_that_is_there_is_replaced_only_when_asked(settings: Settings, tmp_path: Path) -> None:
    file = recording(tmp_path / "a.wav")
    before = build(settings, file).header.vectors
    with pytest.raises(ModelFileError, match=r"Anna\.index: Anna has an index already; --force"):
        build(settings, file)
    assert build(settings, recording(tmp_path / "b.wav", 3.0), force=True).header.vectors < before


def test_recordings_without_sound_are_refused_and_nothing_is_written(settings: Settings, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    folder = tmp_path / "voices" / "Anna"
    before = everything(folder)
    with pytest.raises(AudioFileError, match=r"no sound to make an index of: .*silent\.wav: is silent"):
        build(settings, tmp_path / "silent.wav")
    assert everything(folder) == before


@pytest.mark.parametrize("where", ["make_index", "write_index", "read_fitting_index_header"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_whatever_interrupts_it_leaves_the_old_index_and_nothing_half_written(
    where: str, error: BaseException, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(settings, recording(tmp_path / "a.wav"))
    folder = tmp_path / "voices" / "Anna"
    before = everything(folder)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(builder, where, fail)
    with pytest.raises((KeyboardInterrupt, OSError, ModelFileError)):
        build(settings, recording(tmp_path / "b.wav", 3.0), force=True)
    assert everything(folder) == before


def test_what_a_killed_build_left_is_removed_by_the_next(settings: Settings, tmp_path: Path) -> None:
    left = tmp_path / "voices" / "Anna" / "Anna.index.part-999999999"
    left.write_bytes(b"half")
    build(settings, recording(tmp_path / "a.wav"))
    assert not left.exists()


def test_the_command_says_what_was_made_and_what_to_type_next(rvcd: Rvcd, config: Path, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    code, out, err = rvcd("voice", "index", "build", "Anna", tmp_path / "a.wav", tmp_path / "none.wav", "--config", config)
    assert code == 0 and "none.wav: does not exist" in err and "listening" in err
    assert "Anna.index: " in out and "vectors of width 64" in out and "rvcctl voice rescan && rvcctl voice Anna" in out
    code, _, err = rvcd("voice", "index", "build", "Anna", tmp_path / "a.wav", "--config", config)
    assert code == 1 and "--force builds another one" in err


def test_the_command_refuses_the_built_in_voice_and_a_folder_without_audio(rvcd: Rvcd, config: Path, tmp_path: Path) -> None:
    recording(tmp_path / "a.wav")
    code, _, err = rvcd("voice", "index", "build", "built-in", tmp_path / "a.wav", "--config", config)
    assert code == 1 and "takes no other" in err
    (tmp_path / "empty").mkdir()
    code, _, err = rvcd("voice", "index", "build", "Anna", tmp_path / "empty", "--config", config)
    assert code == 1 and "holds no audio file" in err and "there is no recording" in err
