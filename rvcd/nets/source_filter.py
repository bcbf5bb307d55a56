"""A source-filter decoder: pulses and noise, coloured by a given spectral envelope and what a network adds to it.

The envelope says what is heard; the network, blocks of rvcd.nets.convnext, says by how much the target's voice differs from it,
how much of a sound is noise, and with which phase. So an untrained one speaks as a vocoder does (WORLD: Morise, Yokomori & Ozawa
2016), and training only adds to that. Each 5 ms have a filter of their own, of minimal phase (Oppenheim & Schafer,
"Discrete-time signal processing", 12.1) and a learned phase on top; what they give is overlapped and added.
Shapes: B batch, T frames (10 ms), L = T * HOP_SAMPLES samples, K = FFT_SAMPLES / 2 + 1 bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rvcd.formats.voice_config import SynthesizerConfig
from rvcd.nets.convnext import ConvNextBlock, ConvNextShape
from rvcd.nets.spectral_envelope import BANDS, band_centres_hz
from rvcd.nets.spectral_envelope import RATE_HZ as ENVELOPE_RATE_HZ

RATE_HZ = 24000
HOP_SAMPLES = 240
STEPS = 2
"""Filters a frame."""
STEP_SAMPLES = HOP_SAMPLES // STEPS
WINDOW_SAMPLES = 2 * STEP_SAMPLES
FFT_SAMPLES = 1024
MARGIN_SAMPLES = (WINDOW_SAMPLES - STEP_SAMPLES) // 2
"""What a window sees beyond its step, to each side."""
AHEAD_SAMPLES = 128
"""How far a filter's response may reach ahead of what excites it."""
TAIL_SAMPLES = MARGIN_SAMPLES + AHEAD_SAMPLES
"""A sample is complete with the filter whose middle lies so far behind it."""
HARMONIC_POINTS, NOISE_POINTS, PHASE_POINTS = 128, 64, 64
"""At how many frequencies, evenly spaced in mel, the network says something."""
KINDS = [HARMONIC_POINTS, NOISE_POINTS, NOISE_POINTS, PHASE_POINTS]
TOP_HZ = 11800.0
"""No harmonic above it."""
LOWEST_HZ, MIDDLE_HZ, MOST_HZ = 20.0, 200.0, 4000.0
"""Of a pitch."""
LEAST_LOG, MOST_LOG = -14.0, 5.0
"""Of a filter's magnitude."""


@dataclass(frozen=True)
class SourceFilterSizes:
    width: int
    inner_width: int
    blocks: tuple[ConvNextShape, ...]

    @property
    def lookahead_frames(self) -> int:
        return sum(shape.right for shape in self.blocks)


def sizes_of(config: SynthesizerConfig) -> SourceFilterSizes:
    """Return the network's sizes: every block but the last sees one frame of the future."""
    shapes = [ConvNextShape(config.kernel_size, 1, int(i < config.n_layers - 1)) for i in range(config.n_layers)]
    return SourceFilterSizes(config.hidden_channels, config.filter_channels, tuple(shapes))


class SourceFilterNet(nn.Module):
    """Envelope and pitch -> what the filters differ from the envelope by."""

    mean: Tensor
    spread: Tensor

    def __init__(self, sizes: SourceFilterSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.register_buffer("mean", torch.zeros(BANDS))
        self.register_buffer("spread", torch.ones(BANDS))
        self.enter = nn.Linear(BANDS + 2, sizes.width)
        self.blocks = nn.ModuleList(ConvNextBlock(shape, sizes.width, sizes.inner_width) for shape in sizes.blocks)
        self.norm = nn.LayerNorm(sizes.width)
        self.leave = nn.Linear(sizes.width, STEPS * sum(KINDS))

    def enter_frames(self, bands: Tensor, f0_hz: Tensor, voiced: Tensor) -> Tensor:
        """bands (B, T, BANDS) log10 powers, f0_hz, voiced (B, T) -> (B, T, W)."""
        pitch = torch.where(voiced, torch.log(f0_hz.clamp(LOWEST_HZ, MOST_HZ) / MIDDLE_HZ), torch.zeros_like(f0_hz))
        told = torch.stack((pitch, voiced.to(bands.dtype)), dim=2)
        return self.enter(torch.cat(((bands - self.mean) / self.spread, told), dim=2))  # type: ignore[no-any-return]

    def forward(self, bands: Tensor, f0_hz: Tensor, voiced: Tensor) -> Tensor:
        """As enter_frames() -> (B, T, STEPS * sum(KINDS))."""
        x = self.enter_frames(bands, f0_hz, voiced)
        for block in self.blocks:
            x = block(x)
        return self.leave(self.norm(x))  # type: ignore[no-any-return]


class Filters(nn.Module):
    """What a network says, and the envelope -> the filters of each step."""

    from_bands: Tensor
    points: Tensor
    noise_points: Tensor
    noisy: Tensor
    fold: Tensor

    def __init__(self) -> None:
        super().__init__()
        hz = torch.linspace(0, RATE_HZ / 2, FFT_SAMPLES // 2 + 1, dtype=torch.float64)
        self.register_buffer("from_bands", interpolation(band_centres_hz(), hz), persistent=False)
        self.register_buffer("points", interpolation(spaced_hz(HARMONIC_POINTS), hz), persistent=False)
        self.register_buffer("noise_points", interpolation(spaced_hz(NOISE_POINTS), hz), persistent=False)
        # Of a voiced sound's power, by WORLD's example: nothing much below 2 kHz, most of it at 8 kHz.
        share = ((hz - 2000) / 6000).clamp(0, 1) * 0.6 + 0.01
        self.register_buffer("noisy", share.float(), persistent=False)
        fold = torch.zeros(FFT_SAMPLES)
        fold[0], fold[FFT_SAMPLES // 2] = 1, 1
        fold[1 : FFT_SAMPLES // 2] = 2
        self.register_buffer("fold", fold, persistent=False)

    def forward(self, bands: Tensor, said: Tensor, voiced: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """said (B, T, STEPS * sum(KINDS)); bands (B, T + 2, BANDS), voiced (B, T + 2): with a frame more at both ends.

        Returns (B, T * STEPS, K), three: complex of pulses, real of noise, and of noise that comes and goes with the pulses.
        """
        voicing = glide(voiced.to(bands.dtype), STEPS)
        harmonic, steady, pulsed, turned = torch.split(said.reshape(len(said), -1, sum(KINDS)), KINDS, dim=2)
        base = (between_frames(bands) @ self.from_bands) * (math.log(10) / 2) + 0.5 * math.log(RATE_HZ / ENVELOPE_RATE_HZ)
        noisy = 1 + voicing[..., None] * (self.noisy - 1)
        of_noise = base + 0.5 * torch.log(noisy / 2)
        logs = [
            base + 0.5 * torch.log1p(-self.noisy) + harmonic @ self.points,
            of_noise + steady @ self.noise_points,
            of_noise + pulsed @ self.noise_points,
        ]
        pulses, noise, pulsed_noise = (log.clamp(LEAST_LOG, MOST_LOG) for log in logs)
        phase = self._minimal_phase(pulses) + turned @ self.noise_points
        return torch.polar(pulses.exp(), phase), noise.exp(), pulsed_noise.exp()

    def _minimal_phase(self, logs: Tensor) -> Tensor:
        """Return the phase that belongs to log magnitudes (..., K): their cepstrum, folded to one side."""
        cepstrum = torch.fft.irfft(logs, FFT_SAMPLES)
        phase: Tensor = torch.fft.rfft(cepstrum * self.fold).imag
        return phase


def spaced_hz(count: int) -> Tensor:
    """Return frequencies (count,) from 0 to half the rate, evenly spaced in mel."""
    top = 2595 * math.log10(1 + RATE_HZ / 2 / 700)
    return 700 * (10 ** (torch.linspace(0, top, count, dtype=torch.float64) / 2595) - 1)


def interpolation(points: Tensor, hz: Tensor) -> Tensor:
    """Return (len(points), len(hz)): linear between rising points, held at both ends."""
    above = torch.searchsorted(points, hz).clamp(1, len(points) - 1)
    share = ((hz - points[above - 1]) / (points[above] - points[above - 1])).clamp(0, 1)
    matrix = torch.zeros(len(points), len(hz), dtype=torch.float64)
    columns = torch.arange(len(hz))
    matrix[above - 1, columns] = 1 - share
    matrix[above, columns] += share
    return matrix.float()


def between_frames(bands: Tensor) -> Tensor:
    """(B, T + 2, C) at the middles of frames, one more at both ends -> (B, T * STEPS, C) at those of steps."""
    before, here, after = bands[:, :-2], bands[:, 1:-1], bands[:, 2:]
    return torch.stack((0.75 * here + 0.25 * before, 0.75 * here + 0.25 * after), dim=2).flatten(1, 2)


def filled_pitch(f0_hz: Tensor, voiced: Tensor) -> Tensor:
    """(B, T + 2) -> (B, T): an unvoiced frame has the pitch of the one after it where that is voiced, else of the one before."""
    here, before, after = voiced[:, 1:-1], voiced[:, :-2], voiced[:, 2:]
    middle = torch.full_like(f0_hz[:, 1:-1], MIDDLE_HZ)
    of_before = torch.where(before, f0_hz[:, :-2], middle)
    return torch.where(here, f0_hz[:, 1:-1], torch.where(after, f0_hz[:, 2:], of_before))


def glide(frames: Tensor, per_frame: int) -> Tensor:
    """(B, T + 2) at the middles of frames, one more at both ends -> (B, T * per_frame), linear between them."""
    at = (torch.arange(per_frame, device=frames.device, dtype=frames.dtype) + 0.5) / per_frame - 0.5
    here, before, after = frames[:, 1:-1, None], frames[:, :-2, None], frames[:, 2:, None]
    return torch.where(at < 0, here + (here - before) * at, here + (after - here) * at).flatten(1)


def excite(hz: Tensor, voiced: Tensor, noise: Tensor, start_cycles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """hz: filled_pitch(), voiced, (B, T + 2), noise (B, L) of variance 1, start_cycles (B, 1), float64.

    Returns pulses and pulsed noise, (B, L) each, of power 1 where voiced, and the phase after each sample, in cycles.
    The pulses are all harmonics below TOP_HZ, in phase: Dirichlet's kernel.
    """
    moved = glide(hz.double().clamp(LOWEST_HZ, MOST_HZ), HOP_SAMPLES)
    cycles = (torch.cumsum(moved / RATE_HZ, 1) + start_cycles) % 1.0
    amount = glide(voiced.to(noise.dtype), HOP_SAMPLES)
    count = torch.floor(TOP_HZ / moved)
    turn = cycles - torch.round(cycles)
    near = turn.abs() < 1e-6
    safe = torch.where(near, torch.full_like(turn, 0.25), turn)
    kernel = torch.sin(math.pi * (2 * count + 1) * safe) / (2 * torch.sin(math.pi * safe)) - 0.5
    pulses = torch.where(near, count, kernel) * torch.sqrt(2 / count)
    wave = (1 + torch.cos(2 * math.pi * turn)) * math.sqrt(2 / 3)
    return pulses.to(noise.dtype) * amount, noise * (1 + amount * (wave.to(noise.dtype) - 1)), cycles


def filtered_pieces(sources: tuple[Tensor, Tensor, Tensor], filters: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Sources (B, MARGIN + T * HOP + MARGIN), filters (B, T * STEPS, K) -> (B, T * STEPS, FFT_SAMPLES).

    Each step's part of the sources through its filters. Piece m begins m * STEP_SAMPLES - TAIL_SAMPLES behind the first frame's.
    """
    window = torch.hann_window(WINDOW_SAMPLES, device=sources[0].device)
    total: Tensor | None = None
    for source, filt in zip(sources, filters, strict=True):
        frames = source.unfold(1, WINDOW_SAMPLES, STEP_SAMPLES) * window
        spectrum = torch.fft.rfft(F.pad(frames, (AHEAD_SAMPLES, FFT_SAMPLES - WINDOW_SAMPLES - AHEAD_SAMPLES))) * filt
        total = spectrum if total is None else total + spectrum
    assert total is not None
    pieces: Tensor = torch.fft.irfft(total, FFT_SAMPLES)
    return pieces


def overlap_add(pieces: Tensor) -> Tensor:
    """(B, M, FFT_SAMPLES) -> (B, (M - 1) * STEP_SAMPLES + FFT_SAMPLES)."""
    B, M, _ = pieces.shape
    length = (M - 1) * STEP_SAMPLES + FFT_SAMPLES
    return F.fold(pieces.transpose(1, 2), (1, length), (1, FFT_SAMPLES), stride=(1, STEP_SAMPLES)).view(B, length)


class SourceFilter(nn.Module):
    """Envelope, pitch and noise -> samples, for a whole recording. rvcd.engine.source_filter_decoder streams the same."""

    hop = HOP_SAMPLES
    m_source = None
    """It makes its own excitation."""

    def __init__(self, sizes: SourceFilterSizes) -> None:
        super().__init__()
        self.net, self.filters = SourceFilterNet(sizes), Filters()

    def forward(self, bands: Tensor, f0_hz: Tensor, voiced: Tensor, noise: Tensor, start_cycles: Tensor | None = None) -> Tensor:
        """bands (B, T, BANDS), f0_hz, voiced (B, T), noise (B, L), start_cycles (B, 1) float64 or None for 0 -> (B, L)."""
        return self.render(bands, self.net(bands, f0_hz, voiced), f0_hz, voiced, noise, start_cycles)

    def render(
        self, bands: Tensor, said: Tensor, f0_hz: Tensor, voiced: Tensor, noise: Tensor, start_cycles: Tensor | None = None
    ) -> Tensor:
        """As forward(), with what the network says, (B, T, STEPS * sum(KINDS))."""
        start = torch.zeros((len(bands), 1), dtype=torch.float64, device=bands.device) if start_cycles is None else start_cycles
        hz, around = held(filled_pitch(held(f0_hz), held(voiced))), held(voiced)
        pulses, pulsed, _ = excite(hz, around, noise, start)
        sources = tuple(F.pad(source, (MARGIN_SAMPLES, MARGIN_SAMPLES)) for source in (pulses, noise, pulsed))
        added = overlap_add(filtered_pieces(sources, self.filters(held(bands), said, around)))  # type: ignore[arg-type]
        return added[:, TAIL_SAMPLES : TAIL_SAMPLES + noise.shape[1]]


class UnitsAsLatents(nn.Module):
    """Stands in for an enc_p where the units are what the decoder takes."""

    def pack(self, dtype: torch.dtype) -> None:
        """There is nothing to pack."""

    def start(self, context_frames: int) -> list[Any]:
        """Nothing is remembered."""
        return []

    def step(self, units: Tensor, coarse: Tensor | None, memory: list[Any], final: int) -> tuple[Tensor, Tensor]:
        """(1, T, unit_width) -> (1, unit_width, T), and minus infinity: no noise."""
        return self(units, coarse)  # type: ignore[no-any-return]

    def forward(self, units: Tensor, coarse: Tensor | None = None) -> tuple[Tensor, Tensor]:
        latents = units.transpose(1, 2)
        return latents, torch.full_like(latents, -math.inf)


def held(frames: Tensor) -> Tensor:
    """(B, T, ...) -> (B, T + 2, ...): the first and the last are there twice."""
    return torch.cat((frames[:, :1], frames, frames[:, -1:]), dim=1)
