"""Which phoneme is spoken when in human speech: a small head over Whisper's encoder, and the best path through a transcript.

The head learns the phonemes of Kokoro's speech, whose times are known; the path lays a transcript's tokens along a recording
(Viterbi; silence between words may be skipped).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import ctranslate2
import numpy as np
import onnx
import onnxruntime as ort
import soxr
import torch
import torch.nn.functional as F
from faster_whisper.feature_extractor import FeatureExtractor
from kokoro import CONTENT, CONTENT_RATE_HZ, RATE_HZ, Kokoro
from labels import frame_tokens
from torch import Tensor, nn

FEATURE_RATE_HZ = 50
WINDOW_S = 29
CLASSES = 180
TRAIN_MINUTES = 15
STEPS = 600
SKIPPABLE = ' ,.!?;:—…"()“”'


class Head(nn.Module):
    def __init__(self, inputs: int, hidden: int = 320) -> None:
        super().__init__()
        self.enter = nn.Conv1d(inputs, hidden, 1)
        self.convs = nn.ModuleList(nn.Conv1d(hidden, hidden, 5, padding=2) for _ in range(3))
        self.norms = nn.ModuleList(nn.GroupNorm(1, hidden) for _ in range(3))
        self.leave = nn.Conv1d(hidden, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = x + F.gelu(norm(conv(x)))
        return self.leave(x)


class Whisper:
    """model: a CTranslate2 folder."""

    def __init__(self, model: Path) -> None:
        self._model = ctranslate2.models.Whisper(str(model), device="cpu", compute_type="int8", intra_threads=1)
        self._mel = FeatureExtractor()

    def features(self, pieces: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Pieces of up to 29 s at 16 kHz, as many at once as fit -> (width, samples // 320) for each."""
        together: list[np.ndarray] = []
        for piece in pieces:
            piece = piece[: len(piece) // 320 * 320]
            if sum(map(len, together)) + len(piece) > WINDOW_S * 16000:
                yield from self._encode(together)
                together = []
            together.append(piece)
        yield from self._encode(together)

    def _encode(self, pieces: list[np.ndarray]) -> list[np.ndarray]:
        joined = np.concatenate(pieces)
        padded = np.zeros(480000, np.float32)
        padded[: len(joined)] = joined
        mel = np.ascontiguousarray(self._mel(padded, padding=0)[None, :, :3000].astype(np.float32))
        out = np.array(self._model.encode(ctranslate2.StorageView.from_array(mel), to_cpu=True), np.float32)[0]
        ends = np.cumsum([len(piece) // 320 for piece in pieces])
        return [out[end - len(piece) // 320 : end].T for piece, end in zip(pieces, ends, strict=True)]


def train_head(whisper: Whisper, paths: list[Path]) -> Head:
    inputs, labels, seconds, began = [], [], 0.0, time.monotonic()
    chosen = [np.load(path) for path in paths[:: max(1, len(paths) // (TRAIN_MINUTES * 12))]]
    heard = [soxr.resample(data["source"].astype(np.float32) / 32768, RATE_HZ, 16000) for data in chosen]
    for data, audio, features in zip(chosen, heard, whisper.features(heard), strict=True):
        ids = frame_tokens(data["content"], data["tokens"])
        at = np.minimum(np.arange(features.shape[1]) * CONTENT_RATE_HZ // FEATURE_RATE_HZ, len(ids) - 1)
        inputs.append(torch.from_numpy(features))
        labels.append(torch.from_numpy(ids[at]))
        seconds += len(audio) / 16000
    print(f"{seconds / 60:.1f} minutes of features in {time.monotonic() - began:.0f} s", flush=True)
    head = Head(inputs[0].shape[0])
    optimiser = torch.optim.AdamW(head.parameters(), 1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, STEPS)
    held_back = max(1, len(inputs) // 12)
    for step in range(STEPS):
        batch = [_crop(inputs[i], labels[i]) for i in np.random.randint(held_back, len(inputs), 12)]
        x = torch.stack([x for x, _ in batch])
        y = torch.stack([y for _, y in batch])
        loss = F.cross_entropy(head(F.dropout(x + 0.1 * torch.randn_like(x), 0.1)), y, label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            with torch.inference_mode():
                right = [float((head(x[None])[0].argmax(0) == y).float().mean())
                         for x, y in zip(inputs[:held_back], labels[:held_back], strict=True)]  # fmt: skip
            print(f"step {step + 1}: loss {loss.item():.3f}, held back {100 * np.mean(right):.1f} % right", flush=True)
    return head.eval()


def _crop(x: Tensor, y: Tensor, length: int = 100) -> tuple[Tensor, Tensor]:
    if x.shape[1] < length:
        repeats = -(-length // x.shape[1])
        x, y = x.repeat(1, repeats), y.repeat(repeats)
    start = int(np.random.randint(x.shape[1] - length + 1))
    return x[:, start : start + length], y[start : start + length]


def open_text_encoder(ingredients: Path) -> ort.InferenceSession:
    path = ingredients / "text.onnx"
    if not path.exists():
        onnx.utils.extract_model(
            str(ingredients / "full.onnx"), str(path), ["tokens", "style", "speed"], [CONTENT], check_model=False
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return ort.InferenceSession(str(path), options)


def token_vectors(encoder: ort.InferenceSession, kokoro: Kokoro, tokens: list[int]) -> np.ndarray:
    """Return each token's content, (512, tokens + 2): the network's own, at one frame each."""
    feeds = {
        "tokens": np.array([[0, *tokens, 0]], np.int64), "style": kokoro.style({"af_heart": 1.0}, len(tokens)),
        "speed": np.array([1.0], np.float32),
    }  # fmt: skip
    content = encoder.run(None, feeds)[0][0]
    starts = np.flatnonzero(np.r_[True, np.any(np.diff(content, axis=1) != 0, axis=0)])
    if len(starts) != len(tokens) + 2:
        raise SystemExit(f"{len(starts)} segments for {len(tokens) + 2} tokens")
    return content[:, starts]


def best_path(scores: np.ndarray, skippable: np.ndarray) -> tuple[np.ndarray, float]:
    """Viterbi: (frames, tokens) log-probabilities -> the token of each frame, in order, only skippable ones left out."""
    frames, count = scores.shape
    best = np.full(count, -np.inf)
    best[0] = scores[0, 0]
    if count > 1:
        best[1] = scores[0, 1]
    back = np.zeros((frames, count), np.int8)
    can_skip = np.r_[False, False, skippable[1:-1]]
    for t in range(1, frames):
        one = np.r_[-np.inf, best[:-1]]
        two = np.where(can_skip, np.r_[-np.inf, -np.inf, best[:-2]], -np.inf)
        options = np.stack([best, one, two])
        back[t] = options.argmax(0)
        best = options.max(0) + scores[t]
    path = np.zeros(frames, np.int64)
    at = count - 1 if best[-1] >= best[-2] else count - 2
    total = best[at]
    for t in range(frames - 1, -1, -1):
        path[t] = at
        at -= int(back[t, at])
    return path, float(total / frames)
