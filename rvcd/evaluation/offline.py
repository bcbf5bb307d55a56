"""The whole utterance in one pass with plain modules: the reference that streaming is measured against."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from rvcd.engine.dsp.noise import frame_noise
from rvcd.engine.pitch import PitchMethod, PitchTrack, coarse_pitch, fill_unvoiced, transpose
from rvcd.engine.pitch.autotune import A4_HZ, TuneState, Tuning, pulled, steer
from rvcd.engine.refinegan_decoder import activation_noise
from rvcd.engine.shaper import blend_units
from rvcd.engine.units import ContentEncoder
from rvcd.engine.voice_stream import PRIOR_STREAM, SOURCE_STREAM, Voice, start_cycles
from rvcd.geometry import ENCODER_HOP_SAMPLES, FRAMES_PER_UNIT
from rvcd.nets.contentvec_state import RECEPTIVE_FIELD_SAMPLES
from rvcd.nets.refinegan import RefineGan
from rvcd.params import Snapshot


@torch.inference_mode()
def convert_offline(
    audio_16k: NDArray[np.float32],
    encoder: ContentEncoder,
    pitch: PitchMethod,
    voice: Voice,
    snapshot: Snapshot,
    *,
    seed: int = 0,
    interpolate_unvoiced: bool = False,
) -> NDArray[np.float32]:
    """Convert audio (16 kHz) with full context everywhere; formant, gate, loudness and gains are left out.

    Returns len(audio) // 160 frames at the voice's rate, with the noise the streaming engine draws for the same frames.
    """
    frames = len(audio_16k) // ENCODER_HOP_SAMPLES // FRAMES_PER_UNIT * FRAMES_PER_UNIT
    audio_16k = audio_16k[: frames * ENCODER_HOP_SAMPLES]
    padded = np.pad(audio_16k, (0, max(0, RECEPTIVE_FIELD_SAMPLES - len(audio_16k))))
    synth, width = voice.synthesizer, voice.synthesizer.config.unit_width
    device = synth.emb_g.weight.device
    track = pitch.estimate(audio_16k)
    f0_hz, voiced = track.f0_hz[:frames], track.voiced[:frames]
    told = torch.from_numpy(f0_hz)[None].to(device), torch.from_numpy(voiced)[None].to(device)
    heard = torch.from_numpy(padded)[None].to(device)
    units = encoder.units(heard, unit_width=width, layer=voice.unit_kind.layer, pitch=told if encoder.hears_pitch else None)[0]
    missing = max(0, frames // FRAMES_PER_UNIT - len(units))
    units = encoder.per_frame(torch.cat((units, units[-1:].expand(missing, -1))))[:frames]
    rates = np.full(frames, snapshot.index_rate, np.float32), np.full(frames, snapshot.protect, np.float32)
    units = blend_units(voice, units, voiced, *rates)
    f0_hz = transpose(f0_hz, np.full(frames, snapshot.pitch, np.float32))
    if snapshot.autotune:
        pulls = steer(TuneState(), f0_hz, voiced, Tuning.of(snapshot, A4_HZ))
        f0_hz = pulled(f0_hz, voiced, pulls, np.full(frames, snapshot.autotune, np.float32))
    if interpolate_unvoiced:
        filled = fill_unvoiced(PitchTrack(f0_hz, voiced))
        f0_hz, voiced = filled.f0_hz, filled.voiced
    coarse = torch.from_numpy(coarse_pitch(f0_hz, voiced)).to(device)
    prior = torch.from_numpy(frame_noise(seed, 0, frames, synth.config.inter_channels, PRIOR_STREAM)).to(device)
    harmonics = synth.config.vocoder.harmonics
    source = torch.from_numpy(frame_noise(seed, 0, frames, synth.dec.hop * harmonics, SOURCE_STREAM)).to(device)
    samples = synth.infer(
        units[None],
        coarse[None],
        torch.from_numpy(np.where(voiced, f0_hz, 0).astype(np.float32)).to(device)[None],
        prior_noise=prior.T[None],
        source_noise=source.reshape(-1, harmonics),
        start_cycles=start_cycles(seed, synth.dec.m_source),
        activation_noise=activation_noise(seed, synth.dec) if isinstance(synth.dec, RefineGan) else None,
    )
    audio: NDArray[np.float32] = samples[0].float().cpu().numpy()
    return audio
