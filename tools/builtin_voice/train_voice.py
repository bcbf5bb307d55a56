"""Train the built-in voice: units and f0 -> the target voice's samples, with rvcd's own synthesizer at a small size.

    train_voice.py PAIRS[,MORE PAIRS] ENCODER.pt OUT --minutes 60 [--units labels|encoder]

Kokoro's decoder makes the same samples again from the same content, and its harmonics keep step with the running sum of f0. So
the excitation is given that very phase; what is compared are spectra, as a spectral energy distance (Gritsenko et al. 2020):
everything is said twice, with different noise, and the two should be as far from each other as from what is true, or noise would
become a pattern. `labels` trains on the true envelopes before an encoder exists; `encoder` also on what the encoder hears in
both sides of a pair. Saves OUT/voice.pt every few minutes and goes on from it.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch
import torch.nn.functional as F
from envelope import BANDS, band_centres_hz, envelope
from kokoro import F0_RATE_HZ, RATE_HZ, VOICED_FROM_HZ
from realign import shifts
from torch import Tensor, nn
from train_encoder import Basis, load_finished, unit_times_s

from rvcd.engine.pitch import coarse_pitch
from rvcd.engine.pitch.methods.swift import SwiftPitch
from rvcd.formats.voice_config import SynthesizerConfig
from rvcd.nets.synthesizer import SINE_AMPLITUDE, VOICED_NOISE_STD, Synthesizer

HOP = RATE_HZ // 100
CONFIG = SynthesizerConfig(
    spec_channels=513, segment_size=32, inter_channels=128, hidden_channels=128, filter_channels=384, n_heads=2, n_layers=2,
    kernel_size=3, p_dropout=0.0, resblock="1", resblock_kernel_sizes=(3, 7), resblock_dilation_sizes=((1, 3), (1, 3)),
    upsample_rates=(10, 6, 2, 2), upsample_initial_channel=256, upsample_kernel_sizes=(20, 12, 4, 4), n_speakers=1,
    gin_channels=16, rate_hz=RATE_HZ, unit_width=BANDS, has_f0=True,
)  # fmt: skip
LOG_STD = -12.0
"""Of the prior: as good as no noise, because units say all there is to say."""
AHEAD_FRAMES = 8
"""What a frame may see of the future in enc_p, as at 100 ms of lookahead."""
PAST_FRAMES, SLICE_FRAMES, BATCH = 50, 40, 6
LEARNING_RATE = 6e-4
KEPT_AVERAGE = 0.999
SEED = 2
SAVE_EVERY_S = 180.0
UNIT_CHANCES = (0.8, 0.06, 0.14)
"""Of the target's true envelope, and of what is heard in the target itself and in the other side of the pair: the voice shall say
what it is given. With half of the units heard, or heard in something spoilt, it mended them, and words were lost."""
EVERYBODY_SHARE = 0.5
"""Of a batch: other people's envelopes and their own audio, so that the voice follows envelopes that the target never has."""
MEL_WEIGHT, MAGNITUDE_WEIGHT = 3.0, 1.0
RECOLOURED, RECOLOURED_TARGET, COLOUR_DB, GAIN_DB = 0.7, 0.3, 5.0, 6.0
"""How often, and how much, envelope and audio are filtered alike, so that it is the envelope that tells how the voice sounds."""
EDGE = 1200
FFTS = (2048, 1024, 512, 256)


@dataclass
class Utterance:
    """audio (T * 240,) int16; f0_hz, voiced, phase: one a sample for phase (cycles), one a frame else.

    units: one or more versions, each (T, BANDS).
    """

    audio: Tensor
    f0_hz: np.ndarray
    voiced: np.ndarray
    phase: Tensor
    units: list[Tensor]


def load(paths: list[Path], basis: Basis, encoder: nn.Module | None) -> tuple[list[Utterance], list[Utterance]]:
    """Return the target's utterances, and everybody's."""
    swift = SwiftPitch()
    target, everybody = [], []
    for path in paths:
        data = np.load(path)
        target.append(_utterance(data["target"], data["target_f0_hz"], basis, swift))
        everybody.append(_utterance(data["source"], data["source_f0_hz"], basis, swift))
        if encoder is not None:
            target[-1].units += _heard(data, len(target[-1].f0_hz) // 2, encoder, is_human=path.stem.startswith("human"))
    return target, everybody


def _utterance(audio: np.ndarray, track: np.ndarray, basis: Basis, swift: SwiftPitch) -> Utterance:
    """audio (samples,) int16, track: its f0 at 80 Hz -> the utterance with its own envelope for units."""
    heard = soxr.resample(audio.astype(np.float32) / 32768, RATE_HZ, 16000)
    N = (len(heard) - 400) // 320 + 1
    frames = 2 * N
    # Kokoro's phase: summed once a frame of 80 Hz, straight lines between the frames' middles.
    hop = RATE_HZ // F0_RATE_HZ
    track = track.astype(np.float64)
    cycles = np.interp(np.arange(frames * HOP), np.arange(len(track)) * hop + (hop - 1) / 2, np.cumsum(track) * hop / RATE_HZ)
    f0_hz = np.interp((np.arange(frames) + 0.5) / 100, (np.arange(len(track)) + 0.5) / F0_RATE_HZ, track)
    voiced = swift.estimate(np.pad(heard, (0, 1600))).voiced[:frames] & (f0_hz > VOICED_FROM_HZ)
    bands = (torch.from_numpy(envelope(audio, track, unit_times_s(N))) - basis.bands_mean) / basis.bands_std
    samples = torch.from_numpy(audio[: frames * HOP])
    samples = F.pad(samples, (0, frames * HOP - len(samples)))
    return Utterance(samples, f0_hz.astype(np.float32), voiced, torch.from_numpy(cycles % 1.0).float(), [_held(bands)])


def _heard(data: Mapping[str, np.ndarray], N: int, encoder: nn.Module, *, is_human: bool) -> list[Tensor]:
    """Return what the encoder hears in both sides of a pair."""
    sides = [soxr.resample(data[side].astype(np.float32) / 32768, RATE_HZ, 16000) for side in ("target", "source")]
    T = len(sides[0])
    both = torch.from_numpy(np.stack([np.pad(side[:T], (0, max(0, T - len(side)))) for side in sides]))
    with torch.no_grad():
        units = [u[:N] for u in encoder.units(both, unit_width=BANDS)]
    if is_human:
        rows = (torch.arange(N) + shifts(units[0], units[1])).clamp(0, N - 1)
        units[1] = units[1][rows]
    return [_held(u) for u in units]


def _held(units: Tensor) -> Tensor:
    return units.repeat_interleave(2, 0).half()


class BoundedAttention(nn.Module):
    """The attention of enc_p, seeing AHEAD_FRAMES of the future at most: as a stream will."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, memory: None = None) -> Tensor:
        a = self.inner
        B, C, T = x.shape
        width, window = C // a.heads, a.window
        q, k, v = (m(x).view(B, a.heads, width, T).transpose(2, 3) for m in (a.conv_q, a.conv_k, a.conv_v))
        q = q / math.sqrt(width)
        steps = torch.arange(T, device=x.device)
        distance = steps[None, :] - steps[:, None]
        near = distance.clamp(-window, window) + window
        is_near = (distance.abs() <= window).float()
        scores = q @ k.transpose(2, 3) + (q @ a.emb_rel_k[0].T).gather(3, near.expand(B, a.heads, T, T)) * is_near
        weights = scores.masked_fill(distance > AHEAD_FRAMES, -1e9).softmax(-1)
        banded = torch.zeros(B, a.heads, T, 2 * window + 1, device=x.device)
        banded = banded.scatter_add(3, near.expand(B, a.heads, T, T), weights * is_near)
        return a.conv_o((weights @ v + banded @ a.emb_rel_v[0]).transpose(2, 3).reshape(B, C, T))


def build() -> Synthesizer:
    model = Synthesizer(CONFIG)
    with torch.no_grad():
        for coupling in model.flow.flows.values():
            coupling.post.weight.zero_()
            coupling.post.bias.zero_()
        model.enc_p.proj.weight[CONFIG.inter_channels :].zero_()
        model.enc_p.proj.bias[CONFIG.inter_channels :].fill_(LOG_STD)
        # A merge that makes soft pulses of the sine, with all the harmonics that a network would have to learn to make, and
        # of the noise a rough one.
        model.dec.m_source.l_linear.weight.fill_(100.0)
        model.dec.m_source.l_linear.bias.fill_(-3.0)
        model.emb_g.weight.zero_()
        # As HiFi-GAN begins; torch's own start is five times as loud and goes to saturation.
        for name, parameter in model.dec.named_parameters():
            if name.endswith("weight") and parameter.dim() == 3 and ("resblocks" in name or "ups" in name):
                nn.init.normal_(parameter, 0, 0.03 if "ups" in name else 0.05)
    for p in model.flow.parameters():
        p.requires_grad_(False)
    model.emb_g.weight.requires_grad_(False)
    model.dec.m_source.requires_grad_(False)
    return model


def bounded(model: Synthesizer) -> Synthesizer:
    layers = model.enc_p.encoder.attn_layers
    for i in range(len(layers)):
        layers[i] = BoundedAttention(layers[i])
    return model


def batch_of(data: list[Utterance], everybody: list[Utterance], basis: Basis, dice: np.random.Generator) -> tuple[Tensor, ...]:
    """-> units, coarse pitch, phase, voiced, audio: what is made is SLICE_FRAMES, what is known begins PAST_FRAMES before."""
    columns: list[list[Tensor]] = [[], [], [], [], []]
    frames = PAST_FRAMES + SLICE_FRAMES + AHEAD_FRAMES
    while len(columns[0]) < BATCH:
        is_target = not everybody or dice.random() > EVERYBODY_SHARE
        part = data if is_target else everybody
        u = part[dice.integers(len(part))]
        T = len(u.f0_hz)
        if frames > T:
            continue
        start = int(dice.integers(0, T - frames + 1))
        seen = slice(start, start + frames)
        first, samples = (start + PAST_FRAMES) * HOP, SLICE_FRAMES * HOP
        voiced = u.voiced[seen]
        version = dice.choice(len(UNIT_CHANCES), p=UNIT_CHANCES) if len(u.units) > 1 else 0
        units, audio = u.units[version][seen].float(), u.audio[first - EDGE : first + samples + EDGE].float() / 32768
        if everybody and dice.random() < (RECOLOURED_TARGET if is_target else RECOLOURED):
            units, audio = recolour(units, audio, basis, dice)
        columns[0].append(units)
        columns[1].append(torch.from_numpy(coarse_pitch(u.f0_hz[seen], voiced)))
        columns[2].append(u.phase[first : first + samples])
        columns[3].append(torch.from_numpy(voiced[PAST_FRAMES : PAST_FRAMES + SLICE_FRAMES]))
        columns[4].append(audio[EDGE : EDGE + samples])
    return tuple(torch.stack(column) for column in columns)


def recolour(units: Tensor, audio: Tensor, basis: Basis, dice: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Put the same filter and gain on the envelope and on the audio that belongs to it."""
    points_db = dice.normal(0, COLOUR_DB, 8) + dice.normal(0, GAIN_DB)
    centres_hz = band_centres_hz()
    place = np.linspace(0, len(centres_hz) - 1, len(points_db))
    curve_db = np.interp(np.arange(len(centres_hz)), place, points_db)
    n = len(audio) * 2
    gains = 10 ** (np.interp(np.fft.rfftfreq(n, 1 / RATE_HZ), centres_hz, curve_db) / 20)
    filtered = torch.fft.irfft(torch.fft.rfft(audio, n) * torch.from_numpy(gains.astype(np.float32)), n)[: len(audio)]
    return units + torch.from_numpy((curve_db / 10).astype(np.float32)) / basis.bands_std, filtered


def synthesise(model: Synthesizer, units: Tensor, coarse: Tensor, phase: Tensor, voiced: Tensor) -> Tensor:
    """-> (B, samples) of the slice."""
    mean, _ = model.enc_p(units, coarse)
    # The decoder sees a little on both sides, then loses it.
    margin = AHEAD_FRAMES
    z = mean[:, :, PAST_FRAMES - margin : PAST_FRAMES + SLICE_FRAMES + margin]
    per_sample = voiced.repeat_interleave(HOP, 1)
    std = torch.where(per_sample, VOICED_NOISE_STD, SINE_AMPLITUDE / 3)
    sines = torch.sin(2 * math.pi * phase) * SINE_AMPLITUDE * per_sample + torch.randn_like(phase) * std
    source = model.dec.m_source(sines[..., None])[:, None]
    source = F.pad(source, (margin * HOP, margin * HOP), mode="reflect")
    return model.dec(z, source, model.speaker(0))[:, 0, margin * HOP : -margin * HOP]


def said_twice(model: Synthesizer, batch: list[Tensor]) -> Tensor:
    """-> (2, B, samples): a batch's slices, with different noise."""
    made = synthesise(model, *(column.repeat(2, *[1] * (column.dim() - 1)) for column in batch[:-1]))
    return made.float().unflatten(0, (2, -1))


def spectra(audio: Tensor) -> list[Tensor]:
    return [
        torch.stft(audio, n, n // 4, window=torch.hann_window(n, device=audio.device), return_complex=True) / n**0.5 for n in FFTS
    ]


def energy_distances(made: list[Tensor], again: list[Tensor], true: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return those of magnitudes and of log-mel spectra: how far both are from what is true, less how far from each other."""
    levels = [t.abs().mean() for t in true]
    near = (magnitude_distance(made, true, levels) + magnitude_distance(again, true, levels)) / 2
    near_mel = (mel_distance(made, true) + mel_distance(again, true)) / 2
    return near - magnitude_distance(made, again, levels) / 2, near_mel - mel_distance(made, again) / 2


def magnitude_distance(made: list[Tensor], true: list[Tensor], levels: list[Tensor]) -> Tensor:
    """Return how far the magnitudes are, bin by bin. levels: the mean magnitude at each resolution."""
    loss = torch.zeros((), device=made[0].device)
    for m, t, level in zip(made, true, levels, strict=True):
        a, b = m.abs().clamp_min(1e-4), t.abs().clamp_min(1e-4)
        loss = loss + (a.log() - b.log()).abs().mean() + 2 * (a - b).abs().mean() / level
    return loss / len(FFTS)


def mel_distance(made: list[Tensor], true: list[Tensor]) -> Tensor:
    """Return how far the log-mel spectra are."""
    loss = torch.zeros((), device=made[0].device)
    for n, m, t in list(zip(FFTS, made, true, strict=True))[:3]:
        bands = _mel_bands(n, 80 if n > 512 else 40).to(m.device)
        a, b = (torch.einsum("bft,fm->bmt", s.abs().square(), bands).clamp_min(1e-7).log() for s in (m, t))
        loss = loss + (a - b).abs().mean() / 2
    return loss / 3


@functools.cache
def _mel_bands(fft: int, count: int) -> Tensor:
    """Return triangles (fft / 2 + 1, count), evenly spaced in mel, from 40 Hz to half the rate."""
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (40, RATE_HZ / 2))
    edges_hz = 700 * (10 ** (torch.linspace(low, high, count + 2) / 2595) - 1)
    bins_hz = torch.arange(fft // 2 + 1)[:, None] * RATE_HZ / fft
    rising = (bins_hz - edges_hz[:-2]) / (edges_hz[1:-1] - edges_hz[:-2])
    falling = (edges_hz[2:] - bins_hz) / (edges_hz[2:] - edges_hz[1:-1])
    triangles = torch.minimum(rising, falling).clamp_min(0)
    nearest = (bins_hz - edges_hz[1:-1]).abs().argmin(dim=0)
    triangles[nearest, torch.arange(count)] = triangles[nearest, torch.arange(count)].clamp_min(0.5)
    return triangles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "pairs", type=lambda text: [path for part in text.split(",") for path in sorted(Path(part).glob("*.npz"))]
    )
    parser.add_argument("encoder", type=Path, help="train_encoder.py's checkpoint")
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--units", choices=("labels", "encoder"), default="encoder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--start", type=Path, help="weights to begin with, where they fit")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    args.out.mkdir(parents=True, exist_ok=True)
    device, checkpoint = torch.device(args.device), args.out / "voice.pt"
    taught = torch.load(args.encoder, weights_only=True)
    encoder = load_finished(args.encoder) if args.units == "encoder" else None
    began = time.monotonic()
    basis = Basis(**taught["basis"])
    data, everybody = load(args.pairs, basis, encoder)
    print(f"{sum(len(u.audio) for u in data) / RATE_HZ / 60:.1f} minutes, read in {time.monotonic() - began:.0f} s", flush=True)
    held_back, data = data[::40], [u for i, u in enumerate(data) if i % 40]
    model = bounded(build()).to(device)
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    learned = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learned, args.rate, betas=(0.8, 0.99), weight_decay=0.01)
    step, spent_s = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True, map_location=device)
        model.load_state_dict(saved["model"])
        average, step, spent_s = saved["average"], saved["step"], saved["spent_s"]
        optimiser.load_state_dict(saved["optimiser"])
    elif args.start:
        begun, own = torch.load(args.start, weights_only=True, map_location=device)["average"], model.state_dict()
        model.load_state_dict({k: begun[k] if k in begun and begun[k].shape == v.shape else v for k, v in own.items()})
        average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    dice = np.random.default_rng(step)
    began = last_saved = time.monotonic()
    shown: dict[str, float] = {}
    while True:
        now = time.monotonic()
        progress = min(1.0, (now - began) / (60 * args.minutes))
        rate = args.rate * min(1.0, (step + 1) / 100) * (0.1 + 0.9 * min(1.0, (1 - progress) / 0.4))
        for group in optimiser.param_groups:
            group["lr"] = rate
        batch = [column.to(device) for column in batch_of(data, everybody, basis, dice)]
        with torch.autocast(device.type, torch.bfloat16):
            made, again = said_twice(model, batch)
        magnitude, mel = energy_distances(spectra(made), spectra(again), spectra(batch[-1]))
        loss, parts = MAGNITUDE_WEIGHT * magnitude + MEL_WEIGHT * mel, {"magnitude": magnitude, "mel": mel}
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 5.0)
        optimiser.step()
        step += 1
        kept = min(KEPT_AVERAGE, step / (step + 20))
        with torch.no_grad():
            for k, v in model.state_dict().items():
                average[k].lerp_(v, 1 - kept) if v.is_floating_point() else average[k].copy_(v)
        for name, value in parts.items():
            shown[name] = 0.98 * shown.get(name, float(value.detach())) + 0.02 * float(value.detach())
        if step % 50 == 0 or step < 5:
            text = " ".join(f"{name} {value:.3f}" for name, value in shown.items())
            print(f"step {step} ({(now - began) / 60:.1f} min): {text}", flush=True)
        if progress >= 1 or now - last_saved > SAVE_EVERY_S:
            last_saved = now
            state = {"model": model.state_dict(), "average": average, "optimiser": optimiser.state_dict(), "step": step,
                     "spent_s": spent_s + now - began}  # fmt: skip
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
            report(model, average, held_back, basis)
        if progress >= 1:
            return


@torch.no_grad()
def report(model: Synthesizer, average: dict[str, Tensor], data: list[Utterance], basis: Basis) -> None:
    """Say how the averaged weights do on what was held back."""
    own = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(average)
    dice, device = np.random.default_rng(0), next(model.parameters()).device
    found = []
    for _ in range(4):
        batch = [column.to(device) for column in batch_of(data, [], basis, dice)]
        made, again = said_twice(model, batch)
        found.append([float(d) for d in energy_distances(spectra(made), spectra(again), spectra(batch[-1]))])
    model.load_state_dict(own)
    magnitude, mel = np.mean(found, axis=0)
    print(f"  held back, averaged weights: magnitude {magnitude:.3f} mel {mel:.3f}", flush=True)


if __name__ == "__main__":
    main()
