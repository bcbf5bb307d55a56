"""Voice files: what they are, with and without torch, and every way one can be unusable."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rvcd.errors import ModelFileError
from rvcd.formats.voice_file import read_voice, read_voice_spec
from tests.formats.hostile import LEGACY_VOICE, PARITY, ZIP_VOICE, voice_dict, write_shaped, write_voice

VOICES = sorted(path.stem for path in PARITY.glob("v[12]_*.pth"))


def refusal(path: Path) -> str:
    """Return the sentence that both readers refuse the file with."""
    messages = []
    for reader in (read_voice_spec, read_voice):
        with pytest.raises(ModelFileError) as caught:
            reader(path)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"{path}: ")
    assert "\n" not in messages[0]
    return messages[0]


@pytest.mark.parametrize("stem", VOICES)
def test_a_voice_is_described_by_its_shapes(stem: str) -> None:
    version, rate, f0 = stem.split("_")
    voice = read_voice(PARITY / f"{stem}.pth")
    spec = voice.spec
    assert spec == read_voice_spec(PARITY / f"{stem}.pth")
    assert (spec.name, spec.version, spec.rate_hz, spec.has_f0) == (stem, version, 1000 * int(rate[:-1]), f0 == "f0")
    assert spec.unit_width == {"v1": 256, "v2": 768}[version]
    assert spec.speakers == voice.weights["emb_g.weight"].shape[0] == len(spec.speaker_names)
    assert spec.epochs == "3epoch"
    assert spec.size_bytes == (PARITY / f"{stem}.pth").stat().st_size
    assert spec.config.hop_samples == spec.rate_hz // 100


def test_labels_that_contradict_the_shapes_are_not_believed(tmp_path: Path) -> None:
    spec = read_voice_spec(write_voice(tmp_path / "a.pth", version="v1", f0=0, sr="48k"))
    assert (spec.version, spec.has_f0, spec.rate_hz) == ("v2", True, 40000)


def test_absent_labels_have_defaults(tmp_path: Path) -> None:
    content = voice_dict()
    torch.save({"weight": content["weight"], "config": content["config"]}, tmp_path / "a.pth")
    spec = read_voice_spec(tmp_path / "a.pth")
    assert (spec.version, spec.epochs, spec.vocoder, spec.embedder) == ("v2", "", "HiFi-GAN", "contentvec")


def test_an_applio_voice_is_read_with_its_own_key_names(tmp_path: Path) -> None:
    def rename(weights: Any) -> None:
        for key in list(weights):
            value = weights.pop(key)
            for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
                key = key.replace(f".{old}", f".parametrizations.weight.{new}")
            weights[key] = value

    content = voice_dict(vocoder="HiFi-GAN", embedder_model="contentvec", speakers_id=4, epoch=300, info=None, author="someone")
    rename(content["weight"])
    torch.save(content, tmp_path / "a.pth")
    voice = read_voice(tmp_path / "a.pth")
    assert voice.weights.keys() == read_voice(ZIP_VOICE).weights.keys()
    assert voice.spec.epochs == "300epoch"


def test_the_training_half_is_left_out(tmp_path: Path) -> None:
    path = write_shaped(tmp_path / "a.pth", lambda weights: weights.update({"enc_q.pre.weight": torch.zeros(2, 2)}))
    assert "enc_q.pre.weight" not in read_voice(path).weights


def test_speakers_have_the_names_the_file_gives_them(tmp_path: Path) -> None:
    info = [{"id": 2, "name": "Ann\nof Green\x1b[31m Gables"}, {"id": 9, "name": "nobody"}, {"id": "x"}, "y"]
    spec = read_voice_spec(write_voice(tmp_path / "a.pth", speaker_info=info))
    assert spec.speaker_names[0] == spec.speaker_names[1] == spec.speaker_names[3] == ""
    assert spec.speaker_names[2] == "Ann of Green [31m Gables"


def test_units_of_another_width_are_legal(tmp_path: Path) -> None:
    def narrow(weights: Any) -> None:
        weights["enc_p.emb_phone.weight"] = weights["enc_p.emb_phone.weight"][:, :100].clone()

    spec = read_voice_spec(write_shaped(tmp_path / "a.pth", narrow))
    assert (spec.unit_width, spec.version) == (100, "v2")


def test_a_training_checkpoint_is_refused_with_the_fix(tmp_path: Path) -> None:
    content = {
        "model": voice_dict()["weight"],
        "iteration": 900,
        "optimizer": {"state": {0: torch.ones(2)}},
        "learning_rate": 1e-4,
    }
    torch.save(content, tmp_path / "G_2333.pth")
    message = refusal(tmp_path / "G_2333.pth")
    assert "is a training checkpoint" in message
    assert "export it" in message
    assert "small .pth" in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "is not an RVC voice: it holds a list"),
        ({"a": 1}, "is not an RVC voice: it has no 'weight' and 'config'"),
        ({"weight": 3, "config": []}, "is not an RVC voice"),
        ({"weight": {"a": 3}, "config": []}, "'a' in its weights is not a tensor"),
        ({"weight": {"a": torch.ones(2)}, "config": []}, "its weights have no usable emb_g.weight"),
        ({"weight": {"a": torch.ones(2, dtype=torch.int64)}, "config": []}, "holds whole numbers"),
        ({"unet.encoder.bn.weight": torch.ones(1)}, "is a shared network"),
        ({"args": None, "cfg": {}, "model": {}}, "is a fairseq content encoder"),
        ({"dec.conv_pre.weight": torch.ones(1)}, "without their 'config'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_is_no_voice_is_refused_by_what_it_is(tmp_path: Path, content: Any, said: str, legacy: bool) -> None:
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    assert said in refusal(tmp_path / "a.pth")


@pytest.mark.parametrize("vocoder", ["MRF HiFi-GAN", "RefineGAN", "BigVGAN", 3])
def test_a_foreign_vocoder_is_refused(tmp_path: Path, vocoder: Any) -> None:
    assert f"vocoder {str(vocoder)!r}; rvcd runs HiFi-GAN voices only" in refusal(
        write_voice(tmp_path / "a.pth", vocoder=vocoder)
    )


@pytest.mark.parametrize(
    "embedder", ["spin", "spin-v2", "chinese-hubert-base", "japanese-hubert-base", "korean-hubert-base", "custom"]
)
def test_a_foreign_content_encoder_is_refused(tmp_path: Path, embedder: str) -> None:
    message = refusal(write_voice(tmp_path / "a.pth", embedder_model=embedder))
    assert f"content encoder {embedder!r}; rvcd supports contentvec, hubert_base and rvcd-lite only" in message


@pytest.mark.parametrize("embedder", ["contentvec", "hubert_base", "hubert-base", "rvcd-lite", None])
def test_a_known_content_encoder_is_accepted(tmp_path: Path, embedder: str | None) -> None:
    assert read_voice_spec(write_voice(tmp_path / "a.pth", embedder_model=embedder)).embedder


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (None, 17, "its config has 17 values, not 18"),
        (2, 0, "has 0 as value 3"),
        (3, -16, "has -16 as value 4"),
        (4, 1 << 40, "not a whole number from 1 to"),
        (6, 10**9, "not a whole number from 1 to"),
        (5, True, "has True as value 6"),
        (5, 3, "attention heads"),
        (7, "3", "has '3' as value 8"),
        (8, "x", "has the dropout 'x'"),
        (9, "2", "residual blocks of kind '2'"),
        (10, [3, 7], "one list of dilations for each residual kernel"),
        (11, 5, "has no lists of dilations"),
        (12, [10, 10, 2], "3 upsampling rates but 4 upsampling kernels"),
        (12, [10, 10, 2, 4], "upsamples 800 times; a rate of 40000 Hz takes 400 times"),
        (12, [10**9] * 4, "not a whole number from 1 to 4096"),
        (12, [2] * 1000, "not a list of 1 to 16 whole numbers"),
        (14, [16, 16, 4, 1], "does not fit its rate"),
        (17, 0, "as its rate"),
        (17, "40kHz", "as its rate"),
        (13, 64, "its weights do not fit its config: of another size: dec.conv_pre.bias is 32, not 64"),
        (6, 4, "missing enc_p.encoder.attn_layers.3.emb_rel_k"),
        (6, 2, "unexpected enc_p.encoder.attn_layers.2.emb_rel_k"),
    ],
)  # fmt: skip
def test_a_config_that_cannot_work_is_refused_before_anything_is_built(
    tmp_path: Path, at: int | None, value: Any, said: str
) -> None:
    config = voice_dict()["config"]
    if at is None:
        config = config[:value]
    else:
        config[at] = value
    assert said in refusal(write_voice(tmp_path / "a.pth", config=config))


def _without(key: str) -> Callable[[Any], None]:
    return lambda weights: weights.pop(key)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    assert "missing flow.flows.2.post.bias" in refusal(write_shaped(tmp_path / "a.pth", _without("flow.flows.2.post.bias")))
    extra = write_shaped(tmp_path / "b.pth", lambda weights: weights.update({f"dec.extra.{i}": torch.ones(1) for i in range(5)}))
    assert "unexpected dec.extra.0, dec.extra.1, dec.extra.2 and 2 more" in refusal(extra)
    shaped = write_shaped(tmp_path / "c.pth", lambda weights: weights.update({"dec.conv_post.weight": torch.ones(1, 3, 7)}))
    assert "dec.conv_post.weight is 1x3x7, not 1x2x7" in refusal(shaped)


def test_weight_norm_that_was_folded_before_saving_is_accepted(tmp_path: Path) -> None:
    def fold(weights: Any) -> None:
        size, direction = weights.pop("dec.ups.0.weight_g"), weights.pop("dec.ups.0.weight_v")
        weights["dec.ups.0.weight"] = size * direction

    assert "dec.ups.0.weight" in read_voice(write_shaped(tmp_path / "a.pth", fold)).weights


def test_weights_with_nan_are_refused(tmp_path: Path) -> None:
    path = write_shaped(tmp_path / "a.pth", lambda weights: weights["dec.conv_pre.bias"].fill_(float("nan")))
    with pytest.raises(ModelFileError, match=r"'dec\.conv_pre\.bias' holds NaN or infinity"):
        read_voice(path)


@pytest.mark.parametrize("source", [LEGACY_VOICE, ZIP_VOICE], ids=["legacy", "zip"])
def test_every_truncated_or_flipped_voice_loads_or_is_refused_in_one_sentence(tmp_path: Path, source: Path) -> None:
    whole = source.read_bytes()
    chance = random.Random(7)
    # Descriptions lie at the start, the archive's directory at the end.
    where = [chance.randrange(48_000) for _ in range(60)] + [chance.randrange(len(whole) - 60_000, len(whole)) for _ in range(40)]
    path = tmp_path / "voice.pth"
    loaded = 0
    for i, at in enumerate(where):
        body = bytearray(whole)
        if i % 4 == 3:
            del body[at:]
        else:
            body[at] ^= 1 << chance.randrange(8)
        path.write_bytes(body)
        message = ""
        try:
            read_voice(path)
            loaded += 1
        except ModelFileError as error:
            message = str(error)
        assert "\n" not in message
    assert loaded < len(where)
