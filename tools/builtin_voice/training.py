"""What the trainings have in common: their arguments, the learning rate over the time that is given, and a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

FULL_SHARE = 0.6
"""Of the time, at the full rate; then it falls."""
WARMING_STEPS = 100


def arguments(description: str | None, *paths: str) -> argparse.Namespace:
    """Read the command line, seed torch, and make the folder `out`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in (*paths, "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    return args


def set_rate(optimiser: torch.optim.Optimizer, rate: float, step: int, progress: float, least: float) -> None:
    """Warm up, stay at `rate`, and fall to `least` of it at the end. progress: of the time, 0..1."""
    falling = 1.0 if progress < FULL_SHARE else least + (1 - least) * (1 - progress) / (1 - FULL_SHARE)
    for group in optimiser.param_groups:
        group["lr"] = rate * min(1, (step + 1) / WARMING_STEPS) * falling


def save(checkpoint: Path, parts: dict[str, Any], **values: Any) -> None:
    """Write the parts' states and the values, whole or not at all."""
    scratch = checkpoint.with_suffix(".part")
    torch.save({**{name: part.state_dict() for name, part in parts.items()}, **values}, scratch)
    scratch.replace(checkpoint)
