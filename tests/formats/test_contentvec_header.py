"""The widths of an encoder's units are told without loading it, and are those of the loaded one."""

from __future__ import annotations

from pathlib import Path

import pytest

from rvcd.errors import ModelFileError
from rvcd.formats.contentvec_header import FINAL_LAYER, check_units, read_unit_widths
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.test_weights import ensure_test_weights
from rvcd.voices.builtin_paths import BUILT_IN_ENCODER

PARITY = Path(__file__).parent.parent / "data" / "parity"


@pytest.mark.parametrize("name", ["hubert_tiny", "hubert_tiny/pytorch_model.bin", "hubert_tiny_fairseq.pt", "safetensors"])
def test_the_header_s_widths_are_those_of_the_loaded_encoder(tmp_path: Path, name: str) -> None:
    path = ensure_test_weights(tmp_path).encoder if name == "safetensors" else PARITY / name
    widths = read_unit_widths(path)
    assert widths == load_content_encoder(path).unit_widths
    assert len(widths) == 2


def test_the_layer_of_v1_is_the_one_that_the_encoder_takes() -> None:
    from rvcd.nets.contentvec import V1_LAYER

    assert FINAL_LAYER == V1_LAYER


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x08" + b"\0" * 7 + b"[1, 2 ]", b"\x02" + b"\0" * 7 + b"{}"])
def test_what_is_no_encoder_is_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    for wrong in (path, tmp_path, PARITY / "v2_40k_f0.pth", PARITY / "rmvpe_tiny.pt", tmp_path / "none.pt"):
        with pytest.raises(ModelFileError) as caught:
            read_unit_widths(wrong)
        assert str(wrong) in str(caught.value) and "\n" not in str(caught.value)


def test_what_an_encoder_cannot_make_is_told_by_its_header() -> None:
    path = PARITY / "hubert_tiny_fairseq.pt"
    for width, layer in ((48, 0), (16, 0), (48, 9), (16, 12)):
        check_units(path, width, layer)
    with pytest.raises(ModelFileError, match="makes units of width 48 or 16, but the voice takes width 768"):
        check_units(path, 768)
    with pytest.raises(ModelFileError, match="has no layer 13, whose units the voice takes"):
        check_units(path, 48, 13)
    check_units(BUILT_IN_ENCODER, 80)
    with pytest.raises(ModelFileError, match="has no layer 9"):
        check_units(BUILT_IN_ENCODER, 80, 9)
