"""The built-in voice's content encoder: 16 kHz audio and its pitch -> spectral envelopes as the target has them, 100 a second.

No network: what is heard is kept as it is (rvcd.nets.spectral_envelope), and moved to the target (rvcd.nets.speaker_match). It
does what the engine asks of rvcd.nets.contentvec.ContentEncoder; a unit of 20 ms holds the envelopes of its two frames.
rvcd.nets.envelope_encoder_file loads it. Shapes: B batch, T samples, N units.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rvcd.errors import ModelFileError
from rvcd.geometry import ENCODER_HOP_SAMPLES, FRAMES_PER_UNIT
from rvcd.nets.contentvec_state import RECEPTIVE_FIELD_SAMPLES, UNIT_HOP_SAMPLES
from rvcd.nets.speaker_match import SpeakerMatch
from rvcd.nets.spectral_envelope import BANDS, SIDE_SAMPLES, SLICE_SAMPLES, band_envelope, mel_triangles

MIDDLE_SAMPLES = ENCODER_HOP_SAMPLES // 2
"""Of a frame, behind its first sample."""


@dataclass
class EnvelopeState:
    """speaker: what the final frames told of who speaks; None before the first. started: whether it counts."""

    speaker: Tensor | None = None
    started: bool = False

    def reset(self) -> None:
        """Forget the stream."""
        self.started = False

    def tensors(self) -> list[Tensor | None]:
        """Where it is kept; None before the first step."""
        return [self.speaker]


class EnvelopeEncoder(nn.Module):
    """Audio and pitch -> envelopes."""

    triangles: Tensor
    attends = False
    """A unit depends on its own audio, and on who spoke before it."""
    hears_pitch = True
    before_samples = SIDE_SAMPLES - MIDDLE_SAMPLES
    field_samples = UNIT_HOP_SAMPLES - MIDDLE_SAMPLES + SIDE_SAMPLES
    """What a unit hears: so much before its first sample, and so much from there on."""

    def __init__(self, path: str = "content encoder") -> None:
        super().__init__()
        self.path, self.match = path, SpeakerMatch()
        self.register_buffer("triangles", mel_triangles(), persistent=False)

    def check_units(self, unit_width: int, layer: int = 0) -> None:
        """Raise ModelFileError when another layer (not 0) is asked for, or another width than that of its envelopes."""
        if layer:
            raise ModelFileError(f"{self.path}: makes units of one kind only, but the voice takes those of layer {layer}")
        if unit_width != BANDS:
            raise ModelFileError(
                f"{self.path}: makes envelopes of {BANDS} bands, but the voice takes units of width {unit_width}"
            )

    def pack(self, dtype: torch.dtype) -> None:
        """It computes in float32, and float64 where it sums up, always."""

    def start_front_end(self, memory_s: float) -> None:
        """A unit's slices of the audio are its own: nothing is carried."""

    def front_end(self, audio_16k: Tensor, state: None = None) -> Tensor:
        """(B, before_samples + T), T >= field_samples -> (B, floor((T - field_samples) / 320) + 1, 2 * SLICE_SAMPLES)."""
        frames = audio_16k.unfold(1, SLICE_SAMPLES, ENCODER_HOP_SAMPLES)
        units = frames.shape[1] // FRAMES_PER_UNIT
        return frames[:, : units * FRAMES_PER_UNIT].reshape(len(audio_16k), units, FRAMES_PER_UNIT * SLICE_SAMPLES)

    def start_units(self, unit_width: int, context_units: int, layer: int = 0) -> EnvelopeState:
        """Return what a stream of step() calls carries: who speaks, whatever context_units."""
        self.check_units(unit_width, layer)
        return EnvelopeState()

    def step(self, features: Tensor, state: EnvelopeState, final: int, pitch: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(1, N, 2 * SLICE_SAMPLES) that follow the final ones, and the pitch of their frames -> (1, N, 2 * BANDS).

        pitch: f0_hz (2 N,), voiced (2 N,) bool. The first `final` units become final.
        """
        if pitch is None:
            raise ValueError("this encoder hears the pitch")
        known = state.speaker if state.started else None
        frames, speaker = self.envelopes(features, pitch[0][None], pitch[1][None], known)
        if final:
            newest = speaker[:, FRAMES_PER_UNIT * final - 1]
            if state.speaker is None:
                state.speaker = newest.clone()
            else:
                state.speaker.copy_(newest)
            state.started = True
        return frames.reshape(1, -1, FRAMES_PER_UNIT * BANDS)

    def envelopes(self, features: Tensor, f0_hz: Tensor, voiced: Tensor, speaker: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, N, 2 * SLICE_SAMPLES), (B, 2 N) -> envelopes (B, 2 N, BANDS) and what is known of the speaker after each."""
        heard = band_envelope(features.reshape(-1, SLICE_SAMPLES), f0_hz.flatten(), voiced.flatten(), self.triangles)
        found: tuple[Tensor, Tensor] = self.match(heard.view(*f0_hz.shape, BANDS), f0_hz, voiced, speaker)
        return found

    def per_frame(self, units: Tensor) -> Tensor:
        """(N, 2 * BANDS) -> (2 N, BANDS)."""
        return units.reshape(-1, BANDS)

    def units(self, audio_16k: Tensor, *, unit_width: int, layer: int = 0, pitch: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Offline: (B, T >= 400), pitch of one or more frames, (B, frames) each -> (B, floor((T - 400) / 320) + 1, 2 * BANDS).

        What lies before and behind the audio counts as silence, and frames without a pitch as unvoiced.
        """
        self.check_units(unit_width, layer)
        behind = self.field_samples - RECEPTIVE_FIELD_SAMPLES
        features = self.front_end(F.pad(audio_16k, (self.before_samples, behind)))
        frames = FRAMES_PER_UNIT * features.shape[1]
        f0_hz, voiced = pitch or (audio_16k.new_zeros((len(audio_16k), 0)), audio_16k.new_zeros((len(audio_16k), 0)))
        missing = max(0, frames - f0_hz.shape[1])
        f0_hz, voiced = (F.pad(values.float(), (0, missing))[:, :frames] for values in (f0_hz, voiced))
        made, _ = self.envelopes(features, f0_hz, voiced > 0, None)
        return made.reshape(len(made), -1, FRAMES_PER_UNIT * BANDS)
