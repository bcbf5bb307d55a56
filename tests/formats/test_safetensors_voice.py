"""Voices as safetensors with a voice's config in the metadata, and every way such a file can be unusable."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from rvcd.errors import ModelFileError
from rvcd.formats.safetensors_header import read_header, read_voice_outline
from rvcd.formats.voice_file import read_voice, read_voice_spec
from tests.formats.hostile import voice_dict


def write(path: Path, *, prefix: str = "", **changes: Any) -> Path:
    """Write a voice; a change to None leaves a piece of the metadata out."""
    content = voice_dict()
    tensors = {f"{prefix}{key}": value.contiguous() for key, value in content.pop("weight").items()}
    metadata = {**content, **changes}
    save_file(tensors, path, {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items() if v is not None})
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        read_voice(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("prefix", ["", "weight."])
def test_it_is_the_same_voice_as_the_pth(tmp_path: Path, prefix: str) -> None:
    torch.save(voice_dict(), tmp_path / "a.pth")
    expected, found = read_voice(tmp_path / "a.pth"), read_voice(write(tmp_path / "a.safetensors", prefix=prefix))
    assert found.spec.config == expected.spec.config
    assert (found.spec.version, found.spec.epochs) == (expected.spec.version, expected.spec.epochs)
    assert found.spec == read_voice_spec(tmp_path / "a.safetensors")
    assert found.weights.keys() == expected.weights.keys()
    assert all(torch.equal(found.weights[key], value) for key, value in expected.weights.items())


def test_the_metadata_of_a_maker_is_respected(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", speaker_info={"0": "Anna"}, embedder_model="contentvec", vocoder="HiFi-GAN")
    assert read_voice_spec(path).speaker_names[0] == "Anna"
    assert read_voice_spec(write(tmp_path / "b.safetensors", embedder_model="spin")).embedder == "spin"


def test_one_without_a_config_says_what_to_use(tmp_path: Path) -> None:
    said = refusal(write(tmp_path / "a.safetensors", config=None))
    assert "without a voice's 'config' in its metadata; use the .pth that it was made from" in said


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    assert "is not a whole safetensors file; download or copy it again" in refusal(path)


def test_another_model_is_no_voice(tmp_path: Path) -> None:
    save_file({"encoder.layer_norm.weight": torch.ones(4)}, tmp_path / "a.safetensors", {"config": "[1, 2]"})
    assert "is not an RVC voice" in refusal(tmp_path / "a.safetensors")


JSON = st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3) | st.dictionaries(
    st.sampled_from(["dtype", "shape", "data_offsets", "x"]), x, max_size=3), max_leaves=8)  # fmt: skip


@given(header=st.dictionaries(st.text(max_size=6) | st.just("__metadata__"), JSON, max_size=4), data=st.binary(max_size=20))
def test_any_header_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, header: Any, data: bytes) -> None:
    path = tmp_path_factory.mktemp("st") / "a.safetensors"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    for read in (read_header, read_voice_outline, read_voice_spec, read_voice):
        with contextlib.suppress(ModelFileError):
            read(path)


@given(data=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("st") / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelFileError):
        read_voice(path)
