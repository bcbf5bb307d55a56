"""A source-filter decoder: pulses and noise, coloured by a given spectral envelope and what a network adds to it.

The envelope says what is heard. It is made more like the target's own first (rvcd.nets.envelope_converter); then a network
(rvcd.nets.frame_net) says by how much the target's voice differs from it, how much of a sound is noise, and with which phase. So
an untrained one speaks as a vocoder does (WORLD: Morise, Yokomori & Ozawa 2016), and training only adds to that. Each 5 ms have a
filter of their own, of minimal phase (Oppenheim & Schafer, "Discrete-time signal processing", 12.1) and a learned phase on top;
what they give is overlapped and added.
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
from rvcd.formats.voice_shapes import CONVERT_WIDENING
from rvcd.nets.envelope_converter import NET_LOOKAHEAD_FRAMES, EnvelopeConverter
from rvcd.nets.frame_net import LOWEST_HZ, MIDDLE_HZ, MOST_HZ, FrameNet, FrameNetSizes
from rvcd.nets.spectral_envelope import RATE_HZ as ENVELOPE_RATE_HZ
from rvcd.nets.spectral_envelope import band_centres_hz

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
LEAST_LOG, MOST_LOG = -14.0, 5.0
"""Of a filter's magnitude."""
LOOKAHEAD_FRAMES = 2
"""What of the future the network sees."""


@dataclass(frozen=True)
class SourceFilterSizes:
    """convert: of the network that makes the envelope the target's. net: of the one that says what the filters add to it."""

    convert: FrameNetSizes
    net: FrameNetSizes


def sizes_of(config: SynthesizerConfig) -> SourceFilterSizes:
    """Return the networks' sizes. RVC's config has no place for the first one, so what it says of upsampling stands for it."""
    width = config.upsample_initial_channel
    convert = FrameNetSizes.of(width, CONVERT_WIDENING * width, config.resblock_kernel_sizes, NET_LOOKAHEAD_FRAMES)
    kernels = [config.kernel_size] * config.n_layers
    return SourceFilterSizes(convert, FrameNetSizes.of(config.hidden_channels, config.filter_channels, kernels, LOOKAHEAD_FRAMES))


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
        self.convert, self.net = EnvelopeConverter(sizes.convert), FrameNet(sizes.net, STEPS * sum(KINDS))
        self.filters = Filters()

    def forward(self, bands: Tensor, f0_hz: Tensor, voiced: Tensor, noise: Tensor, start_cycles: Tensor | None = None) -> Tensor:
        """bands (B, T, BANDS), f0_hz, voiced (B, T), noise (B, L), start_cycles (B, 1) float64 or None for 0 -> (B, L)."""
        converted = self.convert(bands, f0_hz, voiced)
        return self.render(converted, self.net(converted, f0_hz, voiced), f0_hz, voiced, noise, start_cycles)

    def render(
        self, bands: Tensor, said: Tensor, f0_hz: Tensor, voiced: Tensor, noise: Tensor, start_cycles: Tensor | None = None
    ) -> Tensor:
        """As forward(), of an envelope that sounds as the target's do, and what `net` says of it, (B, T, STEPS * sum(KINDS))."""
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
