"""Small models in the real file formats, with seeded random weights, so that the whole path runs with nothing to download.

They are not a voice: they buzz at the pitch of what you say. Written once into a cache folder and loaded like any other files.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from rvcd.errors import ModelFileError
from rvcd.models.test_weight_paths import UNIT_WIDTH_V1, UNIT_WIDTH_V2, TestWeightPaths

ENCODER_LAYERS, CONV_WIDTH = 9, 32
# Fewer and smaller residual blocks than a real voice (3, 7, 11 with 1, 3, 5): this one must run beside a game on any machine.
BLOCK_KERNELS, BLOCK_DILATIONS = [3, 7], [[1, 3], [1, 3]]
CONV_KERNELS, CONV_STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
POSITION_KERNEL, POSITION_GROUPS = 128, 16
INDEX_VECTORS = 400
INTER, HIDDEN, FILTER, GIN, INITIAL_CHANNELS = 32, 32, 64, 16, 64


def ensure_test_weights(cache: Path) -> TestWeightPaths:
    """Write the files below cache unless they are all there, and return where they are.

    Raises ModelFileError when the folder cannot be written or the disk is full.
    """
    paths = TestWeightPaths.below(cache)
    if not all(path.exists() for path in paths.files()):
        try:
            _write_set(cache, paths)
        except (OSError, RuntimeError, SafetensorError) as error:  # each library has its own word for a full disk
            reason = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), "")
            raise ModelFileError(
                f"{paths.folder}: the test weights cannot be written there ({reason}); "
                "make the folder writable and free 5 MB, or set XDG_CACHE_HOME to another one"
            ) from error
    return paths


def _write_set(cache: Path, paths: TestWeightPaths) -> None:
    """Write the files under a temporary name and rename them together."""
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".test-weights-", dir=cache))
    try:
        _write_all(TestWeightPaths.in_folder(scratch))
        shutil.rmtree(paths.folder, ignore_errors=True)
        try:
            os.replace(scratch, paths.folder)
        except OSError:
            # Another process was faster; its files are the same.
            if not all(path.exists() for path in paths.files()):
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_all(paths: TestWeightPaths) -> None:
    random = torch.Generator().manual_seed(20261122)
    _write_encoder(paths.encoder, random)
    _write_voice(paths.voice_v2, "v2", UNIT_WIDTH_V2, [10, 10, 2, 2], [16, 16, 4, 4], 40000, random)
    _write_voice(paths.voice_v1, "v1", UNIT_WIDTH_V1, [10, 6, 2, 2, 2], [16, 16, 4, 4, 4], 48000, random)
    _write_index(paths.index_v2, UNIT_WIDTH_V2)


def _normal(random: torch.Generator, *shape: int, std: float) -> Tensor:
    return torch.randn(*shape, generator=random) * std


def _write_encoder(folder: Path, random: torch.Generator) -> None:
    """A HuBERT of width UNIT_WIDTH_V2 in the Transformers layout."""
    from safetensors.torch import save_file

    width, inner = UNIT_WIDTH_V2, 2 * UNIT_WIDTH_V2
    weights: dict[str, Tensor] = {}

    def linear(name: str, rows: int, columns: int, std: float | None = None) -> None:
        weights[f"{name}.weight"] = _normal(random, rows, columns, std=std or 1 / math.sqrt(columns))
        weights[f"{name}.bias"] = torch.zeros(rows)

    def norm(name: str, size: int) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = torch.ones(size), torch.zeros(size)

    for i, kernel in enumerate(CONV_KERNELS):
        inputs = 1 if i == 0 else CONV_WIDTH
        weights[f"feature_extractor.conv_layers.{i}.conv.weight"] = _normal(
            random, CONV_WIDTH, inputs, kernel, std=math.sqrt(2 / (inputs * kernel))
        )
    norm("feature_extractor.conv_layers.0.layer_norm", CONV_WIDTH)
    norm("feature_projection.layer_norm", CONV_WIDTH)
    linear("feature_projection.projection", width, CONV_WIDTH)
    position = _normal(random, width, width // POSITION_GROUPS, POSITION_KERNEL, std=0.02)
    weights["encoder.pos_conv_embed.conv.weight_v"] = position
    weights["encoder.pos_conv_embed.conv.weight_g"] = position.norm(dim=(0, 1), keepdim=True)
    weights["encoder.pos_conv_embed.conv.bias"] = torch.zeros(width)
    norm("encoder.layer_norm", width)
    for i in range(ENCODER_LAYERS):
        stem = f"encoder.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{stem}.attention.{name}", width, width)
        norm(f"{stem}.layer_norm", width)
        linear(f"{stem}.feed_forward.intermediate_dense", inner, width)
        linear(f"{stem}.feed_forward.output_dense", width, inner)
        norm(f"{stem}.final_layer_norm", width)
    linear("final_proj", UNIT_WIDTH_V1, width)
    folder.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in weights.items()}, str(folder / "model.safetensors"))
    (folder / "config.json").write_text(
        json.dumps(
            {
                "model_type": "hubert", "hidden_size": width, "num_hidden_layers": ENCODER_LAYERS, "num_attention_heads": 4,
                "intermediate_size": inner, "conv_dim": [CONV_WIDTH] * len(CONV_KERNELS), "conv_kernel": list(CONV_KERNELS),
                "conv_stride": list(CONV_STRIDES), "conv_bias": False, "feat_extract_norm": "group", "hidden_act": "gelu",
                "num_conv_pos_embeddings": POSITION_KERNEL, "num_conv_pos_embedding_groups": POSITION_GROUPS,
                "classifier_proj_size": UNIT_WIDTH_V1, "layer_norm_eps": 1e-5, "do_stable_layer_norm": False,
                "feat_proj_layer_norm": True,
            },
            indent=1,
        )
    )  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False, "sampling_rate": 16000}))


def _write_voice(
    path: Path, version: str, unit_width: int, rates: list[int], kernels: list[int], rate_hz: int, random: torch.Generator
) -> None:
    """An RVC voice whose decoder lets the excitation through: the output buzzes at the pitch, coloured by the units."""
    weights: dict[str, Tensor] = {}

    def conv(name: str, *shape: int, gain: float = 1.0, bias: int | None = None) -> None:
        fan_in = math.prod(shape[1:])
        weights[f"{name}.weight"] = _normal(random, *shape, std=gain / math.sqrt(fan_in))
        if bias != 0:
            weights[f"{name}.bias"] = torch.zeros(bias or shape[0])

    def normed(name: str, *shape: int, gain: float = 1.0, bias: int | None = None) -> None:
        conv(name, *shape, gain=gain, bias=bias)
        direction = weights.pop(f"{name}.weight")
        weights[f"{name}.weight_v"] = direction
        weights[f"{name}.weight_g"] = direction.norm(dim=tuple(range(1, direction.dim())), keepdim=True)

    conv("enc_p.emb_phone", HIDDEN, unit_width)
    weights["enc_p.emb_pitch.weight"] = _normal(random, 256, HIDDEN, std=0.1)
    for i in range(2):
        stem = f"enc_p.encoder.attn_layers.{i}"
        for name in ("emb_rel_k", "emb_rel_v"):
            weights[f"{stem}.{name}"] = _normal(random, 1, 21, HIDDEN // 2, std=0.1)
        for name in ("conv_q", "conv_k", "conv_v", "conv_o"):
            conv(f"{stem}.{name}", HIDDEN, HIDDEN, 1)
        conv(f"enc_p.encoder.ffn_layers.{i}.conv_1", FILTER, HIDDEN, 3)
        conv(f"enc_p.encoder.ffn_layers.{i}.conv_2", HIDDEN, FILTER, 3)
        for side in (1, 2):
            weights[f"enc_p.encoder.norm_layers_{side}.{i}.gamma"] = torch.ones(HIDDEN)
            weights[f"enc_p.encoder.norm_layers_{side}.{i}.beta"] = torch.zeros(HIDDEN)
    conv("enc_p.proj", 2 * INTER, HIDDEN, 1, gain=0.5)
    weights["enc_p.proj.bias"][INTER:] = -3.0  # a narrow prior: little noise
    for i in range(4):
        stem = f"flow.flows.{2 * i}"
        conv(f"{stem}.pre", HIDDEN, INTER // 2, 1)
        conv(f"{stem}.post", INTER // 2, HIDDEN, 1, gain=0.2)
        normed(f"{stem}.enc.cond_layer", 6 * HIDDEN, GIN, 1, gain=0.1)
        for j in range(3):
            normed(f"{stem}.enc.in_layers.{j}", 2 * HIDDEN, HIDDEN, 5, gain=0.5)
            normed(f"{stem}.enc.res_skip_layers.{j}", HIDDEN if j == 2 else 2 * HIDDEN, HIDDEN, 1, gain=0.5)
    weights["emb_g.weight"] = _normal(random, 2, GIN, std=0.3)

    conv("dec.conv_pre", INITIAL_CHANNELS, INTER, 7, gain=0.5)
    conv("dec.cond", INITIAL_CHANNELS, GIN, 1)
    # A strong merge turns the sine into a rounded square wave: harmonics for the filters to colour.
    weights["dec.m_source.l_linear.weight"] = torch.tensor([[25.0]])
    weights["dec.m_source.l_linear.bias"] = torch.zeros(1)
    channels = INITIAL_CHANNELS
    block = 0
    for i, (rate, kernel) in enumerate(zip(rates, kernels, strict=True)):
        normed(f"dec.ups.{i}", channels, channels // 2, kernel, bias=channels // 2, gain=0.7 * math.sqrt(rate * channels / 2) / 4)
        channels //= 2
        stride = math.prod(rates[i + 1 :])
        width = 2 * stride if stride > 1 else 1
        last = i == len(rates) - 1
        conv(f"dec.noise_convs.{i}", channels, 1, width, gain=1.0 if last else 0.5)
        for k, dilations in zip(BLOCK_KERNELS, BLOCK_DILATIONS, strict=True):
            for convs in ("convs1", "convs2"):
                for j in range(len(dilations)):
                    normed(f"dec.resblocks.{block}.{convs}.{j}", channels, channels, k, gain=0.5)
            block += 1
    # The last tap passes the excitation to every channel, with alternating signs that conv_post undoes: the rectifying
    # activation before it would turn one sign alone into an offset.
    signs = torch.tensor([(-1.0) ** i for i in range(channels)])
    tap = weights[f"dec.noise_convs.{len(rates) - 1}.weight"]
    tap.copy_(0.5 * signs[:, None, None] + 0.02 * tap)
    post = _normal(random, 1, channels, 7, std=0.01)
    post[0, :, 3] += 0.5 * signs / channels
    weights["dec.conv_post.weight"] = post
    config = [
        1025, 32, INTER, HIDDEN, FILTER, 2, 2, 3, 0, "1", BLOCK_KERNELS, BLOCK_DILATIONS, rates, INITIAL_CHANNELS, kernels, 2,
        GIN, rate_hz,
    ]  # fmt: skip
    torch.save(
        {
            "weight": {k: v.half() for k, v in weights.items()}, "config": config, "info": "test weights, not trained",
            "sr": f"{rate_hz // 1000}k", "f0": 1, "version": version,
        },
        path,
    )  # fmt: skip


def _write_index(path: Path, width: int) -> None:
    """An IVF index of random directions, of about the size units have after a layer norm."""
    import faiss

    vectors = np.random.default_rng(7).standard_normal((INDEX_VECTORS, width)).astype(np.float32)
    index = faiss.index_factory(width, "IVF8,Flat")
    index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, str(path))
