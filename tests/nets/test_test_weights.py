from __future__ import annotations

import hashlib

import faiss
import pytest
from safetensors import SafetensorError

from rvcd.engine.retrieval import read_index
from rvcd.errors import ModelFileError
from rvcd.formats.voice_header import read_voice_spec
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.test_weights import ensure_test_weights
from rvcd.voices.test_weight_paths import UNIT_WIDTH_V1, UNIT_WIDTH_V2, TestWeightPaths


def digest(paths: TestWeightPaths) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths.files() if path.suffix != ".pth"}


def test_they_are_files_of_the_real_formats(tmp_path):
    paths = ensure_test_weights(tmp_path)
    v2, v1 = read_voice_spec(paths.voice_v2), read_voice_spec(paths.voice_v1)
    assert (v2.rate_hz, v2.unit_width, v2.has_f0) == (40000, UNIT_WIDTH_V2, True)
    assert (v1.rate_hz, v1.unit_width, v1.has_f0) == (48000, UNIT_WIDTH_V1, True)
    assert set(load_content_encoder(paths.encoder).unit_widths) == {UNIT_WIDTH_V2, UNIT_WIDTH_V1}
    assert read_index(paths.index_v2, UNIT_WIDTH_V2).vectors == faiss.read_index(str(paths.index_v2)).ntotal


def test_they_are_the_same_every_time_and_written_once(tmp_path):
    first, second = ensure_test_weights(tmp_path / "a"), ensure_test_weights(tmp_path / "b")
    assert digest(first) == digest(second)
    before = first.voice_v2.stat().st_mtime_ns
    assert ensure_test_weights(tmp_path / "a").voice_v2.stat().st_mtime_ns == before


def test_a_set_that_is_not_whole_is_written_again(tmp_path):
    paths = ensure_test_weights(tmp_path)
    paths.voice_v1.unlink()
    assert ensure_test_weights(tmp_path).voice_v1.exists()
    assert [p.name for p in tmp_path.iterdir()] == [paths.folder.name]


def test_a_cache_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelFileError, match=r"test weights cannot be written there \(Not a directory\).*XDG_CACHE_HOME"):
        ensure_test_weights(tmp_path / "file" / "rvcd")


def test_a_full_disk_while_they_are_written_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(ModelFileError, match="No space left on device"):
        ensure_test_weights(tmp_path)
    assert list(tmp_path.iterdir()) == []
