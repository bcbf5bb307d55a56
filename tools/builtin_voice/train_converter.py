"""Train the converter: what makes people's envelopes, moved to the target, sound like the target's own.

    train_converter.py SPEECH.pt PHONES.pt OUT --minutes 25

Everything happens on envelopes, so a step costs no rendering. A batch has three kinds. Other synthetic voices, degraded or
not, and the target saying the same at the same instants; people, and the target saying the same at about the same instants,
of which the best of a few shifts counts; and people of whom no such counterpart was rendered. Discriminators tell what is
made of all three from the target's own envelopes. A network that knows phones (train_phones.py) keeps what is said. Saves
OUT/converter.pt every two minutes and goes on from it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from discriminators import EnvelopeDiscriminators, Judged, features_apart, not_believed, told_apart
from speech import UNKNOWN, Heard, Speech
from torch import Tensor, nn
from train_phones import KNOWN_SHARE, Phones, load_phones
from training import arguments, save, set_rate

from rvcd.nets.envelope_converter import NET_LOOKAHEAD_FRAMES, SLOW_VALUES, EnvelopeConverter
from rvcd.nets.frame_net import FrameNetSizes
from rvcd.nets.speaker_match import LEVEL_BANDS
from rvcd.nets.spectral_envelope import BANDS

SIZES = FrameNetSizes.of(256, 768, [9] * 6, NET_LOOKAHEAD_FRAMES)
KINDS = {"pair": 9, "rendered": 9, "person": 6}
"""How many of each a batch has."""
REAL, FAKE = 12, 14
"""How many of the target's, and of the batch's, the discriminators are taught with."""
PAST_FRAMES, FRAMES, EDGE_FRAMES = 44, 124, 2
"""The past that a slice has before what counts, all of it, and what does not count at its end."""
RATE, DISCRIMINATOR_RATE = 6e-4, 5e-4
ALONE_STEPS, WARMING_STEPS = 300, 300
ENVELOPE_WEIGHT, RENDERED_WEIGHT, PHONE_WEIGHT, STAY_WEIGHT, ADVERSARIAL_WEIGHT, FEATURE_WEIGHT = 6.0, 6.0, 1.5, 0.3, 1.0, 2.0
TRUST = {"pair": 1.0, "rendered": 0.7, "person": 1.0}
"""How much the discriminators' word counts."""
SHIFTS, PHONE_SHIFTS = range(-4, 5), range(-3, 4)
SHIFT_FRAMES, PHONE_SHIFT_FRAMES = 15, 11
"""A shift is one for so many frames."""
SOFTEST, SOFTEST_SPREADS = -7.5, -3.0
LOUD = -4.0
FRESH_SHARE = 0.2
LEAST_RATE = 0.05
"""Of the rate, at the end."""
KEPT_AVERAGE = 0.998
SAVE_EVERY_S = 120.0
UNHEARD = -4.0
"""What an untrained network says of softening."""


@dataclass
class Batch:
    """env (B, FRAMES, C), f0_hz, voiced (B, FRAMES), wanted as env, tokens (B, FRAMES); kinds, a name each."""

    env: Tensor
    f0_hz: Tensor
    voiced: Tensor
    wanted: Tensor
    tokens: Tensor
    kinds: list[str]

    def of(self, kind: str) -> Tensor:
        return torch.tensor([k == kind for k in self.kinds])


class Slices:
    """Draws from speech."""

    def __init__(self, speech: Speech, dice: np.random.Generator) -> None:
        self.dice, self.pairs, self.people = dice, [p for p in speech.pairs if p.heard], speech.people
        self.rendered = [person for person in speech.people if person.said is not None]

    def batch(self) -> Batch:
        kinds = [kind for kind, count in KINDS.items() for _ in range(count)]
        columns = [torch.stack(column) for column in zip(*(self._draw(kind) for kind in kinds), strict=True)]
        return Batch(*columns, kinds)

    def real(self, count: int) -> Tensor:
        """(count, FRAMES, C) of the target's own."""
        found: list[Tensor] = []
        while len(found) < count:
            env = self.pairs[self.dice.integers(len(self.pairs))].said.env
            if len(env) >= FRAMES:
                start = self.dice.integers(len(env) - FRAMES + 1)
                found.append(env[start : start + FRAMES].float())
        return torch.stack(found)

    def _draw(self, kind: str) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        while True:
            heard, wanted, tokens = self._source(kind)
            frames = min(len(heard.f0_hz), len(wanted) if wanted is not None else len(heard.f0_hz))
            if frames < FRAMES:
                continue
            start = int(self.dice.integers(frames - FRAMES + 1))
            part = slice(start, start + FRAMES)
            env = (heard.known if self.dice.random() < KNOWN_SHARE else heard.new)[part].float()
            if env[PAST_FRAMES:, :LEVEL_BANDS].mean(1).max() > LOUD:
                break
        said = tokens[part].long() if tokens is not None else torch.full((FRAMES,), UNKNOWN)
        f0_hz = heard.f0_hz[part] * 2 ** (float(self.dice.normal(0, 1)) / 12)
        return self._changed(env), f0_hz, heard.voiced[part], env if wanted is None else wanted[part].float(), said

    def _source(self, kind: str) -> tuple[Heard, Tensor | None, Tensor | None]:
        if kind == "pair":
            pair = self.pairs[self.dice.integers(len(self.pairs))]
            return pair.heard[self.dice.integers(len(pair.heard))], pair.said.env, pair.said.tokens
        among = self.rendered if kind == "rendered" else self.people
        person = among[self.dice.integers(len(among))]
        return person.heard, person.said if kind == "rendered" else None, person.tokens

    def _changed(self, env: Tensor) -> Tensor:
        """Formants a little higher or lower, colour and level a little off: no match is perfect."""
        at = (torch.arange(BANDS) * float(np.exp(self.dice.normal(0, 0.035)))).clamp(0, BANDS - 1)
        below = at.floor().long().clamp_max(BANDS - 2)
        env = torch.lerp(env[:, below], env[:, below + 1], at - below)
        colour = np.interp(np.arange(BANDS), [0, 12, 25, 40, 60, 79], self.dice.normal(0, 0.12, 6))
        return env + torch.from_numpy(colour.astype(np.float32)) + float(self.dice.normal(0, 0.1))


def untrained() -> EnvelopeConverter:
    converter = EnvelopeConverter(SIZES)
    with torch.no_grad():
        converter.net.leave.weight.mul_(0.1)
        converter.net.leave.bias.zero_()
        converter.net.leave.bias[SLOW_VALUES:] = UNHEARD
    return converter


def load_converter(path: Path) -> tuple[EnvelopeConverter, int]:
    """Return the average of the weights that train_converter.py went through, and how many steps it made."""
    converter, saved = EnvelopeConverter(SIZES), torch.load(path, weights_only=True)
    converter.load_state_dict(saved["average"])
    return converter.eval().requires_grad_(False), int(saved["step"])


class Losses:
    """What is wrong with what a converter made. spread (C,): in whose units."""

    def __init__(self, converter: EnvelopeConverter, phones: Phones) -> None:
        self.mean, self.spread, self.phones = converter.net.mean, converter.net.spread, phones

    def of(self, made: Tensor, batch: Batch) -> dict[str, Tensor]:
        paired, rendered, alone = (batch.of(kind) for kind in KINDS)
        part = slice(PAST_FRAMES, -EDGE_FRAMES)
        M, W = made[paired, part], batch.wanted[paired, part]
        envelope = self._apart(M, W).mean() + self._apart(M.diff(dim=1), W.diff(dim=1)).mean()
        envelope = envelope + 0.5 * ((M.diff(dim=2) - W.diff(dim=2)).abs() / self.spread[1:]).mean()
        with torch.autocast("cpu", torch.bfloat16):
            logits, inside = self.phones(made)
            with torch.no_grad():
                _, true = self.phones(batch.wanted[paired])
        pieces = [
            (m[paired][..., part].float() - t[..., part].float()).abs().mean() / (t.float().abs().mean() + 0.01)
            for m, t in zip(inside, true, strict=True)
        ]
        speaking = batch.env[alone, part, :LEVEL_BANDS].mean(2, keepdim=True) > LOUD - 1
        stay = ((made[alone, part] - batch.env[alone, part]).abs() / self.spread * speaking).mean()
        return {
            "envelope": ENVELOPE_WEIGHT * envelope,
            "rendered": RENDERED_WEIGHT * self._shifted(made[rendered], batch.wanted[rendered]),
            "phones": PHONE_WEIGHT * (self._unsaid(logits.float(), batch.tokens) + 2 * torch.stack(pieces).mean()),
            "stay": STAY_WEIGHT * stay,
        }

    def normal(self, env: Tensor) -> Tensor:
        """As the discriminators see it."""
        return ((env[:, PAST_FRAMES:-EDGE_FRAMES] - self.mean) / self.spread).clamp_min(SOFTEST_SPREADS)

    def _apart(self, made: Tensor, wanted: Tensor) -> Tensor:
        return (made.clamp_min(SOFTEST) - wanted.clamp_min(SOFTEST)).abs() / self.spread

    def _shifted(self, made: Tensor, wanted: Tensor) -> Tensor:
        """How far they are at the best of a few shifts: an alignment is some frames off."""
        first, end = PAST_FRAMES, FRAMES - EDGE_FRAMES - max(SHIFTS)
        costs = torch.stack([self._apart(made[:, first:end], wanted[:, first + s : end + s]).mean(2) for s in SHIFTS])
        return _best(costs, SHIFT_FRAMES, 12.0).mean()

    def _unsaid(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Cross entropy of what is said, at the best of a few shifts."""
        first, end = PAST_FRAMES, FRAMES - EDGE_FRAMES - max(SHIFTS)
        surprise = -logits.log_softmax(2)[:, first:end]
        costs = []
        for shift in PHONE_SHIFTS:
            said = tokens[:, first + shift : end + shift]
            cost = surprise.gather(2, said.clamp_min(0)[..., None])[..., 0]
            costs.append(torch.where(said == UNKNOWN, torch.zeros_like(cost), cost))
        told = tokens[:, first:end] != UNKNOWN
        return (_best(torch.stack(costs), PHONE_SHIFT_FRAMES, 8.0) * told).sum() / told.sum().clamp_min(1)


def _best(costs: Tensor, frames: int, sharpness: float) -> Tensor:
    """costs (shifts, B, T) -> (B, T): the mean around each frame, of the shift for which that is least."""
    around = F.avg_pool1d(costs.flatten(0, 1)[:, None], frames, 1, frames // 2, count_include_pad=False)[:, 0].view_as(costs)
    return ((-sharpness * around.detach()).softmax(0) * around).sum(0)


def judged(
    judges: EnvelopeDiscriminators, losses: Losses, batch: Batch, made: Tensor, real: Tensor, against: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Teach the discriminators, then let them judge; they keep still for the converter's step."""
    seen, paired = losses.normal(made), batch.of("pair")
    some = torch.randperm(len(seen))[:FAKE]
    with torch.autocast("cpu", torch.bfloat16):
        apart = told_apart(judges(losses.normal(real)), judges(seen.detach()[some]))
    against.zero_grad()
    apart.backward()
    against.step()
    judges.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        found: list[Judged] = judges(seen)
        with torch.no_grad():
            true = judges(losses.normal(batch.wanted[paired]))
    # Pairs come first: see KINDS.
    features = features_apart(found, true, int(paired.sum()))
    trust = torch.tensor([TRUST[kind] for kind in batch.kinds])
    return {"not believed": ADVERSARIAL_WEIGHT * not_believed(found, trust), "features": FEATURE_WEIGHT * features}


def main() -> None:
    args = arguments(__doc__, "speech", "phones")
    speech, checkpoint = Speech.read(args.speech), args.out / "converter.pt"
    converter, judges = untrained(), EnvelopeDiscriminators()
    rows = torch.cat([pair.said.env.float() for pair in speech.pairs]).clamp_min(-8)
    converter.net.mean.copy_(rows.mean(0))
    converter.net.spread.copy_(rows.std(0))
    losses = Losses(converter, load_phones(args.phones))
    optimiser = torch.optim.AdamW(converter.parameters(), RATE, betas=(0.8, 0.99), weight_decay=0.01)
    against = torch.optim.AdamW(judges.parameters(), DISCRIMINATOR_RATE, betas=(0.8, 0.99))
    parts = {"converter": converter, "judges": judges, "optimiser": optimiser, "against": against}
    average, step = {key: value.clone() for key, value in converter.state_dict().items()}, 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        average, step = saved["average"], saved["step"]
    slices = Slices(speech, np.random.default_rng((args.seed, step)))
    began = last_saved = time.monotonic()
    while True:
        progress = min(1.0, (time.monotonic() - began) / 60 / args.minutes)
        set_rate(optimiser, RATE, step, progress, LEAST_RATE)
        set_rate(against, DISCRIMINATOR_RATE, step, progress, LEAST_RATE)
        batch = slices.batch()
        with torch.autocast("cpu", torch.bfloat16):
            made = converter(_forgetful(batch.env, converter), batch.f0_hz, batch.voiced)
        made = made.float()
        found = losses.of(made, batch)
        loss = torch.stack(list(found.values())).sum()
        if step >= ALONE_STEPS:
            heard = judged(judges, losses, batch, made, slices.real(REAL), against)
            loss = loss + min(1.0, (step - ALONE_STEPS) / WARMING_STEPS) * torch.stack(list(heard.values())).sum()
            found |= heard
        optimiser.zero_grad()
        loss.backward()
        judges.requires_grad_(True)
        nn.utils.clip_grad_norm_(converter.parameters(), 5.0)
        optimiser.step()
        step += 1
        with torch.no_grad():
            for key, value in converter.state_dict().items():
                average[key].lerp_(value, 1 - min(KEPT_AVERAGE, step / (step + 20)))
        if step % 50 == 0:
            print(f"{step}: " + " ".join(f"{name} {float(value.detach()):.3f}" for name, value in found.items()), flush=True)
        if progress >= 1 or time.monotonic() - last_saved > SAVE_EVERY_S:
            last_saved = time.monotonic()
            save(checkpoint, parts, average=average, step=step)
        if progress >= 1:
            return


def _forgetful(env: Tensor, converter: EnvelopeConverter) -> Tensor:
    """Let some slices begin late: before them stands what is average, as at the start of a stream."""
    begun = torch.where(torch.rand(len(env)) < FRESH_SHARE, torch.randint(0, PAST_FRAMES, (len(env),)), 0)
    there = torch.arange(env.shape[1])[None] >= begun[:, None]
    return torch.where(there[..., None], env, converter.net.mean)


if __name__ == "__main__":
    main()
