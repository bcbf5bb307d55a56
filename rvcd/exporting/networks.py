"""What is exported: networks whose inputs are all that a program must give them, and whose only output is what they make.

Shapes: T frames (10 ms), N units (20 ms), L = T * hop samples at the voice's rate, H harmonics of its excitation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rvcd.engine.pitch.track import COARSE_BINS, F0_MAX_HZ, F0_MIN_HZ
from rvcd.exporting.onnx_file import Exportable
from rvcd.nets.contentvec import ContentEncoder
from rvcd.nets.excitation import SourceState
from rvcd.nets.refinegan import RefineGan
from rvcd.nets.synthesizer import PRIOR_NOISE_SCALE, Synthesizer

Inputs = dict[str, Tensor]
"""By name, in the order of the network's parameters."""


class ExportedVoice(Exportable):
    """Units and pitch -> samples of one voice, enc_p to decoder.

    units (1, T, unit width), float32, one for each frame: two for each unit of the encoder.
    f0_hz (1, T), 0 where unvoiced; its coarse pitch is computed inside.
    speaker (1,), int64, 0..
    prior_noise (1, inter, T) and source_noise (L, H): standard normal, or zeros for none.
    activation_noise (1,): how much of a RefineGAN's inner noise is added: 1 as it was trained, 0 for none. It is drawn inside.
    A voice without f0 takes units, speaker and prior_noise only.
    """

    def __init__(self, synthesizer: Synthesizer) -> None:
        super().__init__()
        self.voice = synthesizer
        names = ["units", "speaker", "prior_noise"]
        if synthesizer.dec.m_source is not None:
            names[1:1] = ["f0_hz"]
            names.append("source_noise")
        if isinstance(synthesizer.dec, RefineGan):
            names.append("activation_noise")
        self.names = tuple(names)
        """Of its inputs, in order."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return samples (1, L)."""
        given = dict(zip(self.names, inputs, strict=True))
        voice = self.voice
        speaker = voice.emb_g.weight[given["speaker"]][:, :, None]
        f0_hz = given.get("f0_hz")
        mean, log_std = voice.enc_p(given["units"], None if f0_hz is None else _coarse_pitch(f0_hz))
        latents = voice.flow(mean + torch.exp(log_std) * given["prior_noise"] * PRIOR_NOISE_SCALE, speaker)
        source = None
        if f0_hz is not None and voice.dec.m_source is not None:
            pitch = f0_hz[0]
            source = voice.dec.m_source.of(pitch, pitch > 0, given["source_noise"], SourceState(), final=0)[None, None]
        if not isinstance(voice.dec, RefineGan):
            return voice.dec(latents, source, speaker)[:, 0]  # type: ignore[no-any-return]
        amount = given["activation_noise"]

        def drawn(stage: int, block: int, at: int, shape: tuple[int, int]) -> Tensor:
            return torch.randn(shape) * amount

        return voice.dec(latents, source, speaker, drawn)[:, 0]  # type: ignore[no-any-return]

    def example(self, frames: int, seed: int) -> Inputs:
        """Return random inputs of T frames: voiced and unvoiced ones, all noise of the seed but a RefineGAN's, which is off."""
        config, random = self.voice.config, torch.Generator().manual_seed(seed)
        f0_hz = 80 + 400 * torch.rand(1, frames, generator=random)
        f0_hz[:, frames // 3 : frames // 2] = 0.0
        source = self.voice.dec.m_source
        harmonics = 0 if source is None else source.harmonics
        made = {
            "units": torch.randn(1, frames, config.unit_width, generator=random),
            "f0_hz": f0_hz,
            "speaker": torch.randint(config.n_speakers, (1,), generator=random),
            "prior_noise": torch.randn(1, config.inter_channels, frames, generator=random),
            "source_noise": torch.randn(frames * config.hop_samples, harmonics, generator=random),
            "activation_noise": torch.zeros(1),
        }
        return {name: made[name] for name in self.names}


class ExportedEncoder(Exportable):
    """audio (1, samples), float32 at 16 kHz, at least 400 -> units (1, N, unit width), 50 a second."""

    names = ("audio",)

    def __init__(self, encoder: ContentEncoder, unit_width: int, layer: int) -> None:
        super().__init__()
        self.encoder, self.unit_width, self.layer = encoder, unit_width, layer

    def forward(self, audio: Tensor) -> Tensor:
        return self.encoder.units(audio, unit_width=self.unit_width, layer=self.layer)

    def example(self, samples: int, seed: int) -> Inputs:
        """Return random audio."""
        return {"audio": 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))}


def _coarse_pitch(f0_hz: Tensor) -> Tensor:
    """Return what rvcd.engine.pitch.track.coarse_pitch does, as tensor operations."""
    low, high = (1127 * math.log1p(hz / 700) for hz in (F0_MIN_HZ, F0_MAX_HZ))
    mel = 1127 * torch.log(1 + f0_hz.double() / 700)
    scaled = (mel - low) * ((COARSE_BINS - 2) / (high - low)) + 1
    return torch.round(scaled.clamp(1, COARSE_BINS - 1)).long()
