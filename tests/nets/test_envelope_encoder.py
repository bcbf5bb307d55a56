"""The content encoder of source-filter voices: its file, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rvcd.errors import ModelFileError
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.envelope_encoder_file import save_envelope_encoder
from rvcd.nets.spectral_envelope import BANDS
from tests.support import envelope_encoder


def test_a_file_that_is_written_is_read_again(tmp_path: Path) -> None:
    encoder = envelope_encoder()
    save_envelope_encoder(encoder, tmp_path / "encoder.safetensors")
    again = load_content_encoder(tmp_path / "encoder.safetensors")
    for key, value in encoder.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop("match.usual_mean"), "do not fit together"),
        (lambda t: t.update({"match.target_mean": torch.zeros(40)}), "do not fit together"),
        (lambda t: t.update({"match.more": torch.zeros(1)}), "do not fit together"),
        (lambda t: t.update({"match.target_variance": torch.zeros(BANDS)}), "not above 0"),
        (lambda t: t.update({"match.usual_level": torch.tensor(float("nan"))}), "NaN|finite"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_a_sentence(tmp_path: Path, change, sentence: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "encoder.safetensors"
    save_envelope_encoder(envelope_encoder(), path)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(ModelFileError, match=sentence) as caught:
        load_content_encoder(path)
    assert str(path) in str(caught.value)


def test_it_makes_units_of_one_width_and_no_layer() -> None:
    encoder = envelope_encoder()
    encoder.check_units(BANDS)
    with pytest.raises(ModelFileError, match="envelopes of 80 bands, but the voice takes units of width 768"):
        encoder.check_units(768)
    with pytest.raises(ModelFileError, match="layer 9"):
        encoder.check_units(BANDS, 9)


def test_a_step_without_a_pitch_is_a_mistake_of_the_program() -> None:
    encoder = envelope_encoder()
    with pytest.raises(ValueError, match="hears the pitch"):
        encoder.step(torch.zeros((1, 1, 1280)), encoder.start_units(BANDS, 0), 0)
