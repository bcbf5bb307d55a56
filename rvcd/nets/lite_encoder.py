"""The small content encoder of the built-in voice: 16 kHz audio -> units, 50 a second, with two units of lookahead.

One network, one file; rvcd.nets.lite_encoder_file loads it. Log-mel features, then blocks of a depthwise convolution over time
and two dense layers (ConvNeXt, Liu et al. 2022), each with a residual connection. It does what the engine asks of
rvcd.nets.contentvec.ContentEncoder, at a hundredth of the work, and knows one small set of voices instead of all of RVC's.
Shapes: B batch, T samples, N units, W model width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rvcd.errors import ModelFileError
from rvcd.geometry import FRAMES_PER_UNIT
from rvcd.nets.contentvec_state import ENCODER_RATE_HZ, RECEPTIVE_FIELD_SAMPLES, UNIT_HOP_SAMPLES
from rvcd.nets.convnext import ConvNextBlock, ConvNextShape
from rvcd.nets.own_envelope import OwnEnvelope, OwnEnvelopeSizes
from rvcd.nets.rolling_buffer import Past
from rvcd.yielding import yield_point

LONG_BANDS, SHORT_BANDS = 80, 32
FEATURES = LONG_BANDS + 2 * SHORT_BANDS
FFT_SAMPLES = 512
SHORT_SAMPLES, SHORT_HOP_SAMPLES = 240, 160
POWER_FLOOR = 1e-10
LOWEST_HZ, HIGHEST_HZ = 40.0, 7800.0


@dataclass(frozen=True)
class LiteSizes:
    """own_envelope: None for an encoder whose units are its guess alone."""

    width: int
    inner_width: int
    unit_width: int
    blocks: tuple[ConvNextShape, ...]
    own_envelope: OwnEnvelopeSizes | None = None


@dataclass
class LiteState:
    """What a stream carries: the newest final inputs of each block's convolution, (1, W, block's left).

    speaker: what the final units told of the speaker's own envelope; None before the first, all zeros after a reset.
    """

    blocks: list[Past]
    speaker: Tensor | None = None

    def reset(self) -> None:
        """Forget the stream."""
        for block in self.blocks:
            block.reset()
        if self.speaker is not None:
            with torch.inference_mode():
                self.speaker.zero_()

    def tensors(self) -> list[Tensor | None]:
        """Where it is kept; None before the first step."""
        return [self.speaker, *(block.tensor for block in self.blocks)]


class LogMel(nn.Module):
    """Log powers in mel bands: of the unit's 25 ms, and of its two halves (15 ms each), which tell when a consonant bursts."""

    long_window: Tensor
    short_window: Tensor
    long_bands: Tensor
    short_bands: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, samples, bands in (("long", RECEPTIVE_FIELD_SAMPLES, LONG_BANDS), ("short", SHORT_SAMPLES, SHORT_BANDS)):
            window = torch.hann_window(samples, periodic=True)
            self.register_buffer(f"{name}_window", window / window.sum(), persistent=False)
            self.register_buffer(f"{name}_bands", mel_bands(bands), persistent=False)

    def forward(self, audio_16k: Tensor) -> Tensor:
        """(B, T >= 400) -> (B, floor((T - 400) / 320) + 1, FEATURES): about -1 (silence) to 1."""
        units = audio_16k.unfold(1, RECEPTIVE_FIELD_SAMPLES, UNIT_HOP_SAMPLES)
        halves = units.unfold(2, SHORT_SAMPLES, SHORT_HOP_SAMPLES)
        long = self._powers(units, self.long_window) @ self.long_bands
        short = (self._powers(halves, self.short_window) @ self.short_bands).flatten(2)
        return torch.log10(torch.cat((long, short), dim=2) + POWER_FLOOR) / 5 + 1

    def _powers(self, frames: Tensor, window: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(frames * window, FFT_SAMPLES)
        return spectrum.real.square() + spectrum.imag.square()  # type: ignore[no-any-return]


def mel_bands(count: int) -> Tensor:
    """Return triangles (FFT_SAMPLES / 2 + 1, count), evenly spaced in mel = 2595 log10(1 + f / 700) (O'Shaughnessy 1987)."""
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (LOWEST_HZ, HIGHEST_HZ))
    edges_hz = 700 * (10 ** (torch.linspace(low, high, count + 2, dtype=torch.float64) / 2595) - 1)
    bins_hz = torch.arange(FFT_SAMPLES // 2 + 1, dtype=torch.float64)[:, None] * ENCODER_RATE_HZ / FFT_SAMPLES
    rising = (bins_hz - edges_hz[:-2]) / (edges_hz[1:-1] - edges_hz[:-2])
    falling = (edges_hz[2:] - bins_hz) / (edges_hz[2:] - edges_hz[1:-1])
    triangles = torch.minimum(rising, falling).clamp_min(0)
    # The lowest bands are narrower than one bin: each takes the bin that is nearest to its centre.
    nearest = (bins_hz - edges_hz[1:-1]).abs().argmin(dim=0)
    triangles[nearest, torch.arange(count)] = triangles[nearest, torch.arange(count)].clamp_min(0.5)
    return triangles.float()


class LiteEncoder(nn.Module):
    """Audio -> units of one width."""

    attends = False
    """A unit depends on what its convolutions reach, which a stream remembers exactly."""
    hears_pitch = False
    before_samples, field_samples = 0, RECEPTIVE_FIELD_SAMPLES
    """What a unit hears: so much before its first sample, and so much from there on."""

    def __init__(self, sizes: LiteSizes, path: str = "content encoder") -> None:
        super().__init__()
        self.sizes, self.path = sizes, path
        self.log_mel = LogMel()
        self.enter = nn.Linear(FEATURES, sizes.width)
        self.blocks = nn.ModuleList(ConvNextBlock(shape, sizes.width, sizes.inner_width) for shape in sizes.blocks)
        self.norm = nn.LayerNorm(sizes.width)
        self.leave = nn.Linear(sizes.width, sizes.unit_width)
        self.own_envelope = OwnEnvelope(sizes.own_envelope, FEATURES) if sizes.own_envelope else None

    @property
    def lookahead_units(self) -> int:
        """Future units that one may see."""
        return sum(shape.right for shape in self.sizes.blocks)

    def check_units(self, unit_width: int, layer: int = 0) -> None:
        """Raise ModelFileError when it cannot make units of this width, or when another layer (not 0) is asked for."""
        if layer:
            raise ModelFileError(f"{self.path}: makes units of one kind only, but the voice takes those of layer {layer}")
        if unit_width != self.sizes.unit_width:
            raise ModelFileError(
                f"{self.path}: makes units of width {self.sizes.unit_width}, but the voice takes width {unit_width}"
            )

    def pack(self, dtype: torch.dtype) -> None:
        """Compute the blocks' dense layers, nearly all of the weights, in dtype from now on; the rest stays float32."""
        for block in self.blocks:
            block.pack(dtype)  # type: ignore[operator]
            yield_point()

    def start_front_end(self, memory_s: float) -> None:
        """The features of a unit depend on its own audio only: nothing is carried."""

    def front_end(self, audio_16k: Tensor, state: None = None) -> Tensor:
        """(B, T >= 400) -> (B, floor((T - 400) / 320) + 1, FEATURES)."""
        return self.log_mel(audio_16k)  # type: ignore[no-any-return]

    def hidden(self, features: Tensor) -> Tensor:
        """(B, N, FEATURES) -> (B, N, W), normed: what `leave` turns into units."""
        x: Tensor = self.enter(features)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)  # type: ignore[no-any-return]

    def per_frame(self, units: Tensor) -> Tensor:
        """(N, width) -> (2 N, width): each unit twice, as RVC does."""
        return units.repeat_interleave(FRAMES_PER_UNIT, dim=0)

    def start_units(self, unit_width: int, context_units: int, layer: int = 0) -> LiteState:
        """Return what a stream of step() calls carries; its reach into the past is the network's own, whatever context_units."""
        self.check_units(unit_width, layer)
        return LiteState([Past(shape.left, 2, zeros=True) for shape in self.sizes.blocks])

    def step(self, features: Tensor, state: LiteState, final: int, pitch: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(1, N, FEATURES) that follow the state's final rows -> (1, N, unit_width); the first `final` of them become final.

        With lookahead_units rows behind the final ones they equal the offline ones. pitch: not heard.
        """
        x: Tensor = self.enter(features)
        for block, past in zip(self.blocks, state.blocks, strict=True):
            x = block(x, past, final)
        units: Tensor = self.leave(self.norm(x))
        if self.own_envelope is None:
            return units
        leaned, speaker = self.own_envelope(features, units, state.speaker)
        if final and state.speaker is None:
            state.speaker = speaker[:, final - 1].clone()
        elif final and state.speaker is not None:
            state.speaker.copy_(speaker[:, final - 1])
        return leaned  # type: ignore[no-any-return]

    def units(self, audio_16k: Tensor, *, unit_width: int, layer: int = 0, pitch: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Offline, whatever the pitch: (B, T >= 400) -> (B, floor((T - 400) / 320) + 1, unit_width)."""
        self.check_units(unit_width, layer)
        return self.from_features(self.front_end(audio_16k))

    def from_features(self, features: Tensor) -> Tensor:
        """(B, N, FEATURES) -> (B, N, unit_width)."""
        units: Tensor = self.leave(self.hidden(features))
        return units if self.own_envelope is None else self.own_envelope(features, units)[0]
