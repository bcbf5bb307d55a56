"""Train the small encoder: front end first, then the transformer over its features, then both.

    train.py CLIPS OUT --steps 200 620 290

CLIPS: what align_phones.py made; clips that are added meanwhile are found. Saves OUT/checkpoint.pt every few minutes and goes on
from it, and OUT/final.pt whenever it saves.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from clips import Clip, held_out_speakers, is_held_out, load_clip
from network import SIZES, Trained, drop_out, save_final
from phones import SILENCE, UNKNOWN, collapse, edit_distance
from torch import Tensor

from rvcd.nets.lite_encoder import LogMel

SEED = 1
STAGES = ("front end", "transformer", "both")
BATCH_S = (16.0, 32.0, 24.0)
"""Seconds of speech a step."""
PIECES_S = ((2.0,), (3.0, 5.0), (3.0, 5.0))
LEAST_SHARE = 0.7
"""Of a piece: shorter clips would be mostly padding."""
RATES = (3e-3, 1e-3, 1.2e-3)
DROPPED = 0.1
MASK_CHANCE, MASK_UNITS = 0.015, 8
SAVE_EVERY_S = 200.0
KEPT_AVERAGE = 0.98
CTC_SHARE = 0.5
CTC_FROM = 220
"""Step of the second stage from which CTC is taught too, by a head that begins as the frames' one.

From the first step on, CTC taught the transformer nothing but blanks within 400 steps: every row became the same.
"""
WHOLE_CHANCES = (0.0, 0.5, 0.3)
"""Of a step over whole clips that are not aligned, by CTC."""
HELD_OUT_CLIPS = 24


class Speech:
    """The clips to learn from, as many as there are by now: aligned ones, longer ones oftener, and others, by length."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held_out = held_out_speakers(folder)
        self.aligned: list[Clip] = []
        self.others: list[Clip] = []
        self._known: set[Path] = set()
        self.refresh()

    def refresh(self) -> None:
        found = sorted(set(self.folder.glob("*/*.npz")) - self._known)
        self._known.update(found)
        clips = [load_clip(path) for path in found if not is_held_out(path, self.held_out)]
        clips = [clip for clip in clips if len(clip.audio) > 16000]
        self.aligned += [clip for clip in clips if clip.aligned]
        self.others = sorted(self.others + [clip for clip in clips if not clip.aligned], key=lambda clip: len(clip.audio))
        lengths = np.array([len(clip.audio) for clip in self.aligned], float)
        self.chances = lengths / lengths.sum()
        others = sum(len(clip.audio) for clip in self.others)
        print(f"{len(self.aligned)} clips aligned, {lengths.sum() / 57.6e6:.2f} h; others {others / 57.6e6:.2f} h", flush=True)

    def draw(self, count: int, dice: np.random.Generator) -> list[Clip]:
        return [self.aligned[i] for i in dice.choice(len(self.aligned), count, p=self.chances)]

    def draw_whole(self, seconds: float, dice: np.random.Generator) -> list[Clip]:
        """Clips of about one length, so that little of a batch is padding."""
        first = int(dice.integers(len(self.others)))
        count = max(1, int(seconds * 16000 / len(self.others[first].audio)))
        first = max(0, min(first, len(self.others) - count))
        return self.others[first : first + count]


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
        with torch.no_grad():
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
    return F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=UNKNOWN, label_smoothing=0.05)


def ctc(scores: Tensor, said: list[list[int]]) -> Tensor:
    """scores (B, N, CLASSES) of clips in which this is said."""
    logs = scores.log_softmax(-1).transpose(0, 1)
    lengths = torch.full((len(said),), logs.shape[0])
    targets = torch.cat([torch.tensor(one) for one in said])
    return F.ctc_loss(logs, targets, lengths, torch.tensor([len(one) for one in said]), zero_infinity=True)


def losses(model: Trained, stage: int, done: int, speech: Speech, mel: LogMel, dice: np.random.Generator) -> dict[str, Tensor]:
    """done: steps of this stage."""
    if stage == 1 and done == CTC_FROM:
        model.ctc.load_state_dict(model.frame.state_dict())
    with_ctc = stage == 2 or (stage == 1 and done > CTC_FROM)
    if with_ctc and speech.others and dice.random() < WHOLE_CHANCES[stage]:
        return whole_losses(model, stage, speech.draw_whole(BATCH_S[stage], dice), dice)
    piece_s = dice.choice(PIECES_S[stage])
    units, count = round(piece_s * 50), round(BATCH_S[stage] / piece_s)
    clips = [clip for clip in speech.draw(4 * count, dice) if len(clip.labels) >= LEAST_SHARE * units][:count]
    if stage == 1:
        pieces = [feature_piece(model, clip, units, dice) for clip in clips]
        features = torch.stack([piece[0] for piece in pieces])
    else:
        pieces = [audio_piece(clip, units, dice) for clip in clips]
        audio = torch.stack([piece[0] for piece in pieces])
        features = model.encoder.front_end(audio)
    labels = torch.from_numpy(np.stack([piece[1] for piece in pieces]).astype(np.int64))
    if stage == 0:
        with torch.no_grad():
            wanted = mel(audio)
        return {"mel": 10 * F.mse_loss(model.mel(features), wanted), "near": cross_entropy(model.near(features), labels)}
    x = model.masked_units(features, hidden_rows(*labels.shape, dice), DROPPED)
    return {"frame": cross_entropy(model.frame(x), labels)}


def whole_losses(model: Trained, stage: int, clips: list[Clip], dice: np.random.Generator) -> dict[str, Tensor]:
    """Of clips of which it is known what is said, but not when."""
    units = max(len(clip.labels) for clip in clips)
    if stage == 1:
        features = torch.stack([feature_piece(model, clip, units, dice)[0] for clip in clips])
    else:
        samples = units * 320 + 80
        audio = torch.stack(
            [F.pad(clip.audio[:samples].float() / 32768, (0, max(0, samples - len(clip.audio)))) for clip in clips]
        )
        features = model.encoder.front_end(audio + 1e-4 * torch.randn(audio.shape))
    x = model.masked_units(features, hidden_rows(len(clips), units, dice), DROPPED)
    return {"ctc": CTC_SHARE * ctc(model.ctc(x), [[int(c) for c in clip.said] for clip in clips])}


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
    parser.add_argument("--steps", type=int, nargs=3, required=True, help="for the front end, the transformer, and both")
    parser.add_argument("--minutes", type=float, default=60.0, help="save and stop after this time, whatever is done")
    parser.add_argument("--threads", type=int, default=1, help="more than one wait for each other where the cores are shared")
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = args.out / "checkpoint.pt"
    model, mel = Trained().train(), LogMel()
    drop_out(model, DROPPED)
    print(
        f"{sum(p.numel() for p in model.encoder.parameters()) / 1e6:.2f} M parameters, {SIZES.layers} x {SIZES.width}", flush=True
    )
    state = {"stage": 0, "step": 0, "done": 0, "average": {k: v.clone() for k, v in model.state_dict().items()}}
    optimiser = torch.optim.AdamW(model.parameters(), RATES[0], weight_decay=0.02, betas=(0.9, 0.98))
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        state = {key: saved[key] for key in state}
    speech = Speech(args.clips)
    tests = sorted(path for path in args.clips.glob("*/*.npz") if is_held_out(path, speech.held_out))
    tests = tests[:: max(1, len(tests) // HELD_OUT_CLIPS)]
    began = last_saved = time.monotonic()
    while state["stage"] < len(STAGES):
        stage, now = state["stage"], time.monotonic()
        progress = min(1.0, state["done"] / args.steps[stage])
        over = now - began > 60 * args.minutes
        if progress >= 1 or over or now - last_saved > SAVE_EVERY_S:
            last_saved = now
            own = {k: v.clone() for k, v in model.state_dict().items()}
            model.load_state_dict(state["average"])
            print("  held out: " + report(model, [load_clip(path) for path in tests]), flush=True)
            if progress >= 1:
                state |= {"stage": stage + 1, "done": 0}
                own = state["average"]
                optimiser = torch.optim.AdamW(model.parameters(), RATES[0], weight_decay=0.02, betas=(0.9, 0.98))
                for clip in (*speech.aligned, *speech.others):
                    clip.features = None
            model.load_state_dict(own)
            part = checkpoint.with_suffix(".part")
            torch.save(state | {"model": model.state_dict(), "optimiser": optimiser.state_dict()}, part)
            part.replace(checkpoint)
            save_final(args.out / "final.pt", state["average"])
            if over:
                return
            speech.refresh()
            continue
        # Up in a tenth of the time, then down to nothing (one cycle).
        rate = RATES[stage] * min(1.0, progress / 0.1 + 0.01) * 0.5 * (1 + np.cos(np.pi * max(0.0, progress - 0.1) / 0.9))
        for group in optimiser.param_groups:
            group["lr"] = float(rate)
        state["step"] += 1
        state["done"] += 1
        parts = losses(model, stage, state["done"], speech, mel, np.random.default_rng((args.seed, state["step"])))
        optimiser.zero_grad(set_to_none=True)
        sum(parts.values()).backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            for key, value in model.state_dict().items():
                state["average"][key].lerp_(value, 1 - KEPT_AVERAGE)
        if state["step"] % 10 == 0:
            shown = " ".join(f"{name} {float(value.detach()):.3f}" for name, value in parts.items())
            print(f"{STAGES[stage]}: step {state['step']} ({(time.monotonic() - began) / 60:.1f} min): {shown}", flush=True)


if __name__ == "__main__":
    main()
