"""Voice files: what they are, with and without torch, and every way one can be unusable."""

from __future__ import annotations

import datetime
import os
import random
import tempfile
import uuid
from collections import Counter, deque
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rvcd.errors import ModelFileError
from rvcd.formats.checkpoint import load_tensors
from rvcd.formats.voice_file import read_voice, read_voice_spec
from rvcd.formats.voice_header import plain_name
from tests.formats.hostile import LEGACY_VOICE, PARITY, ZIP_VOICE, Calls, voice_dict, write_shaped, write_voice

APPLIO = Path(__file__).parents[1] / "data" / "parity_applio"
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
    assert (spec.version, spec.epochs, spec.vocoder, spec.embedder) == ("v2", "", "HiFi-GAN", "")


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


@pytest.mark.parametrize(
    "info",
    [
        {"0": "Anna", "3": "Bert"}, {0: "Anna", 3: "Bert"}, {"Anna": 0, "Bert": 3},
        {"0": {"name": "Anna"}, "3": {"name": "Bert"}},
        ["Anna", "", "", "Bert"], [{"id": "0", "name": "Anna"}, {"id": 3, "name": "Bert"}],
        {"0": "Anna", "3": "Bert", "4": "nobody", "-1": "nobody", "x": "nobody", "9" * 5000: "nobody", "1": 99, "2": None},
    ],
)  # fmt: skip
def test_speakers_have_their_names_however_a_trainer_writes_them_down(tmp_path: Path, info: Any) -> None:
    spec = read_voice_spec(write_voice(tmp_path / "a.pth", speaker_info=info))
    assert spec.speaker_names == ("Anna", "", "", "Bert")


def nineteen(width: Any = 768) -> list[Any]:
    config = list(voice_dict()["config"])
    return [*config[:17], width, config[17]]


def test_a_config_of_19_values_is_that_of_18_with_the_unit_width_in_between(tmp_path: Path) -> None:
    path = write_voice(
        tmp_path / "a.pth", config=nineteen(), speaker_info={"0": "Anna"}, embedder_name="contentvec768", embedder_output_layer=12
    )
    spec = read_voice(path).spec
    assert spec.config == read_voice_spec(ZIP_VOICE).config
    assert (spec.embedder, spec.speaker_names[0]) == ("contentvec768", "Anna")


@pytest.mark.parametrize("width", [256, "768k", None, [], 40000])
def test_19_values_that_are_something_else_are_refused(tmp_path: Path, width: Any) -> None:
    assert "but its weights take units of width 768" in refusal(write_voice(tmp_path / "a.pth", config=nineteen(width)))


@pytest.mark.parametrize(
    ("layer", "width", "taken"),
    [(None, 768, 0), (12, 768, 0), ("12", 768, 0), (9, 768, 9), ("9", 768, 9), (9, 256, 0), (12, 256, 12), (64, 768, 64)],
)
def test_a_fork_s_content_encoder_and_its_layer_are_told(tmp_path: Path, layer: Any, width: int, taken: int) -> None:
    content = voice_dict(embedder_name="hubert_base768", embedder_output_layer=layer)
    if width == 256:
        content = {
            **torch.load(PARITY / "v1_40k_f0.pth", weights_only=True),
            "embedder_name": "hubert_base768",
            "embedder_output_layer": layer,
        }
    torch.save(content, tmp_path / "a.pth")
    spec = read_voice_spec(tmp_path / "a.pth")
    assert (spec.embedder, spec.unit_layer, spec.unit_width) == ("hubert_base768", taken, width)


@pytest.mark.parametrize("layer", [0, -1, 65, "nine", 9.0, [9], True])
def test_a_layer_that_is_none_is_refused(tmp_path: Path, layer: Any) -> None:
    said = refusal(write_voice(tmp_path / "a.pth", embedder_output_layer=layer))
    assert "of its content encoder, which is none of 1..64" in said


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_a_voice_of_any_pickle_protocol_is_described_and_loaded_alike(tmp_path: Path, protocol: int, legacy: bool) -> None:
    content, path = voice_dict(), tmp_path / "a.pth"
    if protocol > 2:
        content["trainer"] = {"a": {1, 2}, "b": frozenset((1,)), "c": bytearray(b"x"), "d": b"xyz", "e": 1 << 70}
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    usual = read_voice(ZIP_VOICE)
    voice = read_voice(path)
    assert voice.spec.config == usual.spec.config == read_voice_spec(path).config
    assert list(voice.weights) == list(usual.weights)
    assert all(torch.equal(voice.weights[key], value) for key, value in usual.weights.items())


HARMLESS: dict[str, Any] = {
    "numpy.dtype": np.float64(0.25), "datetime.timedelta": datetime.timedelta(seconds=3),
    "datetime.datetime": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
    "pathlib.PosixPath": Path("/home/somebody/logs"), "numpy.ndarray": np.arange(3), "collections.deque": deque([1, 2]),
    "collections.Counter": Counter("aab"), "decimal.Decimal": Decimal("0.1"), "types.SimpleNamespace": SimpleNamespace(epochs=3),
    "builtins.set": {1, 2}, "uuid.UUID": uuid.UUID(int=7), "numpy.float32": np.float32,
}  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_objects_beside_the_weights_are_named_and_the_voice_loads_without_them(
    tmp_path: Path, name: str, protocol: int
) -> None:
    path = tmp_path / "a.pth"
    torch.save(voice_dict(extra={"deep": [HARMLESS[name], "text"]}), path, pickle_protocol=protocol)
    voice = read_voice(path)
    assert voice.spec.note == read_voice_spec(path).note
    assert (
        voice.spec.note.startswith(f"{path}: holds Python objects beside its tensors (") and "are not needed" in voice.spec.note
    )
    assert name.replace("pathlib.", "") in voice.spec.note
    usual = read_voice(ZIP_VOICE).weights
    assert all(torch.equal(voice.weights[key], value) for key, value in usual.items()) and list(usual) == list(voice.weights)
    assert read_voice_spec(ZIP_VOICE).note == ""


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint16, ">i4"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_sizes_that_are_numpy_s_numbers_are_read_as_numbers(tmp_path: Path, kind: Any, protocol: int) -> None:
    config = [np.dtype(kind).type(value) if type(value) is int and value else value for value in voice_dict()["config"]]
    if kind == ">i4":
        config = [np.array([v], kind)[0] if isinstance(v, np.integer) else v for v in config]
    torch.save(voice_dict(config=config), tmp_path / "a.pth", pickle_protocol=protocol)
    assert read_voice(tmp_path / "a.pth").spec.config == read_voice_spec(ZIP_VOICE).config


def test_a_harmless_object_among_the_weights_or_sizes_is_no_tensor_and_no_number(tmp_path: Path) -> None:
    path = write_shaped(tmp_path / "a.pth", lambda weights: weights.update({"dec.x": Path("x")}))
    assert "'dec.x' in its weights is not a tensor" in refusal(path)
    config = [Path("x"), *voice_dict()["config"][1:]]
    assert "as value 1" in refusal(write_voice(tmp_path / "b.pth", config=config))


PLAIN = (
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=300) | st.binary(max_size=300)
)
HASHABLE = st.integers(0, 9) | st.text(max_size=3)
ODD = st.sampled_from(list(HARMLESS.values())) | st.sets(HASHABLE, max_size=3) | st.frozensets(HASHABLE, max_size=3)


@given(
    extra=st.recursive(
        PLAIN | ODD,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HASHABLE, inner, max_size=4) | st.tuples(inner, inner),
        max_leaves=12,
    ),
    protocol=st.sampled_from([2, 3, 4, 5]),
    legacy=st.booleans(),
)
def test_tensors_beside_anything_harmless_come_back_as_they_were_saved(extra: Any, protocol: int, legacy: bool) -> None:
    base = torch.arange(24, dtype=torch.float32)
    saved = {"a": base.view(4, 6).T, "b": base[5:9], "c": torch.zeros(0), "d": base.half(), "e": torch.tensor(3)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pt"
        content = {"extra": extra, "model": saved}
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
        loaded = load_tensors(path, "model")
    assert list(loaded) == list(saved)
    assert all(torch.equal(loaded[key], value) and loaded[key].dtype == value.dtype for key, value in saved.items())


def test_a_call_hidden_in_harmless_objects_is_refused_and_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for holder in (SimpleNamespace(x=Calls(os.system, f"touch {marker}")), deque([Calls(os.system, f"touch {marker}")])):
        for protocol in (2, 4):
            torch.save(voice_dict(extra=holder), tmp_path / "a.pth", pickle_protocol=protocol)
            assert f"would run code: {os.system.__module__}.system" in refusal(tmp_path / "a.pth")
    assert not marker.exists()


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
        ({"model": {"emb_uv.weight": torch.ones(1)}, "iteration": 1, "optimizer": {}}, "is a so-vits-svc model"),
        ({"model": {"dec.x": torch.ones(1)}, "iteration": 0, "optimizer": None, "learning_rate": 0}, "as so-vits-svc publishes"),
        ({"model": {"unit2ctrl.x": torch.ones(1)}, "global_step": 1}, "is a DDSP-SVC model"),
        ({"model": {"enc_p.emb.weight": torch.ones(1)}, "iteration": 1, "optimizer": {}}, "is a VITS model, which speaks text"),
        ({"weight": {"enc_p.text_embedding.weight": torch.ones(1)}, "config": {}}, "is a GPT-SoVITS voice"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_is_no_voice_is_refused_by_what_it_is(tmp_path: Path, content: Any, said: str, legacy: bool) -> None:
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    assert said in refusal(tmp_path / "a.pth")


@pytest.mark.parametrize("vocoder", ["BigVGAN", "RefineGAN 2", 3])
def test_a_foreign_vocoder_is_refused(tmp_path: Path, vocoder: Any) -> None:
    assert f"vocoder {str(vocoder)!r}; rvcd runs HiFi-GAN, MRF HiFi-GAN and RefineGAN only" in refusal(
        write_voice(tmp_path / "a.pth", vocoder=vocoder)
    )


@pytest.mark.parametrize("vocoder", ["MRF HiFi-GAN", "RefineGAN", "hifi_gan"])
def test_the_tensors_are_trusted_over_a_known_label(tmp_path: Path, vocoder: str) -> None:
    assert read_voice_spec(write_voice(tmp_path / "a.pth", vocoder=vocoder)).vocoder == "HiFi-GAN"


@pytest.mark.parametrize("key", ["dec.source_conv.weight", "dec.filters.0.weight"])
def test_a_refinegan_that_was_never_released_is_refused_by_name(tmp_path: Path, key: str) -> None:
    content = voice_dict(vocoder="RefineGAN")
    content["weight"][key] = torch.ones(1)
    torch.save(content, tmp_path / "a.pth")
    assert f"never released (it has {key})" in refusal(tmp_path / "a.pth")


@pytest.mark.parametrize("stem", ["mrf_32k", "refinegan_48k", "refinegan329_32k"])
@pytest.mark.parametrize("lost", ["dec.m_source.", "dec.cond.weight", "dec.conv_post."])
def test_a_voice_of_another_vocoder_that_lacks_a_tensor_is_refused(tmp_path: Path, stem: str, lost: str) -> None:
    content = torch.load(APPLIO / f"{stem}.pth", weights_only=True)
    content["weight"] = {key: value for key, value in content["weight"].items() if not key.startswith(lost)}
    torch.save(content, tmp_path / "a.pth")
    assert f"missing {lost}" in refusal(tmp_path / "a.pth")


@pytest.mark.parametrize("embedder", ["contentvec", "hubert_base", "spin-v2", "japanese-hubert-base", "custom", "", None])
def test_the_content_encoder_is_told_as_the_trainer_calls_it(tmp_path: Path, embedder: str | None) -> None:
    assert read_voice_spec(write_voice(tmp_path / "a.pth", embedder_model=embedder)).embedder == (embedder or "")
    assert plain_name("Hubert-Base_768") == plain_name("hubert_base") == "hubertbase"


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (None, 17, "its config has 17 values, not 18 or 19"),
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


@pytest.mark.parametrize("kind", ["legacy", "zip", "protocol 5", "legacy protocol 4"])
def test_every_truncated_or_flipped_voice_loads_or_is_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    source = {"legacy": LEGACY_VOICE, "zip": ZIP_VOICE}.get(kind, tmp_path / "source.pth")
    if not source.exists():
        content = voice_dict(extra=list(HARMLESS.values()))
        torch.save(content, source, pickle_protocol=int(kind[-1]), _use_new_zipfile_serialization="legacy" not in kind)
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
