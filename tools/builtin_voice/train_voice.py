"""Train the built-in voice's decoder: what it adds to the envelopes that the converter makes.

    train_voice.py SPEECH.pt TARGET_CACHE CONVERTER.pt OUT --minutes 20

A batch has three kinds of speech. The target's own, and other voices saying the same at the same instants, their envelopes
converted: both are held against the target's samples. And people's, converted: nobody knows how that should sound, so
discriminators tell it from the target's speech, and what it may differ from the envelope by is bounded. Saves OUT/voice.pt every
four minutes and goes on from it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from discriminators import Discriminators, features_apart, not_believed, told_apart
from speech import Heard, Speech
from torch import Tensor, nn
from train_converter import SIZES as CONVERTER_SIZES
from train_converter import load_converter
from training import arguments, save, set_rate

from rvcd.nets.envelope_converter import EnvelopeConverter
from rvcd.nets.frame_net import FrameNetSizes
from rvcd.nets.source_filter import (
    HOP_SAMPLES,
    LOOKAHEAD_FRAMES,
    MARGIN_SAMPLES,
    RATE_HZ,
    STEPS,
    TAIL_SAMPLES,
    SourceFilter,
    SourceFilterSizes,
    between_frames,
    excite,
    filled_pitch,
    filtered_pieces,
    glide,
    held,
    overlap_add,
)
from rvcd.nets.speaker_match import LEVEL_BANDS

SIZES = SourceFilterSizes(CONVERTER_SIZES, FrameNetSizes.of(320, 960, [7] * 6, LOOKAHEAD_FRAMES))
KINDS = {"target": 3, "pair": 4, "moved": 3}
"""How many of each a batch has."""
HEARD_OF_A_PAIR = 2
AMOUNT = 0.7
"""Of the converter's changes, while the decoder learns."""
REAL = 6
PAST_FRAMES, SLICE_FRAMES, AHEAD_FRAMES, SIDE_FRAMES = 32, 40, 4, 2
RATE, DISCRIMINATOR_RATE = 5e-4, 4e-4
ALONE_STEPS = 400
"""Without discriminators, at first."""
LEAST_RATE = 0.1
"""Of the rate, at the end."""
KEPT_AVERAGE = 0.998
SAVE_EVERY_S = 240.0
FRESH_SHARE = 0.25
"""So often a slice begins soon after the stream does: nothing was before it."""
LOUD = -4.5
"""Mean log10 power of a frame that is speech."""
MEL_WEIGHT, ADVERSARIAL_WEIGHT, FEATURE_WEIGHT, BOUND_WEIGHT = 15.0, 1.0, 2.0, 20.0
BOUND = 0.7
"""Nepers (6 dB), by which the power may leave the envelope for nothing."""
PAIR_WEIGHT = 0.5
FFT_BANDS = {2048: 96, 1024: 80, 512: 56, 256: 32, 128: 16}


@dataclass
class Utterance:
    """env (T, C), f0_hz, voiced (T,); audio (T * hop,) int16, or None: nobody knows how it should sound."""

    env: Tensor
    f0_hz: Tensor
    voiced: Tensor
    audio: Tensor | None


@dataclass
class Data:
    """By kind."""

    kinds: dict[str, list[Utterance]]

    @classmethod
    def read(cls, speech: Speech, target: Path, converter: EnvelopeConverter, dice: np.random.Generator) -> Data:
        """target: the folder with the target's samples."""
        kinds: dict[str, list[Utterance]] = {kind: [] for kind in KINDS}
        for pair in speech.pairs:
            said = pair.said
            audio = torch.from_numpy(np.load(target / said.name)["audio"])
            kinds["target"].append(Utterance(said.env.float(), said.f0_hz, said.voiced, audio))
            for i in dice.permutation(len(pair.heard))[:HEARD_OF_A_PAIR]:
                heard = pair.heard[i]
                T = len(heard.f0_hz)
                env = converted(converter, heard, said.f0_hz[:T], known=dice.random() < 0.7)
                kinds["pair"].append(Utterance(env, said.f0_hz[:T], said.voiced[:T], audio[: T * HOP_SAMPLES]))
        for person in speech.people:
            heard = person.heard
            env = converted(converter, heard, heard.f0_hz, known=dice.random() < 0.7)
            kinds["moved"].append(Utterance(env, heard.f0_hz, heard.voiced, None))
        return cls(kinds)


@torch.no_grad()
def converted(converter: EnvelopeConverter, heard: Heard, f0_hz: Tensor, *, known: bool) -> Tensor:
    bands = (heard.known if known else heard.new).float()[None]
    made: Tensor = converter(bands, f0_hz[None], heard.voiced[None])
    return made[0]


@dataclass
class Batch:
    """env (B, frames, C), f0_hz, voiced (B, frames), audio (B, L), names of kinds; real (R, L): of the target."""

    env: Tensor
    f0_hz: Tensor
    voiced: Tensor
    audio: Tensor
    kinds: list[str]
    real: Tensor

    def of(self, *kinds: str) -> Tensor:
        """Say which of them are of these kinds, (B,)."""
        return torch.tensor([kind in kinds for kind in self.kinds])


def draw(data: Data, dice: np.random.Generator) -> Batch:
    drawn, kinds = [], []
    for kind, count in KINDS.items():
        for _ in range(count):
            drawn.append(_slice(data.kinds[kind], dice))
            kinds.append(kind)
    columns = [torch.stack(column) for column in zip(*drawn, strict=True)]
    real = torch.stack([_slice(data.kinds["target"], dice)[3] for _ in range(REAL)])
    return Batch(columns[0], columns[1], columns[2], columns[3], kinds, real)


def _slice(part: Sequence[Utterance], dice: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a slice in which somebody speaks."""
    frames = PAST_FRAMES + SLICE_FRAMES + AHEAD_FRAMES
    while True:
        u = part[dice.integers(len(part))]
        if len(u.env) < frames:
            continue
        start = int(dice.integers(0, len(u.env) - frames + 1))
        first, end = start + PAST_FRAMES, start + PAST_FRAMES + SLICE_FRAMES
        if u.env[first:end, :LEVEL_BANDS].mean(1).max() > LOUD + 0.5:
            break
    seen = slice(start, start + frames)
    audio = (
        torch.zeros(SLICE_FRAMES * HOP_SAMPLES)
        if u.audio is None
        else u.audio[first * HOP_SAMPLES : end * HOP_SAMPLES].float() / 32768
    )
    return u.env[seen], u.f0_hz[seen], u.voiced[seen], audio


class Trained(SourceFilter):
    def __init__(self) -> None:
        super().__init__(SIZES)
        with torch.no_grad():
            self.net.leave.weight.mul_(0.05)
            self.net.leave.bias.zero_()

    def say(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the slice's samples (B, L), and by how many nepers their power leaves the envelope, (B, steps, bins)."""
        B, frames = batch.f0_hz.shape
        begun = torch.where(torch.rand(B) < FRESH_SHARE, torch.randint(0, PAST_FRAMES, (B,)), torch.zeros(B, dtype=torch.long))
        there = (torch.arange(frames)[None] >= begun[:, None]).float()[..., None]
        x = self.net.enter_frames(batch.env, batch.f0_hz, batch.voiced)
        for block in self.net.blocks:
            x = block(x * there)
        part = slice(PAST_FRAMES - SIDE_FRAMES, PAST_FRAMES + SLICE_FRAMES + SIDE_FRAMES)
        said = self.net.leave(self.net.norm(x[:, part])).float()
        bands, f0_hz, voiced = held(batch.env[:, part]), batch.f0_hz[:, part], batch.voiced[:, part]
        around = held(voiced)
        white = torch.randn(B, voiced.shape[1] * HOP_SAMPLES)
        pulses, pulsed, _ = excite(
            held(filled_pitch(held(f0_hz), around)), around, white, torch.rand((B, 1), dtype=torch.float64)
        )
        sources = tuple(F.pad(source, (MARGIN_SAMPLES, MARGIN_SAMPLES)) for source in (pulses, white, pulsed))
        filters = self.filters(bands, said, around)
        added = overlap_add(filtered_pieces(sources, filters))
        start = TAIL_SAMPLES + SIDE_FRAMES * HOP_SAMPLES
        given = (between_frames(bands) @ self.filters.from_bands) * (math.log(10) / 2) + 0.5 * math.log(1.5)
        harmonic, steady, gated = filters
        power = harmonic.abs().square() * glide(around.float(), STEPS)[..., None] + steady.square() + gated.square()
        apart = power.clamp_min(1e-12).log() / 2 - given
        return added[:, start : start + SLICE_FRAMES * HOP_SAMPLES], apart[:, SIDE_FRAMES * STEPS : -SIDE_FRAMES * STEPS]


class MelDistance(nn.Module):
    """How far log-mel spectra are, at several resolutions."""

    def __init__(self) -> None:
        super().__init__()
        for fft, count in FFT_BANDS.items():
            top = 2595 * math.log10(1 + RATE_HZ / 2 / 700)
            edges = 700 * (10 ** (torch.linspace(0, top, count + 2) / 2595) - 1)
            hz = torch.linspace(0, RATE_HZ / 2, fft // 2 + 1)[:, None]
            bands = torch.minimum((hz - edges[:-2]) / (edges[1:-1] - edges[:-2]), (edges[2:] - hz) / (edges[2:] - edges[1:-1]))
            bands = bands.clamp_min(0)
            nearest = (hz - edges[1:-1]).abs().argmin(0)
            bands[nearest, torch.arange(count)] = bands[nearest, torch.arange(count)].clamp_min(0.5)
            self.register_buffer(f"bands_{fft}", bands)

    def forward(self, made: Tensor, true: Tensor, weight: Tensor) -> Tensor:
        """made, true (B, L), weight (B,)."""
        total = torch.zeros(())
        for fft in FFT_BANDS:
            a, b = (self._log_bands(audio, fft) for audio in (made, true))
            total = total + ((a - b).abs().mean((1, 2)) * weight).sum() / weight.sum()
        return total / len(FFT_BANDS)

    def _log_bands(self, audio: Tensor, fft: int) -> Tensor:
        spectrum = torch.stft(audio, fft, fft // 4, window=torch.hann_window(fft), return_complex=True)
        powers = torch.einsum("bft,fm->btm", spectrum.abs().square() / fft, getattr(self, f"bands_{fft}"))
        return (powers + 1e-6).log() / 2


def main() -> None:
    args = arguments(__doc__, "speech", "target", "converter")
    converter, converter_steps = load_converter(args.converter)
    converter.amount.fill_(AMOUNT)
    data = Data.read(Speech.read(args.speech), args.target, converter, np.random.default_rng(args.seed))
    voice, judges, distance, checkpoint = Trained(), Discriminators(), MelDistance(), args.out / "voice.pt"
    rows = torch.cat([u.env for kind in ("target", "moved") for u in data.kinds[kind][:60]])
    voice.net.mean.copy_(rows.mean(0))
    voice.net.spread.copy_(rows.std(0))
    optimiser = torch.optim.AdamW(voice.net.parameters(), RATE, betas=(0.8, 0.99), weight_decay=0.01)
    against = torch.optim.AdamW(judges.parameters(), DISCRIMINATOR_RATE, betas=(0.8, 0.99))
    parts = {"voice": voice, "judges": judges, "optimiser": optimiser, "against": against}
    average, step, spent_s = {k: v.clone() for k, v in voice.state_dict().items()}, 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        average, step, spent_s = saved["average"], saved["step"], saved["spent_s"]
    voice.convert.load_state_dict(converter.state_dict())
    voice.convert.requires_grad_(False)
    dice = np.random.default_rng((args.seed, step))
    began = last_saved = time.monotonic()
    shown: dict[str, float] = {}
    while True:
        now = time.monotonic()
        progress = min(1.0, (now - began) / 60 / args.minutes)
        set_rate(optimiser, RATE, step, progress, LEAST_RATE)
        set_rate(against, DISCRIMINATOR_RATE, step, progress, LEAST_RATE)
        losses = learn(voice, judges, distance, draw(data, dice), optimiser, against, step)
        step += 1
        kept = min(KEPT_AVERAGE, step / (step + 20))
        with torch.no_grad():
            for key, value in voice.state_dict().items():
                average[key] = value.clone() if key.startswith("convert.") else average[key].lerp(value, 1 - kept)
        for name, value in losses.items():
            shown[name] = 0.97 * shown.get(name, value) + 0.03 * value
        if step % 25 == 0:
            print(f"{step} ({(now - began) / 60:.1f} min): " + " ".join(f"{k} {v:.3f}" for k, v in shown.items()), flush=True)
        if progress >= 1 or now - last_saved > SAVE_EVERY_S:
            last_saved = now
            save(checkpoint, parts, average=average, step=step, spent_s=spent_s + now - began, converter_steps=converter_steps)
        if progress >= 1:
            return


def learn(
    voice: Trained, judges: Discriminators, distance: MelDistance, batch: Batch, optimiser: torch.optim.Optimizer,
    against: torch.optim.Optimizer, step: int,
) -> dict[str, float]:  # fmt: skip
    """Make one step of both; return the losses."""
    with torch.autocast("cpu", torch.bfloat16):
        made, apart = voice.say(batch)
    made = made.float()
    weight = torch.where(batch.of("pair"), PAIR_WEIGHT, torch.where(batch.of("moved"), 0.0, 1.0))
    mel = distance(made, batch.audio, weight)
    loud = (batch.env[:, PAST_FRAMES : PAST_FRAMES + SLICE_FRAMES, :LEVEL_BANDS].mean(2) > LOUD).float()
    loud = loud.repeat_interleave(STEPS, 1)[..., None]
    beyond = ((apart.abs() - BOUND).clamp_min(0) * loud).mean((1, 2))
    bound = beyond.mean() + 0.02 * ((apart.abs() * loud).mean((1, 2)) * batch.of("moved")).mean()
    loss = MEL_WEIGHT * mel + BOUND_WEIGHT * bound
    losses = {"mel": mel, "bound": bound}
    if step >= ALONE_STEPS:
        losses |= _judge(judges, batch, made, against)
        warm = min(1.0, (step - ALONE_STEPS) / 200)
        loss = loss + warm * (ADVERSARIAL_WEIGHT * losses["not believed"] + FEATURE_WEIGHT * losses["features"])
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(voice.net.parameters(), 20.0)
    optimiser.step()
    judges.requires_grad_(True)
    return {name: float(value.detach()) for name, value in losses.items()}


def _judge(judges: Discriminators, batch: Batch, made: Tensor, against: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Teach the discriminators, then let them judge; they keep still for the voice's step."""
    known = batch.of("target", "pair")
    with torch.autocast("cpu", torch.bfloat16):
        apart = told_apart(judges(batch.real), judges(made.detach()))
    against.zero_grad()
    apart.backward()
    nn.utils.clip_grad_norm_(judges.parameters(), 10.0)
    against.step()
    judges.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        judged = judges(made)
        with torch.no_grad():
            true = judges(batch.audio[known])
    # What has a true counterpart comes first: see KINDS.
    features = features_apart(judged, true, int(known.sum()))
    return {"not believed": not_believed(judged), "features": features, "told apart": apart.detach()}


if __name__ == "__main__":
    main()
