"""Fit the small part of the encoder that hears the speaker's own envelope.

    fit_own_envelope.py PAIRS[,MORE PAIRS] ENCODER.pt

It learns from both sides of the pairs what WORLD's CheapTrick finds in the audio itself, which is a matter of single moments and
of no language: two minutes are enough. Saves own_envelope.pt beside the encoder's checkpoint; train_encoder.load_finished puts
both together.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import soxr
import torch
from envelope import BANDS, band_centres_hz, envelope
from kokoro import RATE_HZ
from torch import Tensor
from train_encoder import OWN_ENVELOPE, Basis, unit_times_s

from rvcd.nets.lite_encoder import FEATURES, LogMel
from rvcd.nets.own_envelope import OwnEnvelope

SHARE, FULL_UP_TO_HZ, NONE_FROM_HZ = 0.6, 6500.0, 7800.0
"""Of the speaker's own in the mix; above what 16 kHz audio holds there is nothing to hear."""
SILENT, SPEAKING = -1.2, -0.3
"""Means of the target's bands, in their own spread around their mean: silence has -2, a vowel 0.8."""
THROATS = np.exp(np.linspace(-0.16, 0.32, 13))
"""A man's tract is a fifth longer than the target's, a child's shorter."""
STEPS, BATCH, LEARNING_RATE, SEED = 4000, 4096, 2e-3, 3


def stretch(factor: float) -> Tensor:
    """Return (BANDS, BANDS): rows of bands times it have their frequencies, in Hz, multiplied by the factor."""
    mel = 2595 * torch.log10(1 + torch.from_numpy(band_centres_hz()) / factor / 700)
    step = 2595 * math.log10(1 + RATE_HZ / 2 / 700) / (BANDS + 1)
    at = (mel / step - 1).clamp(0, BANDS - 1)
    low = at.floor().long()
    share, bands = at - low, torch.arange(BANDS)
    matrix = torch.zeros(BANDS, BANDS, dtype=torch.float64)
    matrix[low, bands] += 1 - share
    matrix[(low + 1).clamp(max=BANDS - 1), bands] += share
    return matrix.float()


def rows_of(paths: list[Path], basis: Basis, dice: np.random.Generator) -> tuple[Tensor, Tensor]:
    """-> features (R, FEATURES) of both sides, louder and softer and in some noise; own envelopes (R, BANDS)."""
    log_mel, heard, wanted = LogMel(), [], []
    for path in paths:
        data = np.load(path)
        for side in ("source", "target"):
            audio = soxr.resample(data[side].astype(np.float32) / 32768, RATE_HZ, 16000)
            times = unit_times_s((len(audio) - 400) // 320 + 1)
            own = torch.from_numpy(envelope(data[side], data[f"{side}_f0_hz"], times))
            level_db = 20 * math.log10(float(np.sqrt(np.mean(audio**2))) + 1e-6)
            gain_db = dice.uniform(-40, -12) - level_db
            noise = dice.standard_normal(len(audio)) * 10 ** ((level_db - dice.uniform(20, 70)) / 20)
            loud = torch.from_numpy(((audio + noise) * 10 ** (gain_db / 20)).clip(-1, 1).astype(np.float32))
            heard.append(log_mel(loud[None])[0])
            wanted.append((own + gain_db / 10 - basis.bands_mean) / basis.bands_std)
    return torch.cat(heard), torch.cat(wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=lambda text: [p for part in text.split(",") for p in sorted(Path(part).glob("*.npz"))])
    parser.add_argument("encoder", type=Path, help="train_encoder.py's checkpoint")
    args = parser.parse_args()
    torch.manual_seed(SEED)
    dice = np.random.default_rng(SEED)
    basis = Basis(**torch.load(args.encoder, weights_only=True)["basis"])
    features, wanted = rows_of([p for i, p in enumerate(args.pairs) if i % 25], basis, dice)
    tests = rows_of(args.pairs[::25], basis, dice)
    model = OwnEnvelope(OWN_ENVELOPE, FEATURES)
    optimiser = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, 2 * (1 - step / STEPS))
        rows = torch.from_numpy(dice.integers(len(features), size=BATCH))
        loss = (model.hear(features[rows]) - wanted[rows]).abs().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if (step + 1) % 500 == 0:
            with torch.no_grad():
                print(f"step {step + 1}: {float((model.hear(tests[0]) - tests[1]).abs().mean()):.3f} of a spread off", flush=True)
    centres_hz = torch.from_numpy(band_centres_hz()).float()
    model.share.copy_(SHARE * ((NONE_FROM_HZ - centres_hz) / (NONE_FROM_HZ - FULL_UP_TO_HZ)).clamp(0, 1))
    model.levels.copy_(torch.tensor((SILENT, SPEAKING)))
    model.throats.copy_(torch.stack([stretch(float(factor)) for factor in THROATS]))
    torch.save(model.state_dict(), args.encoder.with_name("own_envelope.pt"))


if __name__ == "__main__":
    main()
