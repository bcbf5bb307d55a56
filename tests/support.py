"""Small honest models for tests of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rvcd.engine.pitch import FRAME_SAMPLES, PitchTrack
from rvcd.engine.voice_stream import Voice
from rvcd.formats.voice_config import SynthesizerConfig, Vocoder
from rvcd.formats.voice_file import read_voice
from rvcd.formats.voice_header import VoiceSpec
from rvcd.nets.envelope_encoder import EnvelopeEncoder
from rvcd.nets.spectral_envelope import BANDS
from rvcd.nets.synthesizer import Synthesizer, build_synthesizer

PARITY = Path(__file__).parent / "data" / "parity"
VOICES = sorted(path.stem for path in PARITY.glob("v*_*.pth"))


def parity_voice(stem: str) -> tuple[Synthesizer, dict[str, np.ndarray]]:
    """Return one of upstream's tiny voices and what upstream computed with it."""
    path = PARITY / f"{stem}.pth"
    file = read_voice(path)
    return build_synthesizer(file.spec.config, file.weights, path=str(path)), dict(np.load(PARITY / f"{stem}.npz"))


def small_config(**changes: object) -> SynthesizerConfig:
    """A 40 kHz voice with f0 of a few thousand parameters."""
    values: dict[str, object] = {
        "spec_channels": 1025, "segment_size": 32, "inter_channels": 16, "hidden_channels": 16, "filter_channels": 24,
        "n_heads": 2, "n_layers": 2, "kernel_size": 3, "p_dropout": 0.0, "resblock": "1", "resblock_kernel_sizes": (3, 7, 11),
        "resblock_dilation_sizes": ((1, 3, 5),) * 3, "upsample_rates": (10, 10, 2, 2), "upsample_initial_channel": 32,
        "upsample_kernel_sizes": (16, 16, 4, 4), "n_speakers": 2, "gin_channels": 8, "rate_hz": 40000, "unit_width": 24,
        "has_f0": True,
    }  # fmt: skip
    return SynthesizerConfig(**{**values, **changes})  # type: ignore[arg-type]


def small_voice(name: str = "small", seed: int = 1, **changes: object) -> Voice:
    """A voice with seeded random weights, loud enough to measure."""
    config = small_config(**changes)
    torch.manual_seed(seed)
    model = Synthesizer(config).eval().requires_grad_(False)
    spec = VoiceSpec(
        path=Path(f"{name}.pth"), name=name, version="v2", rate_hz=config.rate_hz, has_f0=config.has_f0, speakers=2,
        speaker_names=(), unit_width=config.unit_width, epochs="", size_bytes=0, vocoder="HiFi-GAN", embedder="", config=config,
    )  # fmt: skip
    return Voice.of(name, spec, model)


def source_filter_voice(seed: int = 1) -> Voice:
    """As small_voice(), of the built-in voice's kind: it takes the units of envelope_encoder()."""
    return small_voice(
        "source-filter", seed, vocoder=Vocoder.SOURCE_FILTER, unit_width=BANDS, inter_channels=BANDS, hidden_channels=24,
        filter_channels=32, n_layers=2, kernel_size=5, upsample_rates=(240,), upsample_kernel_sizes=(480,), rate_hz=24000,
    )  # fmt: skip


def envelope_encoder() -> EnvelopeEncoder:
    """The built-in voice's kind of content encoder, for a target and people who are all alike."""
    encoder = EnvelopeEncoder().eval().requires_grad_(False)
    for variance in (encoder.match.target_variance, encoder.match.usual_variance):
        variance.fill_(1.0)
    encoder.match.target_mean.fill_(-3.0)
    encoder.match.usual_level.fill_(-3.0)
    return encoder


@dataclass
class FakeUnitState:
    """Nothing is carried."""

    width: int

    def reset(self) -> None:
        pass

    def tensors(self) -> list[Tensor | None]:
        return []


class FakeEncoder:
    """Units from a fixed random filter over each 25 ms: no context, any width, like the real one in shape."""

    attends = hears_pitch = False
    before_samples, field_samples = 0, 400

    def __init__(self, seed: int = 0) -> None:
        self.kernel = torch.randn(768, 1, 400, generator=torch.Generator().manual_seed(seed)) * 0.3
        self.calls = 0
        self.heard: list[int] = []
        """Samples of each call of front_end()."""

    def start_front_end(self, memory_s: float) -> None:
        return None

    def front_end(self, audio_16k: Tensor, state: object = None) -> Tensor:
        self.heard.append(audio_16k.shape[1])
        return torch.tanh(F.conv1d(audio_16k[:, None], self.kernel, stride=320)).transpose(1, 2)

    def start_units(self, unit_width: int, context_units: int, layer: int = 0) -> FakeUnitState:
        return FakeUnitState(unit_width)

    def step(self, features: Tensor, state: FakeUnitState, final: int, pitch: object = None) -> Tensor:
        self.calls += 1
        return features[..., : state.width]

    def per_frame(self, units: Tensor) -> Tensor:
        return units.repeat_interleave(2, dim=0)

    def units(self, audio_16k: Tensor, *, unit_width: int, layer: int = 0, pitch: object = None) -> Tensor:
        return self.front_end(audio_16k)[..., :unit_width]


class FakePitch:
    """A pitch method that hears 200 Hz wherever there is sound."""

    name, context_frames, lookahead_frames, grid_frames, step_frames = "fake", 4, 2, 1, 1

    def __init__(self, f0_hz: float = 200.0) -> None:
        self.f0_hz = f0_hz

    def estimate(self, audio_16k: np.ndarray) -> PitchTrack:
        frames = len(audio_16k) // FRAME_SAMPLES
        level = np.abs(np.asarray(audio_16k[: frames * FRAME_SAMPLES]).reshape(frames, FRAME_SAMPLES)).max(axis=1)
        voiced = level > 1e-3
        return PitchTrack(np.where(voiced, self.f0_hz, 0).astype(np.float32), voiced)


def speech_like(rate_hz: int, seconds: float, seed: int = 0) -> np.ndarray:
    """Harmonics at a gliding pitch with pauses and breath: voiced, unvoiced and silent stretches."""
    t = np.arange(round(rate_hz * seconds)) / rate_hz
    pitch = 150 + 50 * np.sin(2 * np.pi * 0.7 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / rate_hz
    voice = sum(np.sin(k * phase) / k for k in range(1, 12))
    loud = np.clip(np.sin(2 * np.pi * 1.3 * t) + 0.4, 0, 1)
    breath = np.random.default_rng(seed).standard_normal(len(t)) * 0.02
    return (0.2 * loud * (voice + breath)).astype(np.float32)
