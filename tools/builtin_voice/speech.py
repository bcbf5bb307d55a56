"""What the trainings read: envelopes of pairs and of people, moved to the target (prepare.py makes it).

Shapes: T frames (10 ms), C bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

UNKNOWN = -1
"""The token of a frame of which nobody knows what is said."""


@dataclass
class Heard:
    """A speaker, moved to the target. known: as one who has spoken for long; new: as a stream hears him from its start on.

    known, new (T, C) log10 powers; f0_hz, in the target's register, and voiced (T,).
    """

    known: Tensor
    new: Tensor
    f0_hz: Tensor
    voiced: Tensor


@dataclass
class Said:
    """The target. env (T, C), f0_hz, voiced, tokens (T,)."""

    name: str
    env: Tensor
    f0_hz: Tensor
    voiced: Tensor
    tokens: Tensor


@dataclass
class Pair:
    """The target, and others who say the same at the same instants."""

    said: Said
    heard: list[Heard]


@dataclass
class Person:
    """Somebody, what is said if that is known, and the target saying that at about the same instants if it was rendered."""

    name: str
    heard: Heard
    tokens: Tensor | None
    said: Tensor | None


@dataclass
class Speech:
    pairs: list[Pair]
    people: list[Person]

    @classmethod
    def read(cls, path: Path) -> Speech:
        """path: what prepare.py wrote."""
        table = torch.load(path, weights_only=True)
        pairs = [Pair(Said(**row["said"]), [Heard(**heard) for heard in row["heard"]]) for row in table["pairs"]]
        return cls(pairs, [Person(row["name"], Heard(**row["heard"]), row["tokens"], row["said"]) for row in table["people"]])
