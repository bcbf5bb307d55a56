"""Writes networks with random weights, of any size, in the real file formats: they load like a user's own files.

The gains say how strongly the parts of a network speak, as standard deviations relative to what goes in.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from rvcd.errors import ModelFileError
from rvcd.formats.voice_config import FLOW_COUPLINGS, FLOW_KERNEL, FLOW_LAYERS, SynthesizerConfig, noise_strides

CONV_KERNELS, CONV_STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
POSITION_KERNEL, POSITION_GROUPS = 128, 16
ATTENTION_WINDOW = 10
"""Frames each way that carry an embedding of their distance, in every RVC voice."""
PITCH_CLASSES = 256


@dataclass(frozen=True)
class EncoderShape:
    """Sizes and gains of a HuBERT. final_width: of RVC v1 units.

    score: of attention's queries and keys, each; alike: how much of the keys' weights is the queries', so that a unit attends to
    those like itself (0: none). out: of attention's output. position_std: of the positional convolution's weights.
    centred: weights behind an activation sum to zero, so that its mean does not drown what changes from unit to unit.
    """

    width: int
    heads: int
    layers: int
    inner_width: int
    conv_width: int
    final_width: int
    score: float = 1.0
    alike: float = 0.0
    out: float = 1.0
    position_std: float = 0.02
    centred: bool = False


@dataclass(frozen=True)
class VoiceGains:
    """How strongly the parts of a voice speak.

    phone: units into enc_p. alike, attention_out: as the encoder's alike and out, in enc_p. prior, log_std: the prior's mean,
    and what its log standard deviation is spread around. condition: the speaker in the flow; wave: its convolutions; shift:
    what one coupling adds. pre: latents into the decoder. upsample: of each stage; upsample_channels: the input channels that
    is meant for, None for what the stage has. tap: the excitation into each stage, last_tap: into the last. residual: each
    convolution of the residual blocks. through: excitation that passes the last stage straight to the output.
    centred: as for the encoder. smooth: upsampling interpolates, and the output is low-passed: no buzz at the rates of the
    stages. level: the output's RMS, without an offset; 0: as it comes.
    """

    phone: float = 1.0
    alike: float = 0.0
    attention_out: float = 1.0
    prior: float = 0.5
    log_std: float = -3.0
    condition: float = 0.1
    wave: float = 0.5
    shift: float = 0.2
    pre: float = 0.5
    upsample: float = 0.7
    upsample_channels: int | None = 16
    tap: float = 0.5
    last_tap: float = 0.02
    residual: float = 0.5
    through: float = 0.5
    smooth: bool = False
    level: float = 0.0
    centred: bool = False


def write_together(target: Path, write: Callable[[Path], None], complete: Callable[[], bool], *, what: str, fix: str) -> None:
    """Let `write` fill a new folder beside target and rename it to target, so that it is there whole or not at all.

    complete: whether target holds everything, for when another process was faster. Raises ModelFileError when the folder cannot
    be written or the disk is full: "<target>: <what> cannot be written there (<reason>); <fix>".
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            write(scratch)
            shutil.rmtree(target, ignore_errors=True)
            try:
                os.replace(scratch, target)
            except OSError:
                # Another process was faster; its files are the same.
                if not complete():
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except (OSError, RuntimeError, SafetensorError) as error:  # each library has its own word for a full disk
        reason = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), "")
        raise ModelFileError(f"{target}: {what} cannot be written there ({reason}); {fix}") from error


def _normal(random: torch.Generator, *shape: int, std: float) -> Tensor:
    return torch.randn(*shape, generator=random).mul_(std)


def _centre(weight: Tensor) -> None:
    """Make the weights of each output sum to zero, in place."""
    weight.sub_(weight.mean(dim=tuple(range(1, weight.dim())), keepdim=True))


def _make_alike(weights: dict[str, Tensor], queries: str, keys: str, share: float) -> None:
    """Give a layer's weights this share (a correlation, 0..1) of another's, in place."""
    if share:
        key = weights[f"{keys}.weight"]
        key.mul_(math.sqrt(1 - share**2)).add_(weights[f"{queries}.weight"], alpha=share)


def write_encoder(folder: Path, shape: EncoderShape, random: torch.Generator) -> None:
    """Write a HuBERT into a new folder, in the Transformers layout, float32."""
    from safetensors.torch import save_file

    width, inner, conv_width = shape.width, shape.inner_width, shape.conv_width
    weights: dict[str, Tensor] = {}

    def linear(name: str, rows: int, columns: int, gain: float = 1.0) -> None:
        weights[f"{name}.weight"] = _normal(random, rows, columns, std=gain / math.sqrt(columns))
        weights[f"{name}.bias"] = torch.zeros(rows)

    def norm(name: str, size: int) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = torch.ones(size), torch.zeros(size)

    for i, kernel in enumerate(CONV_KERNELS):
        inputs = 1 if i == 0 else conv_width
        weight = _normal(random, conv_width, inputs, kernel, std=math.sqrt(2 / (inputs * kernel)))
        if shape.centred and i:
            _centre(weight)
        weights[f"feature_extractor.conv_layers.{i}.conv.weight"] = weight
    norm("feature_extractor.conv_layers.0.layer_norm", conv_width)
    norm("feature_projection.layer_norm", conv_width)
    linear("feature_projection.projection", width, conv_width)
    position = _normal(random, width, width // POSITION_GROUPS, POSITION_KERNEL, std=shape.position_std)
    weights["encoder.pos_conv_embed.conv.weight_v"] = position
    weights["encoder.pos_conv_embed.conv.weight_g"] = position.norm(dim=(0, 1), keepdim=True)
    weights["encoder.pos_conv_embed.conv.bias"] = torch.zeros(width)
    norm("encoder.layer_norm", width)
    for i in range(shape.layers):
        stem = f"encoder.layers.{i}"
        gains = {"q_proj": shape.score, "k_proj": shape.score, "v_proj": 1.0, "out_proj": shape.out}
        for name, gain in gains.items():
            linear(f"{stem}.attention.{name}", width, width, gain=gain)
        _make_alike(weights, f"{stem}.attention.q_proj", f"{stem}.attention.k_proj", shape.alike)
        norm(f"{stem}.layer_norm", width)
        linear(f"{stem}.feed_forward.intermediate_dense", inner, width)
        linear(f"{stem}.feed_forward.output_dense", width, inner)
        if shape.centred:
            _centre(weights[f"{stem}.feed_forward.output_dense.weight"])
        norm(f"{stem}.final_layer_norm", width)
    linear("final_proj", shape.final_width, width)
    folder.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in weights.items()}, str(folder / "model.safetensors"))
    (folder / "config.json").write_text(
        json.dumps(
            {
                "model_type": "hubert", "hidden_size": width, "num_hidden_layers": shape.layers,
                "num_attention_heads": shape.heads, "intermediate_size": inner, "conv_dim": [conv_width] * len(CONV_KERNELS),
                "conv_kernel": list(CONV_KERNELS), "conv_stride": list(CONV_STRIDES), "conv_bias": False,
                "feat_extract_norm": "group", "hidden_act": "gelu", "num_conv_pos_embeddings": POSITION_KERNEL,
                "num_conv_pos_embedding_groups": POSITION_GROUPS, "classifier_proj_size": shape.final_width,
                "layer_norm_eps": 1e-5, "do_stable_layer_norm": False, "feat_proj_layer_norm": True,
            },
            indent=1,
        )
    )  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False, "sampling_rate": 16000}))


def write_voice(
    path: Path, config: SynthesizerConfig, gains: VoiceGains, random: torch.Generator, *, version: str, info: str
) -> None:
    """Write an RVC voice with f0, float16, weight norm unfolded: its output buzzes at the pitch, coloured by the units."""
    weights: dict[str, Tensor] = {}

    def conv(name: str, *shape: int, gain: float = 1.0, bias: int | None = None) -> None:
        fan_in = math.prod(shape[1:])
        weights[f"{name}.weight"] = _normal(random, *shape, std=gain / math.sqrt(fan_in))
        weights[f"{name}.bias"] = torch.zeros(bias or shape[0])

    def normed(name: str, *shape: int, gain: float = 1.0, bias: int | None = None) -> None:
        conv(name, *shape, gain=gain, bias=bias)
        direction = weights.pop(f"{name}.weight")
        if gains.centred and bias is None:
            _centre(direction)
        weights[f"{name}.weight_v"] = direction
        weights[f"{name}.weight_g"] = direction.norm(dim=tuple(range(1, direction.dim())), keepdim=True)

    _add_prior(weights, conv, config, gains, random)
    _add_flow(conv, normed, config, gains)
    weights["emb_g.weight"] = _normal(random, config.n_speakers, config.gin_channels, std=0.3)
    _add_decoder(weights, conv, normed, config, gains, random)
    if gains.level:
        _set_level(weights, config, gains.level)
    values = [
        config.spec_channels, config.segment_size, config.inter_channels, config.hidden_channels, config.filter_channels,
        config.n_heads, config.n_layers, config.kernel_size, 0, config.resblock, list(config.resblock_kernel_sizes),
        [list(dilations) for dilations in config.resblock_dilation_sizes], list(config.upsample_rates),
        config.upsample_initial_channel, list(config.upsample_kernel_sizes), config.n_speakers, config.gin_channels,
        config.rate_hz,
    ]  # fmt: skip
    torch.save(
        {
            "weight": {k: v.half() for k, v in weights.items()}, "config": values, "info": info,
            "sr": f"{config.rate_hz // 1000}k", "f0": 1, "version": version,
        },
        path,
    )  # fmt: skip


_Layer = Callable[..., None]


def _add_prior(
    weights: dict[str, Tensor], conv: _Layer, config: SynthesizerConfig, gains: VoiceGains, random: torch.Generator
) -> None:
    hidden, wide, inter = config.hidden_channels, config.filter_channels, config.inter_channels
    conv("enc_p.emb_phone", hidden, config.unit_width, gain=gains.phone)
    weights["enc_p.emb_pitch.weight"] = _normal(random, PITCH_CLASSES, hidden, std=0.1)
    for i in range(config.n_layers):
        stem = f"enc_p.encoder.attn_layers.{i}"
        for name in ("emb_rel_k", "emb_rel_v"):
            weights[f"{stem}.{name}"] = _normal(random, 1, 2 * ATTENTION_WINDOW + 1, hidden // config.n_heads, std=0.1)
        for name in ("conv_q", "conv_k", "conv_v", "conv_o"):
            conv(f"{stem}.{name}", hidden, hidden, 1, gain=gains.attention_out if name == "conv_o" else 1.0)
        _make_alike(weights, f"{stem}.conv_q", f"{stem}.conv_k", gains.alike)
        conv(f"enc_p.encoder.ffn_layers.{i}.conv_1", wide, hidden, config.kernel_size)
        conv(f"enc_p.encoder.ffn_layers.{i}.conv_2", hidden, wide, config.kernel_size)
        if gains.centred:
            _centre(weights[f"enc_p.encoder.ffn_layers.{i}.conv_2.weight"])
        for side in (1, 2):
            weights[f"enc_p.encoder.norm_layers_{side}.{i}.gamma"] = torch.ones(hidden)
            weights[f"enc_p.encoder.norm_layers_{side}.{i}.beta"] = torch.zeros(hidden)
    conv("enc_p.proj", 2 * inter, hidden, 1, gain=gains.prior)
    weights["enc_p.proj.bias"][inter:] = gains.log_std


def _add_flow(conv: _Layer, normed: _Layer, config: SynthesizerConfig, gains: VoiceGains) -> None:
    hidden, half = config.hidden_channels, config.inter_channels // 2
    for i in range(FLOW_COUPLINGS):
        stem = f"flow.flows.{2 * i}"
        conv(f"{stem}.pre", hidden, half, 1)
        conv(f"{stem}.post", half, hidden, 1, gain=gains.shift)
        normed(f"{stem}.enc.cond_layer", 2 * FLOW_LAYERS * hidden, config.gin_channels, 1, gain=gains.condition)
        for j in range(FLOW_LAYERS):
            out = hidden if j == FLOW_LAYERS - 1 else 2 * hidden
            normed(f"{stem}.enc.in_layers.{j}", 2 * hidden, hidden, FLOW_KERNEL, gain=gains.wave)
            normed(f"{stem}.enc.res_skip_layers.{j}", out, hidden, 1, gain=gains.wave)


def _add_decoder(
    weights: dict[str, Tensor],
    conv: _Layer,
    normed: _Layer,
    config: SynthesizerConfig,
    gains: VoiceGains,
    random: torch.Generator,
) -> None:
    channels = config.upsample_initial_channel
    conv("dec.conv_pre", channels, config.inter_channels, 7, gain=gains.pre)
    conv("dec.cond", channels, config.gin_channels, 1)
    # A strong merge turns the sine into a rounded square wave: harmonics for the filters to colour.
    weights["dec.m_source.l_linear.weight"] = torch.tensor([[25.0]])
    weights["dec.m_source.l_linear.bias"] = torch.zeros(1)
    stages = zip(config.upsample_rates, config.upsample_kernel_sizes, noise_strides(config.upsample_rates), strict=True)
    last = len(config.upsample_rates) - 1
    block = 0
    for i, (rate, kernel, stride) in enumerate(stages):
        # Each sample meets kernel / rate of the taps, for each input channel.
        share = rate * (channels // 2) / (gains.upsample_channels or channels)
        normed(f"dec.ups.{i}", channels, channels // 2, kernel, bias=channels // 2, gain=gains.upsample * math.sqrt(share))
        if gains.smooth:
            _smooth(weights, f"dec.ups.{i}", rate, gains.upsample / math.sqrt(channels))
        channels //= 2
        width = 2 * stride if stride > 1 else 1
        conv(f"dec.noise_convs.{i}", channels, 1, width, gain=1.0 if i == last else gains.tap)
        if gains.centred and i != last:
            _centre(weights[f"dec.noise_convs.{i}.weight"])
        for size, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True):
            for convs in ("convs1", "convs2"):
                for j in range(len(dilations)):
                    normed(f"dec.resblocks.{block}.{convs}.{j}", channels, channels, size, gain=gains.residual)
            block += 1
    # The last tap passes the excitation to every channel, with alternating signs that conv_post undoes: the rectifying
    # activation before it would turn one sign alone into an offset.
    signs = torch.tensor([(-1.0) ** i for i in range(channels)])
    tap = weights[f"dec.noise_convs.{last}.weight"]
    tap.copy_(gains.through * signs[:, None, None] + gains.last_tap * tap)
    post = _normal(random, 1, channels, 7, std=0.01)
    if gains.smooth:
        post = post.sum(dim=2, keepdim=True) * torch.tensor([1.0, 6, 15, 20, 15, 6, 1]) / 64
    post[0, :, 3] += gains.through * signs / channels
    weights["dec.conv_post.weight"] = post


def _set_level(weights: dict[str, Tensor], config: SynthesizerConfig, level: float) -> None:
    """Give the output this RMS and no offset, as heard at 200 Hz: a trained voice's is a waveform around zero."""
    from rvcd.nets.synthesizer import Generator, fold_weight_norm

    with torch.device("meta"):
        decoder = Generator(config)
    folded = fold_weight_norm({k.removeprefix("dec."): v for k, v in weights.items() if k.startswith("dec.")})
    decoder.load_state_dict(folded, assign=True)
    assert decoder.m_source is not None  # every voice written here has f0
    frames = 12
    sine = torch.sin(2 * math.pi * 200 / config.rate_hz * torch.arange(frames * config.hop_samples))
    heard: list[Tensor] = []
    decoder.conv_post.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0][0]))
    with torch.inference_mode():
        source = decoder.m_source(0.1 * sine[:, None])[None, None]
        decoder(torch.zeros(1, config.inter_channels, frames), source, weights["emb_g.weight"][:1, :, None])
        offset = heard[0].mean(dim=1)
        post = weights["dec.conv_post.weight"]
        post -= (offset @ post[0] / offset.square().sum())[None, None] * offset[None, :, None]
        post *= level / torch.nn.functional.conv1d(heard[0], post).std()


def _smooth(weights: dict[str, Tensor], name: str, rate: int, std: float) -> None:
    """Make a transposed convolution interpolate between its inputs: a constant stays one, without a buzz at their rate."""
    direction = weights[f"{name}.weight_v"]
    kernel = direction.shape[2]
    taps = torch.from_numpy(np.convolve(np.ones(rate), np.full(kernel - rate + 1, 1 / (kernel - rate + 1)))).float()
    mixed = direction.sum(dim=2, keepdim=True)
    mixed -= mixed.mean(dim=0, keepdim=True)
    direction.copy_(mixed * (std / mixed.std()) * taps)
    weights[f"{name}.weight_g"] = direction.norm(dim=(1, 2), keepdim=True)


def write_index(path: Path, vectors: NDArray[np.float32], lists: int, centroids: NDArray[np.float32] | None = None) -> None:
    """Write an IVF index of vectors (N, C). centroids (lists, C) in float32 save the search for them (k-means)."""
    import faiss

    width = vectors.shape[1]
    index: Any = faiss.index_factory(width, f"IVF{lists},Flat")
    if centroids is None:
        index.train(vectors)
    else:
        index.quantizer.add(centroids)
        index.is_trained = True
    index.add(vectors)
    faiss.write_index(index, str(path))
