"""The sizes of an RVC voice, read from its 18 positional values. Stdlib only."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CONFIG_LENGTH = 18
UNIT_WIDTH_AT = 17
"""Where a fork of RVC (ddPn08's) puts the width of the units in between, as the last but one of 19 values."""
FLOW_COUPLINGS, FLOW_KERNEL, FLOW_LAYERS = 4, 5, 3
"""The coupling flow of RVC: not in the config, the same in every voice."""
MAX_CHANNELS, MAX_LAYERS, MAX_LIST = 16_384, 64, 16
FRAMES_PER_S = 100
REFINEGAN_SOURCE_BITS = 5
"""Its excitation's first convolution makes 2^-5 of the network's channels."""
MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000


class Vocoder(str, enum.Enum):
    """What makes samples of latents. The value is what a voice's maker calls it."""

    HIFIGAN = "HiFi-GAN"
    """RVC's own, with a harmonic source where the voice has f0."""
    MRF = "MRF HiFi-GAN"
    """Applio's: the same network under other names, with a source of nine harmonics."""
    REFINEGAN = "RefineGAN"
    """Applio's, since release 3.3.0."""
    REFINEGAN_329 = "RefineGAN of Applio 3.2.9"
    """The first released one, another network under the same label."""

    SOURCE_FILTER = "rvcd source-filter"
    """rvcd's own, of the built-in voice: pulses and noise coloured by its units, which are spectral envelopes."""

    @property
    def is_refinegan(self) -> bool:
        return self in (Vocoder.REFINEGAN, Vocoder.REFINEGAN_329)

    @property
    def harmonics(self) -> int:
        """Sines in its excitation."""
        return 9 if self is Vocoder.MRF else 1


class ConfigProblem(Exception):
    """The numbers do not describe a voice. The message continues '<path>: its config '."""


@dataclass(frozen=True)
class SynthesizerConfig:
    """Every size of one voice's network: n_speakers, unit_width, has_f0 and vocoder from the tensors, the rest from `config`."""

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
    vocoder: Vocoder = Vocoder.HIFIGAN

    @property
    def hop_samples(self) -> int:
        """Samples of one 10 ms frame at the voice's rate."""
        return math.prod(self.upsample_rates)


def parse_config(
    values: Any, *, n_speakers: int, unit_width: int, has_f0: bool, vocoder: Vocoder = Vocoder.HIFIGAN
) -> SynthesizerConfig:
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
        vocoder=vocoder,
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
    _check_upsampling(config)
    smallest = 1 << (max(len(rates), REFINEGAN_SOURCE_BITS) if config.vocoder.is_refinegan else len(rates))
    if config.upsample_initial_channel % smallest:
        raise ConfigProblem(f"has {config.upsample_initial_channel} channels, which {len(rates)} upsampling stages cannot halve")
    if config.inter_channels % 2 or config.hidden_channels % config.n_heads:
        raise ConfigProblem("has channels that do not divide by two halves or by its attention heads")
    if any(kernel % 2 == 0 for kernel in config.resblock_kernel_sizes):
        raise ConfigProblem("has an even residual kernel")


def _check_upsampling(config: SynthesizerConfig) -> None:
    rates, vocoder = config.upsample_rates, config.vocoder
    for rate, kernel in zip(rates, config.upsample_kernel_sizes, strict=True):
        if vocoder.is_refinegan:
            break  # it has no such kernels
        odd_fits = vocoder is Vocoder.MRF and rate % 2 == 1 and kernel == 2 * rate
        if kernel < rate or ((kernel - rate) % 2 and not odd_fits):
            raise ConfigProblem(f"has an upsampling kernel of {kernel} that does not fit its rate of {rate}")
    if vocoder is Vocoder.HIFIGAN and config.has_f0 and any(stride > 1 and stride % 2 for stride in noise_strides(rates)):
        raise ConfigProblem(f"has upsampling rates {rates} that leave an odd stride for the excitation")


def upsample_padding(rate: int, kernel: int) -> int:
    """Return the padding of a transposed convolution that makes exactly `rate` samples of one."""
    return (rate + 1) // 2 if (kernel - rate) % 2 else (kernel - rate) // 2


def source_kernel(stride: int) -> int:
    """Return the length of the convolution that thins the excitation out by a stride; its padding is (kernel - stride) // 2."""
    return 2 * stride - stride % 2 if stride > 1 else 1


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
