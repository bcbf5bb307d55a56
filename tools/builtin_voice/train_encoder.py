"""Train the lite content encoder: audio of many voices -> what is said, the same for all of them.

    train_encoder.py PAIRS HUMAN_PAIRS SPEECH OUT --minutes 30

PAIRS: what render_pairs.py made (both sides are used), HUMAN_PAIRS: render_speech.py's, SPEECH: align_speech.py's. Units are the
spectral envelope that the target would have, two energies, and principal components of the content. Saves OUT/encoder.pt every
few minutes and goes on from it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr
import torch
import torch.nn.functional as F
from envelope import BANDS, envelope
from kokoro import CONTENT_RATE_HZ, F0_RATE_HZ, RATE_HZ
from labels import frame_tokens
from realign import shifts
from torch import Tensor, nn

from rvcd.nets.convnext import ConvNextShape
from rvcd.nets.lite_encoder import LiteEncoder, LiteSizes
from rvcd.nets.own_envelope import OwnEnvelopeSizes

COMPONENTS, ENERGIES = 70, 2
ENERGY_SCALE = 4.0
CLASSES = 180
SIZES = LiteSizes(
    width=256,
    inner_width=768,
    unit_width=BANDS + ENERGIES + COMPONENTS,
    blocks=tuple(ConvNextShape(*shape) for shape in (
        (5, 1, 0), (5, 1, 1), (7, 1, 1), (7, 2, 0), (5, 1, 1), (7, 4, 0), (7, 2, 0), (7, 8, 0),
    )),
)  # fmt: skip
OWN_ENVELOPE = OwnEnvelopeSizes(bands=BANDS, hidden=256, throats=13)
CROP_UNITS, BATCH = 150, 20
CROP_SAMPLES = CROP_UNITS * 320 + 80
LEARNING_RATE = 1.5e-3
SAVE_EVERY_S = 120.0
KEPT_AVERAGE = 0.995
HUMAN_SHARE, HUMAN_PAIR_SHARE = 0.12, 0.6
"""Of a batch: recordings alone, until there are pairs of them; then pairs."""
SEED = 1
HELD_BACK_PEOPLE = 8
DROPPED = 0.1


@dataclass
class Utterance:
    """audio (samples,) int16 at 16 kHz; units (N, unit_width), NaN where not known; tokens (N,): one row a unit."""

    audio: Tensor
    units: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class Basis:
    """content (512,) -> its principal components, scaled so that the first has a variance of one; envelopes' mean and spread."""

    mean: Tensor
    axes: Tensor
    bands_mean: Tensor
    bands_std: Tensor

    def __call__(self, content: np.ndarray) -> Tensor:
        """(512, T) -> (T, COMPONENTS)."""
        return (torch.from_numpy(content.astype(np.float32)).T - self.mean) @ self.axes


def person(path: Path) -> str:
    """Return who speaks in a file of align_speech.py or render_speech.py: SPEAKER-CHAPTER-NUMBER, as LibriSpeech names them."""
    return path.stem.removeprefix("human_").split("-")[0]


def find_basis(paths: list[Path]) -> Basis:
    rows = torch.cat([torch.from_numpy(np.load(p)["content"].astype(np.float32)).T[::3] for p in paths])
    mean = rows.mean(0)
    _, scales, axes = torch.linalg.svd(rows - mean, full_matrices=False)
    kept = float(scales[:COMPONENTS].square().sum() / scales.square().sum())
    first = float(scales[0]) / len(rows) ** 0.5
    print(f"{COMPONENTS} components keep {100 * kept:.1f} % of the content's variance", flush=True)
    bands = torch.cat([_envelope_of(np.load(p), 20.0) for p in paths[::4]])
    return Basis(mean, axes[:COMPONENTS].T / first, bands.mean(0), bands.std(0))


def _envelope_of(data: Mapping[str, np.ndarray], longest_s: float) -> Tensor:
    """Return the envelopes of the target side, one a unit."""
    units = (min(len(data["target"]), round(longest_s * RATE_HZ)) * 16000 // RATE_HZ - 400) // 320 + 1
    return torch.from_numpy(envelope(data["target"], data["target_f0_hz"], unit_times_s(units)))


def unit_times_s(units: int) -> np.ndarray:
    """The middle of each unit's 25 ms."""
    return np.arange(units) * 0.02 + 0.0125


def rows_at(track: Tensor, rate_hz: float, times_s: np.ndarray) -> Tensor:
    """Interpolate (T, C) at times; row j stands for the middle of its interval."""
    at = np.clip(times_s * rate_hz - 0.5, 0, len(track) - 1)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, len(track) - 1)
    share = torch.from_numpy((at - low).astype(np.float32))[:, None]
    return track[low] * (1 - share) + track[high] * share


def load_pairs(paths: list[Path], basis: Basis) -> list[Utterance]:
    loaded = []
    for path in paths:
        data = np.load(path)
        content, energy = basis(data["content"]), torch.from_numpy(data["energy"])[:, None] / ENERGY_SCALE
        ids = data["frame_tokens"] if "frame_tokens" in data else frame_tokens(data["content"], data["tokens"])
        bands = (_envelope_of(data, 1e3) - basis.bands_mean) / basis.bands_std
        for side in ("source", "target"):
            audio = soxr.resample(data[side].astype(np.float32), RATE_HZ, 16000).clip(-32768, 32767).astype(np.int16)
            units = (len(audio) - 400) // 320 + 1
            times = unit_times_s(units)
            energies = torch.cat([rows_at(energy, F0_RATE_HZ, times + shift) for shift in (-0.005, 0.005)], dim=1)
            tokens = ids[np.minimum((times * CONTENT_RATE_HZ).astype(np.int64), len(ids) - 1)]
            wanted = bands[np.minimum(np.arange(units), len(bands) - 1)]
            rows = torch.cat((wanted, energies, rows_at(content, CONTENT_RATE_HZ, times)), dim=1)
            loaded.append(Utterance(torch.from_numpy(audio), rows, torch.from_numpy(tokens)))
    return loaded


def load_speech(paths: list[Path], basis: Basis) -> list[Utterance]:
    loaded = []
    for path in paths:
        data = np.load(path)
        units = (len(data["audio"]) - 400) // 320 + 1
        times = unit_times_s(units)
        content = rows_at(basis(data["content"]), 50, times)
        ids = data["tokens"]
        tokens = ids[np.minimum((times * 50).astype(np.int64), len(ids) - 1)]
        rows = torch.cat((torch.full((units, BANDS + ENERGIES), torch.nan), content), dim=1)
        loaded.append(Utterance(torch.from_numpy(data["audio"]), rows, torch.from_numpy(tokens)))
    return loaded


@torch.no_grad()
def realign(utterances: list[Utterance], encoder: LiteEncoder) -> None:
    """Move what is wanted to where the encoder, as it is, hears it."""
    for u in utterances:
        heard = encoder.units(u.audio[None].float() / 32768, unit_width=SIZES.unit_width)[0]
        N = min(len(heard), len(u.units))
        rows = (torch.arange(N) + shifts(heard[:N, :BANDS], u.units[:N, :BANDS])).clamp(0, N - 1)
        u.units, u.tokens = u.units[rows], u.tokens[rows]


class Trained(nn.Module):
    """The encoder and, for training only, a classifier of its hidden rows."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = LiteEncoder(SIZES)
        self.classify = nn.Linear(SIZES.width, CLASSES)


def load_encoder(path: Path) -> LiteEncoder:
    """Return the averaged encoder of a checkpoint, as it is trained: it guesses envelope, energies and content."""
    trained = Trained()
    trained.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["average"])
    return trained.encoder.eval().requires_grad_(False)


def load_finished(path: Path) -> LiteEncoder:
    """Return the encoder of a checkpoint as the voice gets it: its units are envelopes, leaned on the speaker's own.

    Energies and content helped it to learn. In a stream they are guesses that nothing puts right, and a voice that heard them
    would follow them rather than the envelope.
    """
    taught = load_encoder(path)
    encoder = LiteEncoder(replace(SIZES, unit_width=BANDS, own_envelope=OWN_ENVELOPE))
    weights = {key: value[:BANDS] if key.startswith("leave.") else value for key, value in taught.state_dict().items()}
    own = torch.load(path.with_name("own_envelope.pt"), weights_only=True, map_location="cpu")
    encoder.load_state_dict(weights | {f"own_envelope.{key}": value for key, value in own.items()})
    return encoder.eval().requires_grad_(False)


def drop_out(model: Trained) -> None:
    """Let every block forget some of its inner values while it is trained: there are few people to learn from."""
    for block in model.encoder.blocks:
        block.inner.register_forward_hook(lambda layer, _, out: F.dropout(out, DROPPED, layer.training))


def warp(features: Tensor, dice: np.random.Generator) -> Tensor:
    """(B, N, FEATURES): longer and shorter throats, the pitch left alone (VTLP, Jaitly & Hinton 2013)."""
    B, N, _ = features.shape
    factors = np.where(dice.random(B) < 0.5, np.exp(dice.uniform(-0.12, 0.12, B)), 1.0).astype(np.float32)
    parts = []
    for first, bands in ((0, 80), (80, 32), (112, 32)):
        at = (torch.arange(bands)[None] * torch.from_numpy(factors)[:, None]).clamp(0, bands - 1)
        low = at.floor().long()
        share = (at - low)[:, None]
        part = features[:, :, first : first + bands]
        lower, upper = (part.gather(2, i[:, None].expand(B, N, bands)) for i in (low, (low + 1).clamp(max=bands - 1)))
        parts.append(lower * (1 - share) + upper * share)
    return torch.cat(parts, dim=2)


def hide(features: Tensor, dice: np.random.Generator) -> Tensor:
    """(B, N, FEATURES): leave out bands, and moments of up to 80 ms (SpecAugment, Park et al. 2019)."""
    B, N, _ = features.shape
    features = features.clone()
    for i in range(B):
        for _ in range(2):
            first, bands = int(dice.integers(0, 78)), int(dice.integers(0, 13))
            features[i, :, first : min(80, first + bands)] = -0.5
            for half in (80, 112):
                features[i, :, half + first * 32 // 80 : half + min(80, first + bands) * 32 // 80] = -0.5
        for _ in range(4):
            start = int(dice.integers(0, N - 4))
            features[i, start : start + int(dice.integers(0, 5))] = -0.5
    return features


def crop(utterance: Utterance, dice: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Cut a piece, played slower or faster (another throat, another pitch) -> audio, units, tokens."""
    factor = float(np.exp(dice.uniform(-0.18, 0.18))) if dice.random() < 0.6 else 1.0
    wanted = round(CROP_SAMPLES * factor)
    start_unit = int(dice.integers(0, max(1, len(utterance.units) - round(CROP_UNITS * factor))))
    audio = utterance.audio[start_unit * 320 : start_unit * 320 + wanted].float() / 32768
    audio = F.pad(audio, (0, wanted - len(audio)))
    if factor != 1.0:
        audio = F.interpolate(audio[None, None], size=CROP_SAMPLES, mode="linear", align_corners=False)[0, 0]
    # What a unit of the stretched audio says, by the row of the plain one it comes from.
    at = (unit_times_s(CROP_UNITS) * factor - 0.0125) / 0.02
    rows = torch.from_numpy(np.clip(np.round(at).astype(np.int64) + start_unit, 0, len(utterance.units) - 1))
    return audio, utterance.units[rows], utterance.tokens[rows]


def spoil(audio: Tensor, dice: np.random.Generator) -> Tensor:
    """(B, T): rooms, noises, levels."""
    B, T = audio.shape
    if dice.random() < 0.4:
        length = int(dice.uniform(800, 6000))
        decay = torch.exp(-torch.arange(length) / (length / 5))
        response = torch.randn(B, length) * decay * torch.from_numpy(dice.uniform(0.01, 0.12, (B, 1))).float()
        response[:, 0] = 1
        n = T + length
        audio = torch.fft.irfft(torch.fft.rfft(audio, n) * torch.fft.rfft(response, n), n)[:, :T]
    level = audio.square().mean(1, keepdim=True).sqrt() + 1e-5
    noise = torch.randn(B, T)
    if dice.random() < 0.6:  # coloured
        frequencies = torch.linspace(0, 1, T // 2 + 1) + 0.01
        slope = torch.from_numpy(dice.uniform(0.2, 1.2, (B, 1))).float()
        noise = torch.fft.irfft(torch.fft.rfft(noise) * frequencies**-slope, T)
        noise = noise / noise.square().mean(1, keepdim=True).sqrt()
    if dice.random() < 0.25:  # others talk
        noise = audio.roll(1, 0) + audio.roll(2, 0).flip(1)
        noise = noise / (noise.square().mean(1, keepdim=True).sqrt() + 1e-5)
    snr_db = torch.from_numpy(dice.uniform(8, 50, (B, 1))).float()
    audio = audio + noise * level * 10 ** (-snr_db / 20)
    gain_db = torch.from_numpy(dice.uniform(-38, -12, (B, 1))).float()
    return (audio / level * 10 ** (gain_db / 20)).clamp(-1, 1)


def colour(features: Tensor, dice: np.random.Generator) -> Tensor:
    """(B, N, FEATURES): a microphone's frequency response, the same for long and short bands; sometimes no treble."""
    B = len(features)
    points = torch.from_numpy(dice.normal(0, 0.06, (B, 1, 6))).float()  # 0.06 are 3 dB
    curves = [F.interpolate(points, size=n, mode="linear", align_corners=True) for n in (80, 32, 32)]
    features = features + torch.cat(curves, dim=2)
    for i in range(B):
        if dice.random() < 0.08:
            for first, bands in ((0, 80), (80, 32), (112, 32)):
                cut = first + int(bands * dice.uniform(0.72, 0.9))
                features[i, :, cut : first + bands] = torch.minimum(features[i, :, cut : first + bands], torch.tensor(-0.7))
    return features.clamp(-1, 1.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("human_pairs", type=Path)
    parser.add_argument("speech", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--start", type=Path, help="weights to begin with, where they fit")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = args.out / "encoder.pt"
    paths, human_paths = sorted(args.pairs.glob("*.npz")), sorted(args.speech.glob("*.npz"))
    people = sorted({person(path) for path in args.human_pairs.glob("*.npz")})[:HELD_BACK_PEOPLE]
    saved = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else None
    basis = Basis(**saved["basis"]) if saved else find_basis(paths)
    human_pair_paths = sorted(args.human_pairs.glob("*.npz"))
    held_back = paths[::25]
    spoken = load_pairs([p for p in paths if p not in held_back], basis)
    human_pairs = load_pairs([p for p in human_pair_paths if person(p) not in people], basis)
    human = [] if human_pairs else load_speech(human_paths, basis)
    unheard = [p for p in human_pair_paths if person(p) in people]
    tests = {"rendered": load_pairs(held_back, basis), "human": load_pairs(unheard, basis)[::2]}
    if saved:  # recordings of people are the first side of their pairs
        encoder = load_encoder(checkpoint)
        realign(human_pairs[::2], encoder)
        realign(tests["human"], encoder)
    minutes = [sum(len(u.audio) for u in part) / 960000 for part in (spoken, human_pairs, human)]
    print("minutes rendered, human pairs, human: " + ", ".join(f"{m:.1f}" for m in minutes), flush=True)
    model = Trained().to(args.device)
    print(f"{sum(p.numel() for p in model.encoder.parameters()) / 1e6:.2f} M parameters", flush=True)
    optimiser = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.05, betas=(0.9, 0.98))
    drop_out(model)
    step, spent_s = 0, 0.0
    if not saved and args.start:
        begun, own = torch.load(args.start, weights_only=True)["model"], model.state_dict()
        model.load_state_dict({k: begun[k] if k in begun and begun[k].shape == v.shape else v for k, v in own.items()})
    if saved:
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        step, spent_s = saved["step"], saved["spent_s"]
    average = saved["average"] if saved and "average" in saved else {k: v.detach().clone() for k, v in model.state_dict().items()}
    dice = np.random.default_rng(step)
    began, last_saved = time.monotonic(), time.monotonic()
    total_s = 60 * args.minutes
    while True:
        now = time.monotonic()
        progress = min(1.0, (now - began) / total_s)
        # Up, along, and down to nothing at the end of the time given.
        rate = LEARNING_RATE * min(1.0, (step + 1) / 150) * min(1.0, (1 - progress) / 0.5 + 0.01)
        for group in optimiser.param_groups:
            group["lr"] = rate
        chances = dice.random(BATCH)
        parts = [
            human if human and c < HUMAN_SHARE else human_pairs if human_pairs and c < HUMAN_PAIR_SHARE else spoken
            for c in chances
        ]
        crops = [crop(part[dice.integers(len(part))], dice) for part in parts]
        audio, wanted, tokens = (torch.stack(column) for column in zip(*crops, strict=True))
        with torch.no_grad():
            features = colour(model.encoder.log_mel(spoil(audio, dice).to(args.device)).cpu(), dice)
            features = hide(warp(features, dice), dice).to(args.device)
        wanted, tokens = wanted.to(args.device), tokens.to(args.device)
        with torch.autocast(args.device, torch.bfloat16):
            loss, parts_of_loss = losses(model, features, wanted, tokens)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        with torch.no_grad():
            for key, value in model.state_dict().items():
                average[key].lerp_(value, 1 - KEPT_AVERAGE)
        if step % 50 == 0:
            shown = " ".join(f"{name} {value:.3f}" for name, value in parts_of_loss.items())
            print(f"step {step} ({(now - began) / 60:.1f} min): {shown}", flush=True)
        done = progress >= 1
        if done or now - last_saved > SAVE_EVERY_S:
            last_saved = now
            torch.save(
                {"model": model.state_dict(), "average": average, "optimiser": optimiser.state_dict(), "step": step,
                 "spent_s": spent_s + now - began, "basis": vars(basis)},
                checkpoint.with_suffix(".part"),
            )  # fmt: skip
            checkpoint.with_suffix(".part").replace(checkpoint)
            own = {k: v.clone() for k, v in model.state_dict().items()}
            model.load_state_dict(average)
            report(model, tests)
            model.load_state_dict(own)
        if done:
            return


def losses(model: Trained, features: Tensor, wanted: Tensor, tokens: Tensor) -> tuple[Tensor, dict[str, float]]:
    hidden = model.encoder.hidden(features)
    gaps = (model.encoder.leave(hidden).float() - wanted.nan_to_num()) * ~wanted.isnan()
    known = (~wanted[..., 0].isnan()).float().mean() + 1e-6
    bands = gaps[..., :BANDS].abs().mean() / known
    moves = gaps[:, 1:, :BANDS].sub(gaps[:, :-1, :BANDS]).abs().mean() / known
    energy = gaps[..., BANDS : BANDS + ENERGIES].square().mean() / known
    content = gaps[..., BANDS + ENERGIES :].square().sum(2).mean() / wanted[..., BANDS + ENERGIES :].var(dim=(0, 1)).sum()
    token = F.cross_entropy(model.classify(hidden).float().flatten(0, 1), tokens.flatten(), label_smoothing=0.05)
    loss = 3 * bands + 1.5 * moves + energy + 1.5 * content + 0.4 * token
    parts = {"bands": bands, "moves": moves, "energy": energy, "content": content, "token": token}
    return loss, {name: float(value.detach()) for name, value in parts.items()}


@torch.no_grad()
def report(model: Trained, tests: dict[str, list[Utterance]]) -> None:
    model.eval()
    for name, part in tests.items():
        right, bands, missed, count = 0.0, 0.0, 0.0, 0
        for u in part:
            device = next(model.parameters()).device
            hidden = model.encoder.hidden(model.encoder.log_mel(u.audio[None].float().to(device) / 32768))[0]
            gaps = model.encoder.leave(hidden).cpu() - u.units
            N = len(u.units)
            right += float((model.classify(hidden).argmax(1).cpu() == u.tokens).sum())
            bands += float(gaps[:, :BANDS].abs().mean()) * N
            missed += float(gaps[:, BANDS + ENERGIES :].square().sum() / u.units[:, BANDS + ENERGIES :].var(0).sum())
            count += N
        if count:
            print(
                f"  held back, {name}: envelope {bands / count:.3f}, {100 * right / count:.1f} % tokens right, "
                f"{missed / count:.3f} of the content missed", flush=True,
            )  # fmt: skip
    model.train()


if __name__ == "__main__":
    main()
