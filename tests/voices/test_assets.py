"""Recognising model files, and the sound that stands in for a microphone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from rvcd.errors import ParamError
from rvcd.formats.contentvec_header import weights_of
from rvcd.voices import assets
from rvcd.voices.assets import ASSETS, PUBLISHED, Match, PublishedFile, assets_named, examine

CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "hubert.pt"
    path.write_bytes(CONTENT)
    return str(path)


def test_the_published_files_have_plausible_checksums() -> None:
    for file in (*PUBLISHED, *(file for asset in ASSETS for file in asset.files)):
        assert file.sha256 == "" or (len(file.sha256) == 64 and set(file.sha256) <= set("0123456789abcdef"))
    for file in (*PUBLISHED, *(asset.weights for asset in ASSETS)):
        assert file.size_bytes > 100_000_000
    assert all(asset.weights.sha256 and len(asset.revision) == 40 for asset in ASSETS)


def test_what_is_fetched_for_models_is_recognised_as_published() -> None:
    for asset in ASSETS:
        if not asset.key.startswith("encoders."):
            assert [f.sha256 for f in PUBLISHED if f.key == asset.key and f.sha256 == asset.weights.sha256]


def test_assets_are_asked_for_by_name_once_each_in_the_tables_order() -> None:
    assert [a.name for a in assets_named(["rmvpe", "content-encoder", "rmvpe"])] == ["content-encoder", "rmvpe"]
    assert tuple(assets_named(["all", "rmvpe"])) == ASSETS
    with pytest.raises(ParamError, match="'rmpve' is nothing that can be fetched; did you mean rmvpe"):
        assets_named(["rmpve"])


def test_nothing_configured_means_the_built_in_weights() -> None:
    assert examine("rmvpe", "").match is Match.BUILT_IN


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    status = examine("rmvpe", str(tmp_path / "no.pt"))
    assert (status.match, status.usable) == (Match.MISSING, False)


def test_a_published_file_is_verified_by_its_checksum(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    published = PublishedFile("content_encoder", "hubert", len(CONTENT), SHA256, "")
    monkeypatch.setattr(assets, "PUBLISHED", (published,))
    status = examine("content_encoder", file)
    assert (status.match, status.published, status.sha256) == (Match.VERIFIED, published, SHA256)
    assert examine("rmvpe", file).match is Match.UNKNOWN


def test_a_file_known_by_its_size_alone_is_not_called_verified(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "PUBLISHED", (PublishedFile("content_encoder", "hubert", len(CONTENT), "", ""),))
    assert examine("content_encoder", file).match is Match.SIZE_ONLY


def test_an_expected_checksum_decides(file: str) -> None:
    assert examine("rmvpe", file, SHA256).match is Match.VERIFIED
    status = examine("rmvpe", file, "0" * 64)
    assert (status.match, status.usable) == (Match.MISMATCH, False)


def test_an_unpublished_file_is_used_all_the_same(file: str) -> None:
    status = examine("content_encoder", file)
    assert (status.match, status.usable, status.size_bytes) == (Match.UNKNOWN, True, len(CONTENT))


def test_a_transformers_folder_stands_for_its_weight_file(tmp_path: Path) -> None:
    assert weights_of(tmp_path).name == "pytorch_model.bin"
    (tmp_path / "model.safetensors").touch()
    assert weights_of(tmp_path) == tmp_path / "model.safetensors"


def test_the_demo_speech_is_half_a_minute_of_small_16_khz_mono() -> None:
    import soundfile

    path = Path(assets.__file__).parents[1] / "data" / "demo_speech.flac"
    info = soundfile.info(path)
    assert (info.samplerate, info.channels) == (16_000, 1)
    assert 15 <= info.duration <= 30
    assert path.stat().st_size < 400_000
    samples, _ = soundfile.read(path)
    assert 0.3 < abs(samples).max() <= 0.5
    assert not samples[-16_000 // 2 :].any(), "a pause stands before the loop begins again"
