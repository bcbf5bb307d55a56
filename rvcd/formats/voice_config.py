"""The sizes of an RVC voice: read from its 18 positional values, and the tensors those sizes demand. Stdlib only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONFIG_LENGTH = 18
UNIT_WIDTH_AT = 17
"""Where a fork of RVC (ddPn08's) puts the width of the units in between, as the last but one of 19 values."""
FLOW_COUPLINGS, FLOW_KERNEL, FLOW_LAYERS = 4, 5, 3
"""The coupling flow of RVC: not in the config, the same in every voice."""
MAX_CHANNELS, MAX_LAYERS, MAX_LIST = 16_384, 64, 16
FRAMES_PER_S = 100
MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000


class ConfigProblem(Exception):
    """The numbers do not describe a voice. The message continues '<path>: its config '."""


@dataclass(frozen=True)
class SynthesizerConfig:
    """Every size of one voice's network. n_speakers, unit_width, has_f0 come from the tensors, the rest from `config`."""

    spec_channels: int
    segment_size: int
    inter_channels: int
    hidden_channels: int
    filter_channels: int
    n_heads: int
    n_layers: int
    kernel_size: int
    p_dropout: float
    resblock: str
    resblock_kernel_sizes: tuple[int, ...]
    resblock_dilation_sizes: tuple[tuple[int, ...], ...]
    upsample_rates: tuple[int, ...]
    upsample_initial_channel: int
    upsample_kernel_sizes: tuple[int, ...]
    n_speakers: int
    gin_channels: int
    rate_hz: int
    unit_width: int
    has_f0: bool

    @property
    def hop_samples(self) -> int:
        """Samples of one 10 ms frame at the voice's rate."""
        return math.prod(self.upsample_rates)


def parse_config(values: Any, *, n_speakers: int, unit_width: int, has_f0: bool) -> SynthesizerConfig:
    """Build the config from the 18 positional values of a voice file, or a fork's 19. Raises ConfigProblem."""
    if not isinstance(values, (list, tuple)):
        raise ConfigProblem("is not a list of numbers")
    if len(values) == CONFIG_LENGTH + 1:
        if values[UNIT_WIDTH_AT] != unit_width:
            said = _shown(values[UNIT_WIDTH_AT])
            raise ConfigProblem(f"has 19 values with the unit width {said}, but its weights take units of width {unit_width}")
        values = [*values[:UNIT_WIDTH_AT], *values[UNIT_WIDTH_AT + 1 :]]
    if len(values) != CONFIG_LENGTH:
        raise ConfigProblem(f"has {len(values)} values, not {CONFIG_LENGTH} or {CONFIG_LENGTH + 1}")
    if str(values[9]) != "1":
        raise ConfigProblem(f"asks for residual blocks of kind {_shown(values[9])}; only kind 1 is supported")
    dropout = values[8]
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise ConfigProblem(f"has the dropout {_shown(dropout)}, not a number from 0 to 1")
    if not isinstance(values[11], (list, tuple)) or not 0 < len(values[11]) <= MAX_LIST:
        raise ConfigProblem("has no lists of dilations (value 12)")
    config = SynthesizerConfig(
        spec_channels=_whole(values, 0),
        segment_size=_whole(values, 1, high=1 << 31),
        inter_channels=_whole(values, 2),
        hidden_channels=_whole(values, 3),
        filter_channels=_whole(values, 4),
        n_heads=_whole(values, 5),
        n_layers=_whole(values, 6, high=MAX_LAYERS),
        kernel_size=_whole(values, 7, high=MAX_LAYERS),
        p_dropout=float(dropout),
        resblock="1",
        resblock_kernel_sizes=_wholes(values[10], 10),
        resblock_dilation_sizes=tuple(_wholes(item, 11) for item in values[11]),
        upsample_rates=_wholes(values[12], 12),
        upsample_initial_channel=_whole(values, 13),
        upsample_kernel_sizes=_wholes(values[14], 14),
        n_speakers=n_speakers,
        gin_channels=_whole(values, 16),
        rate_hz=_rate_hz(values[17]),
        unit_width=unit_width,
        has_f0=has_f0,
    )
    _check(config)
    return config


def _check(config: SynthesizerConfig) -> None:
    rates, kernels = config.upsample_rates, config.upsample_kernel_sizes
    if len(rates) != len(kernels):
        raise ConfigProblem(f"has {len(rates)} upsampling rates but {len(kernels)} upsampling kernels")
    if len(config.resblock_kernel_sizes) != len(config.resblock_dilation_sizes):
        raise ConfigProblem("has not one list of dilations for each residual kernel")
    if config.hop_samples * FRAMES_PER_S != config.rate_hz:
        raise ConfigProblem(
            f"upsamples {config.hop_samples} times; a rate of {config.rate_hz} Hz takes {config.rate_hz / FRAMES_PER_S:g} times"
        )
    for rate, kernel in zip(rates, kernels, strict=True):
        if kernel < rate or (kernel - rate) % 2:
            raise ConfigProblem(f"has an upsampling kernel of {kernel} that does not fit its rate of {rate}")
    if config.has_f0 and any(stride > 1 and stride % 2 for stride in noise_strides(rates)):
        raise ConfigProblem(f"has upsampling rates {rates} that leave an odd stride for the excitation")
    if config.upsample_initial_channel % (1 << len(rates)):
        raise ConfigProblem(f"has {config.upsample_initial_channel} channels, which {len(rates)} upsampling stages cannot halve")
    if config.inter_channels % 2 or config.hidden_channels % config.n_heads:
        raise ConfigProblem("has channels that do not divide by two halves or by its attention heads")
    if any(kernel % 2 == 0 for kernel in config.resblock_kernel_sizes):
        raise ConfigProblem("has an even residual kernel")


def noise_strides(upsample_rates: Sequence[int]) -> tuple[int, ...]:
    """Return by how much the excitation is thinned out for each upsampling stage; 1 at the last."""
    return tuple(math.prod(upsample_rates[i + 1 :]) for i in range(len(upsample_rates)))


def _whole(values: Sequence[Any], at: int, high: int = MAX_CHANNELS) -> int:
    value = values[at]
    if type(value) is not int or not 0 < value <= high:
        raise ConfigProblem(f"has {_shown(value)} as value {at + 1}, not a whole number from 1 to {high}")
    return value


def _wholes(values: Any, at: int) -> tuple[int, ...]:
    if not isinstance(values, (list, tuple)) or not 0 < len(values) <= MAX_LIST:
        raise ConfigProblem(f"has {_shown(values)} in value {at + 1}, not a list of 1 to {MAX_LIST} whole numbers")
    return tuple(_whole([value] * (at + 1), at, high=4096) for value in values)


def _rate_hz(value: Any) -> int:
    if isinstance(value, str) and value.endswith("k") and value[:-1].isdecimal() and len(value) < 5:
        value = 1000 * int(value[:-1])
    if type(value) is not int or not MIN_RATE_HZ <= value <= MAX_RATE_HZ:
        raise ConfigProblem(f"has {_shown(value)} as its rate, not {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
    return value


def _shown(value: Any) -> str:
    if isinstance(value, (str, int, float, type(None))):
        text = repr(value)
        return text if len(text) <= 40 else text[:37] + "..."
    return f"a {type(value).__name__}"


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
    for layer in (*_encoder_layers(config), *_flow_layers(config), *_decoder_layers(config)):
        if layer.bias is not None:
            shapes[f"{layer.stem}.bias"] = (layer.bias,)
        if layer.normed and f"{layer.stem}.weight" not in has:
            shapes[f"{layer.stem}.weight_v"] = layer.weight
            shapes[f"{layer.stem}.weight_g"] = (layer.weight[0], *(1 for _ in layer.weight[1:]))
        else:
            shapes[f"{layer.stem}.weight"] = layer.weight
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


def _decoder_layers(config: SynthesizerConfig) -> Iterator[Layer]:
    channels = config.upsample_initial_channel
    yield Layer("dec.conv_pre", (channels, config.inter_channels, 7), channels)
    yield Layer("dec.cond", (channels, config.gin_channels, 1), channels)
    if config.has_f0:
        yield Layer("dec.m_source.l_linear", (1, 1), 1)
    block = 0
    strides = noise_strides(config.upsample_rates)
    for i, (kernel, stride) in enumerate(zip(config.upsample_kernel_sizes, strides, strict=True)):
        yield Layer(f"dec.ups.{i}", (channels, channels // 2, kernel), channels // 2, True)
        channels //= 2
        if config.has_f0:
            yield Layer(f"dec.noise_convs.{i}", (channels, 1, 2 * stride if stride > 1 else 1), channels)
        for size, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True):
            for name in ("convs1", "convs2"):
                for j in range(len(dilations)):
                    yield Layer(f"dec.resblocks.{block}.{name}.{j}", (channels, channels, size), channels, True)
            block += 1
    yield Layer("dec.conv_post", (1, channels, 7), None)
