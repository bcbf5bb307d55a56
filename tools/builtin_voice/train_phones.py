"""Teach a small network which of Kokoro's tokens is said in an envelope, the target's or anybody's that was moved to it.

    train_phones.py SPEECH.pt OUT/phones.pt --minutes 5

The converter is taught with it: what is said must still be heard in what it makes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from speech import UNKNOWN, Heard, Speech
from torch import Tensor, nn

from rvcd.nets.spectral_envelope import BANDS

TOKENS = 180
WIDTH, KERNEL, DILATIONS = 192, 5, (1, 1, 2)
FRAMES = 96
KINDS = {"said": 6, "pair": 8, "person": 14}
RATE, JITTER = 1e-3, 0.1
KNOWN_SHARE = 0.7
"""So often a speaker is one who has spoken for long already."""


class Phones(nn.Module):
    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(BANDS))
        self.register_buffer("spread", torch.ones(BANDS))
        self.enter = nn.Conv1d(BANDS, WIDTH, 3, padding=1)
        self.convs = nn.ModuleList(
            nn.Conv1d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2 * dilation, dilation=dilation) for dilation in DILATIONS
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, WIDTH) for _ in DILATIONS)
        self.leave = nn.Conv1d(WIDTH, TOKENS, 1)

    def forward(self, env: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, T, C) -> logits (B, T, TOKENS), and what the layers make on the way, (B, WIDTH, T) each."""
        x = self.enter(((env - self.mean) / self.spread).transpose(1, 2))
        inside = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = x + F.gelu(norm(conv(x)))
            inside.append(x)
        return self.leave(x).transpose(1, 2), inside


def load_phones(path: Path) -> Phones:
    phones = Phones()
    phones.load_state_dict(torch.load(path, weights_only=True))
    return phones.eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    dice, speech, phones = np.random.default_rng(1), Speech.read(args.speech), Phones()
    rows = torch.cat([pair.said.env.float() for pair in speech.pairs])
    phones.mean.copy_(rows.mean(0))
    phones.spread.copy_(rows.std(0))
    told = [person for person in speech.people if person.tokens is not None]
    optimiser = torch.optim.AdamW(phones.parameters(), RATE, weight_decay=0.02)
    began, step = time.monotonic(), 0
    while (progress := (time.monotonic() - began) / 60 / args.minutes) < 1:
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, step / 100) * (1 - progress)
        drawn = []
        for _ in range(KINDS["said"]):
            said = speech.pairs[dice.integers(len(speech.pairs))].said
            drawn.append(_cut(said.env, said.tokens, dice))
        for _ in range(KINDS["pair"]):
            pair = speech.pairs[dice.integers(len(speech.pairs))]
            drawn.append(_cut(either(pair.heard[dice.integers(len(pair.heard))], dice), pair.said.tokens, dice))
        for _ in range(KINDS["person"]):
            person = told[dice.integers(len(told))]
            assert person.tokens is not None
            drawn.append(_cut(either(person.heard, dice), person.tokens, dice))
        env, tokens = (torch.stack(column) for column in zip(*drawn, strict=True))
        with torch.autocast("cpu", torch.bfloat16):
            logits, _ = phones(env + JITTER * torch.randn_like(env))
        loss = F.cross_entropy(logits.float().flatten(0, 1), tokens.flatten(), ignore_index=UNKNOWN, label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        if step % 200 == 0:
            print(f"{step}: {float(loss.detach()):.3f}", flush=True)
    torch.save(phones.state_dict(), args.out)


def either(heard: Heard, dice: np.random.Generator) -> Tensor:
    return heard.known if dice.random() < KNOWN_SHARE else heard.new


def _cut(env: Tensor, tokens: Tensor, dice: np.random.Generator) -> tuple[Tensor, Tensor]:
    tokens = tokens[: len(env)]
    missing = FRAMES - len(env)
    if missing > 0:
        env, tokens = torch.cat((env, env[-1:].expand(missing, -1))), F.pad(tokens, (0, missing), value=UNKNOWN)
    start = int(dice.integers(len(env) - FRAMES + 1))
    return env[start : start + FRAMES].float(), tokens[start : start + FRAMES].long()


if __name__ == "__main__":
    main()
