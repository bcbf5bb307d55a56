"""What the pitch of a live block costs with RMVPE, and how far it is from the windows used before.

    python tools/measure_rmvpe.py --threads 2 --audio speech.flac
    python tools/measure_rmvpe.py --weights ~/.local/share/rvcd/models/rmvpe.pt --audio speech.flac more.flac

Three ways take turns, block by block: our kernels, torch's modules on the same window, and torch's modules on the window of
before (19 frames of past, zeros at the end up to a multiple of 32). Without --weights the network is of the published size with
random weights: the times are the real ones, but what it says of the pitch means nothing, only that two ways say the same.

With one thread its processor time is told, which other programs lengthen less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from rvcd.engine.pitch.methods.rmvpe import RmvpePitch
from rvcd.nets.random_rmvpe import PUBLISHED, write_rmvpe
from rvcd.nets.rmvpe import PitchNetwork, load_rmvpe

RATE_HZ, FRAME_SAMPLES = 16_000, 160
PAST_BEFORE = 19
NEAR_HZ = 0.05
OTHER_WORK = np.zeros(12_000_000, np.float32)
"""As large as what the rest of a block drives through the caches, and more."""


@dataclass
class Found:
    """f0_hz: of the frames that became final. spent_ms: of each block."""

    clock: Callable[[], float]
    f0_hz: list[NDArray[np.float64]] = field(default_factory=list)
    spent_ms: list[float] = field(default_factory=list)

    def run(self, network: PitchNetwork, window: NDArray[np.float32], final: slice) -> None:
        OTHER_WORK[:] += 1.0
        started = self.clock()
        f0_hz, _ = network.f0(window)
        self.spent_ms.append(1000 * (self.clock() - started))
        self.f0_hz.append(f0_hz[: len(window) // FRAME_SAMPLES][final])


def measure(ours: PitchNetwork, torchs: PitchNetwork, audio: NDArray[np.float32], block: int, ahead: int, blocks: int) -> None:
    """block, ahead: frames of a block, and of the lookahead within which its pitch becomes final."""
    step = RmvpePitch.step_frames
    frames = -(-(RmvpePitch.context_frames + block + ahead + 1) // step) * step - 1
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    found = {name: Found(clock) for name in ("kernels", "torch", "torch, window of before")}
    first = max(frames, PAST_BEFORE + block + ahead)
    for end in range(first, min(len(audio) // FRAME_SAMPLES, first + blocks * block), block):
        window = audio[(end - frames) * FRAME_SAMPLES : end * FRAME_SAMPLES]
        before = audio[(end - PAST_BEFORE - block - ahead) * FRAME_SAMPLES : end * FRAME_SAMPLES]
        final = slice(-block - ahead, -ahead)
        found["kernels"].run(ours, window, final)
        found["torch"].run(torchs, window, final)
        found["torch, window of before"].run(torchs, before, final)
    print(
        f"block {10 * block} ms, window {frames + 1} frames, {len(found['torch'].spent_ms)} blocks, load {os.getloadavg()[0]:.1f}"
    )
    for name, one in found.items():
        median, least = statistics.median(one.spent_ms), min(one.spent_ms)
        print(
            f"  {name:26} median {median:7.1f} ms, shortest {least:7.1f} ms: {median / 10 / block:.2f} ({least / 10 / block:.2f})"
        )
    made, same, other = (np.concatenate(one.f0_hz) for one in found.values())
    print(f"  f0, kernels against torch: at most {np.abs(made - same).max():.4f} Hz apart")
    both = (made > 0) & (other > 0)
    cents = np.abs(1200 * np.log2(made[both] / other[both]))
    near = np.abs(made - other) < NEAR_HZ
    print(
        f"  f0 against the window of before: {100 * near.mean():.0f} % within {NEAR_HZ} Hz, "
        f"voicing alike {100 * ((made > 0) == (other > 0)).mean():.1f} %, "
        f"median {np.median(cents):.1f} cents, 95 % below {np.quantile(cents, 0.95):.1f}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="rmvpe.pt")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=20, help="of each size")
    parser.add_argument("--audio", type=Path, nargs="+", required=True)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = chosen.weights
        if path is None:
            path = Path(folder) / "rmvpe.pt"
            write_rmvpe(path, PUBLISHED, torch.Generator().manual_seed(0))
        ours, torchs = load_rmvpe(path), load_rmvpe(path, plain=True)
    pieces = []
    for file in chosen.audio:
        samples, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
        pieces.append(soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ).astype(np.float32))
    audio = np.concatenate(pieces)
    for block, ahead in ((4, 8), (10, 8), (14, 8), (20, 10)):
        measure(ours, torchs, audio, block, ahead, chosen.blocks)


if __name__ == "__main__":
    main()
