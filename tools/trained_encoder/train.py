"""Train the small encoder: the front end first, then the transformer over what it makes, then both.

    train.py CLIPS OUT --steps 1400 8000 1000

CLIPS: what align_phones.py made; clips that are added meanwhile are found. Saves OUT/checkpoint.pt every few minutes and goes on
from it, and OUT/final.pt whenever it saves.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from clips import Clip, held_out_speakers, is_held_out, load_clip
from log_mel import LogMel
from network import SIZES, Trained, drop_out, save_final
from phones import SILENCE, UNKNOWN, collapse, edit_distance
from torch import Tensor

SEED = 1
STAGES = ("front end", "transformer", "both")
BATCH_S = (16.0, 16.0, 16.0)
"""Seconds of speech a step."""
PIECES_S = (((2.0,), (2.0,)), ((3.0, 4.0), (4.0, 8.0)), ((4.0, 8.0), (4.0, 8.0)))
"""Lengths of pieces, in each stage's first part (LATER_FROM) and after it: what is learnt on short ones only never learns to use
a past or a future beyond them."""
LATER_FROM = 0.5
LEAST_SHARE = 0.7
"""Of a piece: shorter clips would be mostly padding."""
RATES = (3e-3, 1.5e-3, 5e-4)
KEPT_AVERAGE = (0.98, 0.995, 0.99)
DROPPED = 0.1
MASK_CHANCE, MASK_UNITS = 0.015, 8
SAVE_EVERY_S = 200.0
SHARE_OF_TIME = (0.3, 0.8, 1.0)
"""Of what is left of --minutes: a stage ends by then."""
CTC_SHARE, NEAR_SHARE = 0.3, 0.2
CTC_FROM = 0.3
"""Part of the second stage from which CTC is taught too, by a head that begins as the frames' one: from the first step on, CTC
teaches a transformer nothing but blanks, and every row becomes the same."""
HELD_OUT_CLIPS = 24


class Speech:
    """The clips to learn from, as many as there are by now, longer ones oftener."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held_out = held_out_speakers(folder)
        self.clips: list[Clip] = []
        self._known: set[Path] = set()
        self.refresh()

    def refresh(self) -> None:
        found = sorted(set(self.folder.glob("*/*.npz")) - self._known)
        self._known.update(found)
        clips = [load_clip(path) for path in found if not is_held_out(path, self.held_out)]
        self.clips += [clip for clip in clips if len(clip.audio) > 16000 and clip.aligned]
        self.units = np.array([len(clip.labels) for clip in self.clips])
        print(f"{len(self.clips)} clips, {self.units.sum() / 180e3:.2f} h", flush=True)

    def draw(self, count: int, units: int, dice: np.random.Generator) -> list[Clip]:
        """Return clips of which a piece of so many units is not mostly padding."""
        chances = np.where(self.units >= min(LEAST_SHARE * units, self.units.max()), self.units, 0.0)
        return [self.clips[i] for i in dice.choice(len(self.clips), count, p=chances / chances.sum())]


def audio_piece(clip: Clip, units: int, dice: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """Cut a piece, played slower or faster -> (samples,), labels (units,)."""
    factor = float(np.exp(dice.uniform(-0.12, 0.12))) if dice.random() < 0.5 else 1.0
    wanted = units * 320 + 80
    source = round(wanted * factor)
    start = int(dice.integers(0, max(1, (len(clip.audio) - source) // 320 + 1)))
    audio = clip.audio[start * 320 : start * 320 + source].float() / 32768
    audio = F.pad(audio, (0, source - len(audio)))
    if factor != 1.0:
        audio = F.interpolate(audio[None, None], size=wanted, mode="linear", align_corners=False)[0, 0]
    at = np.round((np.arange(units) * 0.02 + 0.0125) * factor / 0.02 - 0.625).astype(int) + start
    labels = np.where(at < len(clip.labels), clip.labels[np.minimum(at, len(clip.labels) - 1)], SILENCE)
    level = audio.square().mean().sqrt() + 1e-4
    audio = audio + torch.randn(wanted) * (level * 10 ** (-dice.uniform(15, 60) / 20))
    return audio / level * float(10 ** (dice.uniform(-34, -16) / 20)), labels


def feature_piece(model: Trained, clip: Clip, units: int, dice: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """(units, CHANNELS) of a front end that is kept as it is, and labels (units,)."""
    if clip.features is None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            clip.features = model.encoder.front_end(clip.audio[None].float() / 32768)[0].half()
    start = int(dice.integers(0, max(1, len(clip.labels) - units + 1)))
    features, labels = clip.features[start : start + units].float(), clip.labels[start : start + units]
    missing = units - len(features)
    if missing:
        features = torch.cat((features, features[-1:].expand(missing, -1)))
        labels = np.pad(labels, (0, missing), constant_values=UNKNOWN)
    return features, labels


def hidden_rows(B: int, N: int, dice: np.random.Generator) -> Tensor:
    """Which rows the transformer must guess: spans from random starts on, about a tenth of all."""
    starts = dice.random((B, N)) < MASK_CHANCE
    hidden = np.zeros((B, N), bool)
    for shift in range(MASK_UNITS):
        hidden[:, shift:] |= starts[:, : N - shift]
    return torch.from_numpy(hidden)


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(scores.float().flatten(0, 1), labels.flatten(), ignore_index=UNKNOWN, label_smoothing=0.05)


def ctc(scores: Tensor, labels: Tensor) -> Tensor:
    """scores (B, N, CLASSES), labels (B, N): what is said, without when. Pieces with unknown phones do not count."""
    known = (labels != UNKNOWN).all(1)
    if not known.any():
        return scores.sum() * 0.0
    said = [torch.tensor(collapse(one.numpy()), dtype=torch.long) for one in labels[known]]
    logs = scores[known].float().log_softmax(-1).transpose(0, 1)
    lengths = torch.full((len(said),), logs.shape[0])
    return F.ctc_loss(logs, torch.cat(said), lengths, torch.tensor([len(one) for one in said]), zero_infinity=True)


def losses(
    model: Trained, stage: int, progress: float, speech: Speech, mel: LogMel, dice: np.random.Generator
) -> dict[str, Tensor]:
    """progress: of this stage, 0..1."""
    piece_s = dice.choice(PIECES_S[stage][int(progress > LATER_FROM)])
    units, count = round(piece_s * 50), round(BATCH_S[stage] / piece_s)
    clips = speech.draw(count, units, dice)
    cut = partial(feature_piece, model) if stage == 1 else audio_piece
    pieces = [cut(clip, units, dice) for clip in clips]
    heard = torch.stack([piece[0] for piece in pieces])
    labels = torch.from_numpy(np.stack([piece[1] for piece in pieces]).astype(np.int64))
    with torch.autocast("cpu", torch.bfloat16):
        features = heard if stage == 1 else model.encoder.front_end(heard)
        near = {} if stage == 1 else {"near": (NEAR_SHARE if stage else 1.0) * cross_entropy(model.near(features), labels)}
        if stage == 0:
            with torch.no_grad(), torch.autocast("cpu", enabled=False):
                wanted = mel(heard)
            return near | {"mel": 10 * F.mse_loss(model.mel(features).float(), wanted)}
        x = model.masked_units(features, hidden_rows(*labels.shape, dice), DROPPED)
        parts = near | {"frame": cross_entropy(model.frame(x), labels)}
        return parts | ({"ctc": CTC_SHARE * ctc(model.ctc(x), labels)} if stage == 2 or progress > CTC_FROM else {})


@torch.no_grad()
def report(model: Trained, clips: list[Clip]) -> str:
    model.eval()
    near = frame = count = wrong = said = 0
    for clip in clips:
        features = model.encoder.front_end(clip.audio[None].float() / 32768)
        x = model.encoder.encode(features)
        known = clip.labels != UNKNOWN
        near += int((model.near(features)[0].argmax(-1).numpy() == clip.labels)[known].sum())
        frame += int((model.frame(x)[0].argmax(-1).numpy() == clip.labels)[known].sum())
        count += int(known.sum())
        wrong += edit_distance(list(clip.said), collapse(model.ctc(x)[0].argmax(-1).numpy()))
        said += len(clip.said)
    model.train()
    return f"{near / count:.1%} of frames right by the front end, {frame / count:.1%} by all; {wrong / said:.1%} phone errors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, nargs=3, required=True, help="for front end, transformer, both; 0 leaves one out")
    parser.add_argument("--minutes", type=float, default=1e6, help="end by then with fewer steps, the rate run down all the same")
    parser.add_argument("--threads", type=int, default=1, help="more than one wait for each other where the cores are shared")
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = args.out / "checkpoint.pt"
    model, mel = Trained().train(), LogMel()
    drop_out(model, DROPPED)
    print(
        f"{sum(p.numel() for p in model.encoder.parameters()) / 1e6:.2f} M parameters, {SIZES.layers} x {SIZES.width}", flush=True
    )
    state = {"stage": 0, "step": 0, "done": 0, "average": {k: v.clone() for k, v in model.state_dict().items()}}

    def new_optimiser() -> torch.optim.AdamW:
        return torch.optim.AdamW(model.parameters(), RATES[0], weight_decay=0.02, betas=(0.9, 0.98))

    optimiser = new_optimiser()
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        state = {key: saved[key] for key in state}
    speech = Speech(args.clips)
    tests = sorted(path for path in args.clips.glob("*/*.npz") if is_held_out(path, speech.held_out))
    tests = tests[:: max(1, len(tests) // HELD_OUT_CLIPS)]
    began = stage_began = last_saved = time.monotonic()
    while state["stage"] < len(STAGES):
        stage, now = state["stage"], time.monotonic()
        progress = state["done"] / args.steps[stage] if args.steps[stage] else 1.0
        share = SHARE_OF_TIME[stage] if any(args.steps[stage + 1 :]) else 1.0
        progress = max(progress, (now - stage_began) / (share * max(1.0, began + 60 * args.minutes - stage_began)))
        if progress >= 1 or now - last_saved > SAVE_EVERY_S:
            last_saved = now
            own = {k: v.clone() for k, v in model.state_dict().items()}
            model.load_state_dict(state["average"])
            print("  held out: " + report(model, [load_clip(path) for path in tests]), flush=True)
            if progress >= 1:
                state |= {"stage": stage + 1, "done": 0}
                own, optimiser, stage_began = state["average"], new_optimiser(), now
                for clip in speech.clips:
                    clip.features = None
            model.load_state_dict(own)
            part = checkpoint.with_suffix(".part")
            torch.save(state | {"model": model.state_dict(), "optimiser": optimiser.state_dict()}, part)
            part.replace(checkpoint)
            save_final(args.out / "final.pt", state["average"])
            speech.refresh()
            continue
        # Up in a twentieth of the time, then down to nothing (one cycle).
        rate = RATES[stage] * min(1.0, progress / 0.05 + 0.01) * 0.5 * (1 + np.cos(np.pi * max(0.0, progress - 0.05) / 0.95))
        for group in optimiser.param_groups:
            group["lr"] = float(rate)
        if stage == 1 and progress <= CTC_FROM:
            model.ctc.load_state_dict(model.frame.state_dict())
        state["step"] += 1
        state["done"] += 1
        parts = losses(model, stage, progress, speech, mel, np.random.default_rng((args.seed, state["step"])))
        optimiser.zero_grad(set_to_none=True)
        sum(parts.values()).backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            for key, value in model.state_dict().items():
                state["average"][key].lerp_(value, 1 - KEPT_AVERAGE[stage])
        if state["step"] % 50 == 0:
            shown = " ".join(f"{name} {float(value.detach()):.3f}" for name, value in parts.items())
            print(f"{STAGES[stage]}: step {state['step']} ({(time.monotonic() - began) / 60:.1f} min): {shown}", flush=True)


if __name__ == "__main__":
    main()
