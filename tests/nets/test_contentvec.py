"""The content encoder equals upstream's on both file layouts, and refuses what it cannot run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rvcd.errors import ModelFileError
from rvcd.formats.checkpoint import load_tensors
from rvcd.nets.contentvec import ContentEncoder
from rvcd.nets.contentvec_file import load_content_encoder
from tests.formats.hostile import PARITY

FAIRSEQ, FOLDER = PARITY / "hubert_tiny_fairseq.pt", PARITY / "hubert_tiny"
VECTORS = dict(np.load(PARITY / "hubert_tiny.npz"))
AUDIO = torch.from_numpy(VECTORS["audio16k"])[None]


def as_safetensors(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], None] = lambda tensors: None, **settings: Any
) -> Path:
    """Write the Transformers folder with model.safetensors; settings go into config.json, do_normalize beside it."""
    tensors = load_tensors(FOLDER / "pytorch_model.bin")
    change(tensors)
    folder.mkdir(exist_ok=True)
    save_file({key: value.contiguous() for key, value in tensors.items()}, str(folder / "model.safetensors"))
    config = json.loads((FOLDER / "config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": settings.pop("do_normalize", False)}))
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    return folder


def test_units_of_another_layer_are_what_upstream_has_there() -> None:
    encoder = load_content_encoder(FAIRSEQ)
    hidden = encoder.units(AUDIO, unit_width=48, layer=9)
    assert np.abs(hidden[0].numpy() - VECTORS["hidden9"]).max() < 1e-4
    assert torch.equal(encoder.units(AUDIO, unit_width=16, layer=9), encoder.units(AUDIO, unit_width=16))
    assert torch.equal(encoder.units(AUDIO, unit_width=48, layer=12), encoder.units(AUDIO, unit_width=48))
    last = encoder.units(AUDIO, unit_width=16, layer=12)
    assert last.shape == (1, 49, 16) and not torch.allclose(last, encoder.units(AUDIO, unit_width=16))
    with pytest.raises(ModelFileError, match="has 12 layers, but the voice takes units of layer 13"):
        encoder.check_units(48, 13)


def parametrized(tensors: dict[str, torch.Tensor]) -> None:
    stem = "encoder.pos_conv_embed.conv"
    tensors[f"{stem}.parametrizations.weight.original0"] = tensors.pop(f"{stem}.weight_g")
    tensors[f"{stem}.parametrizations.weight.original1"] = tensors.pop(f"{stem}.weight_v")


def assert_equals_upstream(encoder: ContentEncoder) -> None:
    features = encoder.front_end(AUDIO)
    assert features.shape == (1, 49, encoder.sizes.conv_channels[-1])
    for found, name in (
        (encoder.units(AUDIO, unit_width=16), "v1"),
        (encoder.units(AUDIO, unit_width=48), "v2"),
        (encoder.encode(features, 9), "hidden9"),
    ):
        assert np.abs(found[0].numpy() - VECTORS[name]).max() < 1e-4


@pytest.mark.parametrize("path", [FAIRSEQ, FOLDER, FOLDER / "pytorch_model.bin"], ids=["fairseq", "folder", "file in folder"])
def test_units_equal_upstreams_in_every_layout(path: Path) -> None:
    assert_equals_upstream(load_content_encoder(path))


def test_units_equal_upstreams_from_safetensors_with_parametrized_weight_norm(tmp_path: Path) -> None:
    assert_equals_upstream(load_content_encoder(as_safetensors(tmp_path / "a", parametrized)))
    assert_equals_upstream(load_content_encoder(tmp_path / "a" / "model.safetensors"))


def test_sizes_are_read_from_the_file() -> None:
    encoder = load_content_encoder(FAIRSEQ)
    sizes = encoder.sizes
    assert (sizes.width, sizes.layers, sizes.heads, sizes.inner_width, sizes.final_width) == (48, 12, 4, 96, 16)
    assert (sizes.position_kernel, sizes.position_groups, sizes.conv_norm) == (128, 16, "group")
    assert encoder.unit_widths == (48, 16)
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("samples", [400, 719, 720, 1040, 5000])
def test_there_is_a_unit_every_320_samples_from_the_first_400(samples: int) -> None:
    encoder = load_content_encoder(FAIRSEQ)
    audio = AUDIO[:, :samples].repeat(2, 1)
    assert encoder.units(audio, unit_width=48).shape == (2, (samples - 400) // 320 + 1, 48)


def test_audio_shorter_than_a_unit_is_an_error() -> None:
    with pytest.raises(ValueError, match="399 samples are fewer"):
        load_content_encoder(FAIRSEQ).front_end(torch.zeros(1, 399))


def test_a_width_the_encoder_does_not_offer_is_refused_with_those_it_does() -> None:
    with pytest.raises(ModelFileError, match="makes units of width 48 or 16, but the voice takes width 768"):
        load_content_encoder(FOLDER).units(AUDIO, unit_width=768)


def test_audio_is_normalized_only_if_the_preprocessor_says_so(tmp_path: Path) -> None:
    plain, normalizing = load_content_encoder(FOLDER), load_content_encoder(as_safetensors(tmp_path / "a", do_normalize=True))
    scaled = (AUDIO - AUDIO.mean()) / torch.sqrt(AUDIO.var(unbiased=False) + 1e-7)
    torch.testing.assert_close(normalizing.units(AUDIO, unit_width=48), plain.units(scaled, unit_width=48), atol=1e-5, rtol=0)
    quiet = normalizing.units(0.01 * AUDIO, unit_width=48)
    torch.testing.assert_close(quiet, normalizing.units(AUDIO, unit_width=48), atol=2e-2, rtol=0)


def test_an_encoder_without_final_projection_or_with_few_layers_offers_its_own_width_only(tmp_path: Path) -> None:
    def drop_final(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["final_proj.weight"], tensors["final_proj.bias"]

    def keep_four_layers(tensors: dict[str, torch.Tensor]) -> None:
        for key in [key for key in tensors if key.startswith("encoder.layers.") and int(key.split(".")[2]) >= 4]:
            del tensors[key]

    assert load_content_encoder(as_safetensors(tmp_path / "a", drop_final)).unit_widths == (48,)
    short = load_content_encoder(as_safetensors(tmp_path / "b", keep_four_layers))
    assert short.unit_widths == (48,)
    whole = load_content_encoder(FOLDER)
    features = whole.front_end(AUDIO)
    torch.testing.assert_close(short.units(AUDIO, unit_width=48), whole.encode(features, 4))


def test_an_encoder_normed_in_every_convolution_loads(tmp_path: Path) -> None:
    def norm_every_layer(tensors: dict[str, torch.Tensor]) -> None:
        for i in range(7):
            stem = f"feature_extractor.conv_layers.{i}"
            tensors[f"{stem}.layer_norm.weight"], tensors[f"{stem}.layer_norm.bias"] = torch.ones(32), torch.zeros(32)
            tensors[f"{stem}.conv.bias"] = torch.zeros(32)

    encoder = load_content_encoder(as_safetensors(tmp_path / "a", norm_every_layer, feat_extract_norm="layer"))
    assert encoder.sizes.conv_norm == "layer"
    assert encoder.units(AUDIO, unit_width=48).shape == (1, 49, 48)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"conv_stride": [5, 2, 2, 2, 2, 2, 1]}, "RVC takes 400 every 320"),
        ({"conv_stride": [5, 2]}, "has 7 convolutions, for which no strides are known"),
        ({"conv_stride": "x"}, "its settings have conv_stride"),
        ({"num_attention_heads": 5}, "5 attention heads"),
        ({"num_attention_heads": 0}, "0 attention heads"),
        ({"do_stable_layer_norm": True}, "pre-norm"),
        ({"hidden_act": "relu"}, "activation 'relu'"),
        ({"layer_norm_eps": -1}, "layer_norm_eps"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        load_content_encoder(as_safetensors(tmp_path / "a", **settings))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    changes: list[tuple[str, torch.Tensor | None, str]] = [
        ("encoder.layers.3.attention.k_proj.weight", torch.ones(48, 47), "have different shapes"),
        ("encoder.layers.3.feed_forward.output_dense.weight", torch.ones(2, 2), "do not fit together"),
        ("feature_extractor.conv_layers.0.conv.weight", None, "has no feature_extractor.conv_layers.0.conv.weight"),
        ("encoder.layer_norm.weight", None, "has no encoder.layer_norm.weight"),
        ("encoder.pos_conv_embed.conv.weight_g", torch.ones(3, 1, 128), "does not fit its weight norm"),
        ("encoder.layer_norm.bias", torch.full((48,), float("nan")), "NaN or infinity"),
    ]
    for key, value, said in changes:

        def change(tensors: dict[str, torch.Tensor], key: str = key, value: torch.Tensor | None = value) -> None:
            tensors.pop(key)
            if value is not None:
                tensors[key] = value

        with pytest.raises(ModelFileError) as caught:
            load_content_encoder(as_safetensors(tmp_path / "a", change))
        assert said in str(caught.value), key


def test_a_folder_without_weights_and_broken_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"holds no model\.safetensors and no pytorch_model\.bin"):
        load_content_encoder(tmp_path)
    shutil.copytree(FOLDER, tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text("{")
    with pytest.raises(ModelFileError, match="is not whole JSON"):
        load_content_encoder(tmp_path / "a")


def test_a_voice_or_a_pitch_estimator_is_not_taken_for_an_encoder() -> None:
    for name in ("v2_40k_f0.pth", "rmvpe_tiny.pt"):
        with pytest.raises(ModelFileError, match="is not a HuBERT content encoder"):
            load_content_encoder(PARITY / name)


def test_a_fairseq_file_without_settings_gets_heads_of_width_64_or_a_divisor(tmp_path: Path) -> None:
    content = {"model": load_tensors(FAIRSEQ, "model"), "args": None}
    torch.save(content, tmp_path / "a.pt")
    assert load_content_encoder(tmp_path / "a.pt").sizes.heads == 1


def test_fairseq_settings_in_a_namespace_are_read(tmp_path: Path) -> None:
    import argparse

    args = argparse.Namespace(
        encoder_attention_heads=8, normalize=True, conv_feature_layers="[(32,10,5)] + [(32,3,2)] * 4 + [(32,2,2)] * 2"
    )
    torch.save({"model": load_tensors(FAIRSEQ, "model"), "args": args, "cfg": None}, tmp_path / "a.pt")
    sizes = load_content_encoder(tmp_path / "a.pt").sizes
    assert (sizes.heads, sizes.normalize, sizes.conv_strides) == (8, True, (5, 2, 2, 2, 2, 2, 2))


# ---- in steps


def in_steps(encoder: ContentEncoder, audio: torch.Tensor, units: list[int], memory_s: float) -> torch.Tensor:
    """Run the front end over the newest audio only, so many units a step."""
    state, features, first = encoder.start_front_end(memory_s), [], 0
    for count in units:
        features.append(encoder.front_end(audio[:, 320 * first : 320 * (first + count) + 80], state))
        first += count
    return torch.cat(features, dim=1)


@pytest.mark.parametrize("normalize", [False, True])
def test_the_front_end_in_one_step_is_the_front_end(normalize, tmp_path):
    encoder = load_content_encoder(as_safetensors(tmp_path / "model", do_normalize=normalize))
    audio = 0.3 * torch.randn(1, 320 * 40 + 80, generator=torch.Generator().manual_seed(1)) + 0.1
    torch.testing.assert_close(in_steps(encoder, audio, [40], 10.0), encoder.front_end(audio), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
def test_the_front_end_in_small_steps_comes_to_the_same_once_it_knows_the_voice(normalize, tmp_path):
    encoder = load_content_encoder(as_safetensors(tmp_path / "model", do_normalize=normalize))
    audio = 0.3 * torch.randn(1, 320 * 300 + 80, generator=torch.Generator().manual_seed(2)) + 0.1
    whole, steps = encoder.front_end(audio), in_steps(encoder, audio, [1, 2, 5, 2, 30] * 7 + [10, 10], 1e6)
    late = slice(250, 300)
    error = (steps[:, late] - whole[:, late]).abs().max() / whole.abs().max()
    assert error < 0.03


def test_every_position_counts_once_however_the_stream_is_cut():
    encoder = load_content_encoder(FOLDER)
    audio = torch.randn(1, 320 * 30 + 80, generator=torch.Generator().manual_seed(3))
    moments = []
    for units in ([30], [1] * 30, [7, 3, 20]):
        state, first = encoder.start_front_end(1e9), 0
        for count in units:
            encoder.front_end(audio[:, 320 * first : 320 * (first + count) + 80], state)
            first += count
        assert state.layer.total is not None
        assert state.layer.weight is not None
        moments.append((float(state.layer.weight), state.layer.total / state.layer.weight))
    for weight, mean in moments[1:]:
        assert weight == pytest.approx(moments[0][0], rel=1e-4)
        torch.testing.assert_close(mean, moments[0][1], rtol=1e-4, atol=1e-6)


def steps_of(
    encoder: ContentEncoder, features: torch.Tensor, width: int, context: int, sizes: list[tuple[int, int]]
) -> torch.Tensor:
    """Run step() with so many final and so many provisional rows each; return the final ones, (1, N, width)."""
    state, units, first = encoder.start_units(width, context), [], 0
    for final, ahead in sizes:
        units.append(encoder.step(features[:, first : first + final + ahead], state, final)[:, :final])
        first += final
    return torch.cat(units, dim=1)


@pytest.mark.parametrize("width", [0, -1])
def test_one_step_over_everything_is_offline(width):
    encoder = load_content_encoder(FOLDER)
    features, unit_width = encoder.front_end(AUDIO), encoder.unit_widths[width]
    count = features.shape[1]
    expected = encoder.units(AUDIO, unit_width=unit_width)
    torch.testing.assert_close(steps_of(encoder, features, unit_width, 9, [(count, 0)]), expected, rtol=1e-4, atol=1e-5)


def test_provisional_rows_leave_no_trace():
    encoder = load_content_encoder(FOLDER)
    features, width = encoder.front_end(AUDIO), encoder.unit_widths[0]
    state = encoder.start_units(width, 20)
    encoder.step(features[:, :12], state, 5)
    again = [encoder.step(features[:, 5:20], state, 0) for _ in range(2)]
    assert torch.equal(*again)
    assert state.inputs.known == 5
    assert all(m.known == 5 for m in state.layers)


def test_no_more_of_the_past_is_kept_than_asked_for():
    encoder = load_content_encoder(FOLDER)
    features, width = encoder.front_end(AUDIO), encoder.unit_widths[0]
    state, first = encoder.start_units(width, 6), 0
    while first + 4 <= features.shape[1]:
        encoder.step(features[:, first : first + 4], state, 3)
        first += 3
        assert all(m.known == min(first, 6) for m in state.layers)
    assert state.inputs.known <= encoder.sizes.position_kernel // 2


def test_remembered_rows_come_as_close_to_offline_as_recomputed_ones():
    encoder = load_content_encoder(FOLDER)
    audio = 0.3 * torch.randn(1, 320 * 120 + 80, generator=torch.Generator().manual_seed(5))
    features, width = encoder.front_end(audio), encoder.unit_widths[0]
    offline = encoder.encode(features)[0]
    window, block, ahead = 40, 5, 4
    remembered = steps_of(encoder, features, width, window - block - ahead, [(block, ahead)] * 22)[0]
    recomputed = [encoder.encode(features[:, end - window : end])[0, -block - ahead : -ahead] for end in range(59, 115, block)]
    tail = slice(50, 110)
    errors = [float((x - offline[tail]).square().sum()) for x in (remembered[tail], torch.cat(recomputed)[:60])]
    assert errors[0] < 1.3 * errors[1]


@pytest.mark.parametrize("width", ["last layer", "layer 9"])
def test_a_packed_encoder_gives_nearly_the_same_units(width):
    plain, quick = load_content_encoder(FOLDER), load_content_encoder(FOLDER)
    quick.pack(torch.bfloat16)
    unit_width = plain.unit_widths[0 if width == "last layer" else -1]
    expected = plain.units(AUDIO, unit_width=unit_width)
    found = quick.units(AUDIO, unit_width=unit_width).float()
    assert 10 * torch.log10(expected.square().sum() / (found - expected).square().sum()) > 30
