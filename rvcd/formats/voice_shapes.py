"""The tensors that a voice of given sizes has: names and shapes. Stdlib only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rvcd.formats.voice_config import (
    FLOW_COUPLINGS,
    FLOW_KERNEL,
    FLOW_LAYERS,
    REFINEGAN_SOURCE_BITS,
    SynthesizerConfig,
    Vocoder,
    noise_strides,
    source_kernel,
)

SOURCE_FILTER_VALUES = 640
"""What its network says of a frame (rvcd.nets.source_filter)."""
SOFTER_BANDS = 10
"""In so many bands a converter of envelopes may make sounds softer (rvcd.nets.envelope_converter)."""
CONVERT_WIDENING = 3
"""So many times its width, inside the blocks of the network that converts envelopes."""
REFINEGAN_KERNELS = (3, 7, 11)
REFINEGAN_DILATIONS = (1, 3, 5)
"""Of its residual blocks: not in the config, the same in every voice."""


@dataclass(frozen=True)
class Layer:
    """A layer's weight (and bias of weight's first size, or of `bias`). normed: stored as weight_g and weight_v, or folded."""

    stem: str
    weight: tuple[int, ...]
    bias: int | None
    normed: bool = False


def expected_shapes(config: SynthesizerConfig, has: Mapping[str, Any], window: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor a voice of this config has.

    has: the voice's own tensors, by key, which say whether a weight-normed layer is stored folded. window: reach of the
    relative positions in frames.
    """
    if config.vocoder is Vocoder.SOURCE_FILTER:
        return _source_filter_shapes(config)
    hidden, heads = config.hidden_channels, config.n_heads
    shapes: dict[str, tuple[int, ...]] = {"emb_g.weight": (config.n_speakers, config.gin_channels)}
    if config.has_f0:
        shapes["enc_p.emb_pitch.weight"] = (256, hidden)
    for i in range(config.n_layers):
        for name in ("emb_rel_k", "emb_rel_v"):
            shapes[f"enc_p.encoder.attn_layers.{i}.{name}"] = (1, 2 * window + 1, hidden // heads)
        for side in (1, 2):
            for name in ("gamma", "beta"):
                shapes[f"enc_p.encoder.norm_layers_{side}.{i}.{name}"] = (hidden,)
    if config.vocoder.is_refinegan:
        shapes |= _noise_amounts(config)
        decoder = _refinegan_layers(config)
    else:
        decoder = _hifigan_layers(config)
    for layer in (*_encoder_layers(config), *_flow_layers(config), *decoder):
        if layer.bias is not None:
            shapes[f"{layer.stem}.bias"] = (layer.bias,)
        if layer.normed and f"{layer.stem}.weight" not in has:
            shapes[f"{layer.stem}.weight_v"] = layer.weight
            shapes[f"{layer.stem}.weight_g"] = (layer.weight[0], *(1 for _ in layer.weight[1:]))
        else:
            shapes[f"{layer.stem}.weight"] = layer.weight
    return shapes


def _source_filter_shapes(config: SynthesizerConfig) -> dict[str, tuple[int, ...]]:
    bands, converting = config.unit_width, config.upsample_initial_channel
    shapes: dict[str, tuple[int, ...]] = {"emb_g.weight": (config.n_speakers, config.gin_channels)}
    shapes |= {"dec.convert.amount": ()}
    inner, kernels = CONVERT_WIDENING * converting, config.resblock_kernel_sizes
    shapes |= _frame_net("dec.convert.net", converting, inner, kernels, bands, 3 * bands + SOFTER_BANDS)
    kernels = (config.kernel_size,) * config.n_layers
    return shapes | _frame_net("dec.net", config.hidden_channels, config.filter_channels, kernels, bands, SOURCE_FILTER_VALUES)


def _frame_net(stem: str, width: int, inner: int, kernels: Sequence[int], bands: int, values: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a rvcd.nets.frame_net."""
    layers: list[tuple[str, tuple[int, ...]]] = [("enter", (width, bands + 2)), ("leave", (values, width)), ("norm", (width,))]
    for i, kernel in enumerate(kernels):
        layers += [(f"blocks.{i}.over_time", (width, 1, kernel)), (f"blocks.{i}.inner", (inner, width)),
                   (f"blocks.{i}.outer", (width, inner)), (f"blocks.{i}.norm", (width,))]  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {f"{stem}.{name}": (bands,) for name in ("mean", "spread")}
    for name, weight in layers:
        shapes[f"{stem}.{name}.weight"], shapes[f"{stem}.{name}.bias"] = weight, (weight[0],)
    return shapes


def _encoder_layers(config: SynthesizerConfig) -> Iterator[Layer]:
    hidden, wide, kernel = config.hidden_channels, config.filter_channels, config.kernel_size
    yield Layer("enc_p.emb_phone", (hidden, config.unit_width), hidden)
    for i in range(config.n_layers):
        for name in ("conv_q", "conv_k", "conv_v", "conv_o"):
            yield Layer(f"enc_p.encoder.attn_layers.{i}.{name}", (hidden, hidden, 1), hidden)
        yield Layer(f"enc_p.encoder.ffn_layers.{i}.conv_1", (wide, hidden, kernel), wide)
        yield Layer(f"enc_p.encoder.ffn_layers.{i}.conv_2", (hidden, wide, kernel), hidden)
    yield Layer("enc_p.proj", (2 * config.inter_channels, hidden, 1), 2 * config.inter_channels)


def _flow_layers(config: SynthesizerConfig) -> Iterator[Layer]:
    half, hidden = config.inter_channels // 2, config.hidden_channels
    for i in range(FLOW_COUPLINGS):
        stem = f"flow.flows.{2 * i}"
        yield Layer(f"{stem}.pre", (hidden, half, 1), hidden)
        yield Layer(f"{stem}.post", (half, hidden, 1), half)
        yield Layer(f"{stem}.enc.cond_layer", (2 * hidden * FLOW_LAYERS, config.gin_channels, 1), 2 * hidden * FLOW_LAYERS, True)
        for j in range(FLOW_LAYERS):
            out = hidden if j == FLOW_LAYERS - 1 else 2 * hidden
            yield Layer(f"{stem}.enc.in_layers.{j}", (2 * hidden, hidden, FLOW_KERNEL), 2 * hidden, True)
            yield Layer(f"{stem}.enc.res_skip_layers.{j}", (out, hidden, 1), out, True)


def _hifigan_layers(config: SynthesizerConfig) -> Iterator[Layer]:
    """RVC's own decoder, and Applio's MRF HiFi-GAN, which has the same layers under other names."""
    mrf = config.vocoder is Vocoder.MRF
    channels = config.upsample_initial_channel
    yield Layer("dec.conv_pre", (channels, config.inter_channels, 7), channels, mrf)
    yield Layer("dec.cond", (channels, config.gin_channels, 1), channels)
    if config.has_f0:
        yield Layer("dec.m_source.l_linear", (1, config.vocoder.harmonics), 1)
    strides = noise_strides(config.upsample_rates)
    for i, (kernel, stride) in enumerate(zip(config.upsample_kernel_sizes, strides, strict=True)):
        yield Layer(f"dec.{'upsamples' if mrf else 'ups'}.{i}", (channels, channels // 2, kernel), channels // 2, True)
        channels //= 2
        if config.has_f0:
            yield Layer(f"dec.noise_convs.{i}", (channels, 1, source_kernel(stride)), channels)
        for j, (size, dilations) in enumerate(zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)):
            for m in range(len(dilations)):
                for side in (1, 2):
                    block = i * len(config.resblock_kernel_sizes) + j
                    stem = f"dec.mrfs.{i}.{j}.layers.{m}.conv{side}" if mrf else f"dec.resblocks.{block}.convs{side}.{m}"
                    yield Layer(stem, (channels, channels, size), channels, True)
    yield Layer("dec.conv_post", (1, channels, 7), 1 if mrf else None, mrf)


def _refinegan_layers(config: SynthesizerConfig) -> Iterator[Layer]:
    """Both generations; they differ in how the excitation comes down to each stage's rate."""
    widest, stages = config.upsample_initial_channel, len(config.upsample_rates)
    first = config.vocoder is Vocoder.REFINEGAN_329
    yield Layer("dec.m_source.merge.0", (1, 1), None)
    channels = widest // 2 if first else widest >> REFINEGAN_SOURCE_BITS
    yield Layer("dec.pre_conv", (channels, 1, 7), channels, True)
    for i, stride in enumerate(noise_strides(config.upsample_rates)):
        if first:
            channels = widest >> (i + 2)
            yield Layer(f"dec.downsample_blocks.{i}", (channels, 1, source_kernel(stride)), channels, True)
        else:
            channels *= 2
            yield Layer(f"dec.downsample_blocks.{i}", (channels, channels // 2, 7), channels, True)
    yield Layer("dec.mel_conv", (widest // 2, config.inter_channels, 7), widest // 2, True)
    yield Layer("dec.cond", (widest // 2, config.gin_channels, 1), widest // 2)
    for i in range(stages):
        stem, channels = f"dec.upsample_conv_blocks.{i}", widest >> (i + 1)
        yield Layer(f"{stem}.input_conv", (channels, 2 * channels + channels // 2, 7), channels)
        for j, kernel in enumerate(REFINEGAN_KERNELS):
            for side in (1, 2):
                for m in range(len(REFINEGAN_DILATIONS)):
                    yield Layer(f"{stem}.blocks.{j}.1.convs{side}.{m}", (channels, channels, kernel), channels, True)
    yield Layer("dec.conv_post", (1, widest >> stages, 7), None, True)


def _noise_amounts(config: SynthesizerConfig) -> dict[str, tuple[int, ...]]:
    return {
        f"dec.upsample_conv_blocks.{i}.blocks.{j}.{at}.weight": (config.upsample_initial_channel >> (i + 1),)
        for i in range(len(config.upsample_rates))
        for j in range(len(REFINEGAN_KERNELS))
        for at in (0, 2)
    }
