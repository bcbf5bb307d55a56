"""What drives a voice's decoder: a sine or harmonics of the pitch with a little noise, mixed by learned weights.

Shapes: T frames (10 ms), L = T * hop samples, H harmonics. Phases are summed in float64: no drift over hours, and the same
however the frames are cut.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rvcd.formats.voice_config import SynthesizerConfig

SINE_AMPLITUDE = 0.1
VOICED_NOISE_STD = 0.003


@dataclass
class SourceState:
    """Where an excitation's stream is.

    phase_cycles (), float64: of the fundamental, at the first sample not yet made. previous_hz (), float64: pitch of the frame
    before it, 0 where unvoiced; it counts once there was one (started). start_cycles (H,): what each harmonic's phase is ahead
    by; None for nothing. All are updated in place and lie where the pitch does.
    """

    start_cycles: Tensor | None = None
    phase_cycles: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    previous_hz: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    started: bool = False

    def reset(self) -> None:
        """Forget the stream."""
        self.started = False
        with torch.inference_mode():
            self.phase_cycles.zero_()

    def move_to(self, device: torch.device) -> None:
        """Be on the device that the pitch comes from."""
        if self.phase_cycles.device != device:
            self.phase_cycles, self.previous_hz = self.phase_cycles.to(device), self.previous_hz.to(device)
            self.start_cycles = None if self.start_cycles is None else self.start_cycles.to(device)

    def tensors(self) -> list[Tensor]:
        """What a step changes."""
        return [self.phase_cycles, self.previous_hz]


class Excitation(nn.Module, ABC):
    """Pitch -> excitation. glides: whether the pitch moves linearly between the middles of two frames, or stands within each."""

    glides = False

    def __init__(self, harmonics: int, hop: int, rate_hz: float) -> None:
        super().__init__()
        self.harmonics, self.hop, self.rate_hz = harmonics, hop, rate_hz

    @abstractmethod
    def forward(self, sines: Tensor) -> Tensor:
        """The learned merge: (..., L, H) -> (..., L)."""

    def of(self, f0_hz: Tensor, voiced: Tensor, noise: Tensor | None, state: SourceState, *, final: int | None = None) -> Tensor:
        """Return the merged excitation (L,) of T frames, and move the state to the end of the first `final` (default: all).

        f0_hz (T,), voiced (T,) bool, noise (L, H) standard normal or None for none.
        """
        state.move_to(f0_hz.device)
        sines = glide if self.glides else stand
        made: Tensor = self(sines(f0_hz, voiced, noise, self, state, f0_hz.shape[0] if final is None else final))
        return made


class HarmonicSource(Excitation):
    """SineGen of NSF (Wang et al. 2019) as RVC has it, with one harmonic; Applio's MRF HiFi-GAN has nine."""

    def __init__(self, harmonics: int, hop: int, rate_hz: float) -> None:
        super().__init__(harmonics, hop, rate_hz)
        self.l_linear = nn.Linear(harmonics, 1)

    def forward(self, sines: Tensor) -> Tensor:
        return torch.tanh(self.l_linear(sines)).squeeze(-1)


class GlidingSource(Excitation):
    """RefineGAN's: one sine whose pitch glides, also to and from 0."""

    glides = True

    def __init__(self, hop: int, rate_hz: float) -> None:
        super().__init__(1, hop, rate_hz)
        self.merge = nn.Sequential(nn.Linear(1, 1, bias=False))

    def forward(self, sines: Tensor) -> Tensor:
        return torch.tanh(self.merge(sines)).squeeze(-1)


def source_of(config: SynthesizerConfig) -> Excitation | None:
    """Return the excitation, unloaded, of a voice of these sizes; None without f0."""
    if not config.has_f0:
        return None
    if config.vocoder.is_refinegan:
        return GlidingSource(config.hop_samples, config.rate_hz)
    return HarmonicSource(config.vocoder.harmonics, config.hop_samples, config.rate_hz)


def stand(f0_hz: Tensor, voiced: Tensor, noise: Tensor | None, source: Any, state: SourceState, final: int) -> Tensor:
    """Return the sines (L, H) of a pitch that stands within each frame.

    Voiced: amplitude 0.1 plus noise of 0.003; unvoiced: noise of 0.1 / 3. The phase stands still while unvoiced. Harmonics above
    half the rate alias, as they did in training.
    """
    hop = source.hop
    cycles_per_sample = torch.where(voiced, f0_hz, torch.zeros_like(f0_hz)).double() / source.rate_hz
    per_frame = cycles_per_sample * hop
    ends = torch.cumsum(per_frame, 0) + state.phase_cycles
    starts = (ends - per_frame) % 1.0
    steps = torch.arange(1, hop + 1, device=f0_hz.device, dtype=torch.float64)
    phase = starts[:, None] + cycles_per_sample[:, None] * steps[None, :]
    if final:
        state.phase_cycles.copy_(ends[final - 1] % 1.0)
    return _noisy_sines(phase.reshape(-1), voiced.repeat_interleave(hop), noise, source.harmonics, state, f0_hz.dtype)


def glide(f0_hz: Tensor, voiced: Tensor, noise: Tensor | None, source: Any, state: SourceState, final: int) -> Tensor:
    """Return the sine (L, 1) of a pitch that moves linearly from the middle of each frame to that of the next.

    Before the first frame and behind the last it stands. A sample is voiced where its pitch is above 0.
    """
    if not f0_hz.shape[0]:
        return f0_hz.new_zeros((0, source.harmonics))
    hop = source.hop
    pitch = torch.where(voiced, f0_hz, torch.zeros_like(f0_hz)).double()
    before = state.previous_hz[None] if state.started else pitch[:1]
    framed = torch.cat((before, pitch, pitch[-1:]))
    at = (torch.arange(hop, device=f0_hz.device, dtype=torch.float64) + 0.5) / hop - 0.5
    earlier, here, later = framed[:-2, None], framed[1:-1, None], framed[2:, None]
    f0 = torch.where(at < 0, here + (here - earlier) * at, here + (later - here) * at).float().reshape(-1)
    cycles_per_sample = f0.double() / source.rate_hz
    phase = torch.cumsum(cycles_per_sample, 0) + state.phase_cycles
    if final:
        state.phase_cycles.copy_(phase[final * hop - 1] % 1.0)
        state.previous_hz.copy_(pitch[final - 1])
        state.started = True
    return _noisy_sines(phase, f0 > 0, noise, source.harmonics, state, f0_hz.dtype)


def _noisy_sines(
    phase_cycles: Tensor, voiced: Tensor, noise: Tensor | None, harmonics: int, state: SourceState, dtype: torch.dtype
) -> Tensor:
    """phase_cycles (L,) of the fundamental, voiced (L,) -> (L, H)."""
    numbers = torch.arange(1, harmonics + 1, device=phase_cycles.device, dtype=torch.float64)
    phases = (phase_cycles % 1.0)[:, None] * numbers
    if state.start_cycles is not None:
        phases = phases + state.start_cycles.to(phases)
    sines = torch.sin(2 * math.pi * (phases % 1.0)).to(dtype) * SINE_AMPLITUDE * voiced[:, None]
    if noise is None:
        return sines
    std = torch.where(voiced, VOICED_NOISE_STD, SINE_AMPLITUDE / 3)
    return sines + noise.view(sines.shape) * std[:, None]
