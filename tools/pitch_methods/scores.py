"""Counting what a pitch method gets wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pitch_methods.clip import Floats
from rvcd.engine.pitch import PitchTrack

GROSS = 0.2
"""The literature's gross pitch error: off by more than a fifth."""
OFF_CENTS = 50.0
DRAWS = 2000


@dataclass
class Score:
    """Counts of frames. cents: deviations of voiced frames without a gross error."""

    voiced: int = 0
    unvoiced: int = 0
    both: int = 0
    gross: int = 0
    off: int = 0
    octave: int = 0
    missed: int = 0
    invented: int = 0
    cents: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, found: PitchTrack, truth: Floats) -> Score:
        """truth: f0 in Hz of each frame, 0 where unvoiced, NaN where nobody knows."""
        frames = min(len(found), len(truth))
        f0_hz, heard, truth = found.f0_hz[:frames].astype(float), found.voiced[:frames], truth[:frames]
        voiced, unvoiced = truth > 0, truth == 0
        both = voiced & heard
        cents = 1200 * np.log2(f0_hz[both] / truth[both])
        gross = np.abs(f0_hz[both] / truth[both] - 1) > GROSS
        octave = (np.abs(np.abs(cents) - 1200) < 100) | (np.abs(np.abs(cents) - 2400) < 100)
        return cls(
            *(int(part.sum()) for part in (voiced, unvoiced, both, gross, np.abs(cents) > OFF_CENTS, octave)),
            missed=int((voiced & ~heard).sum()),
            invented=int((unvoiced & heard).sum()),
            cents=np.abs(cents[~gross]).tolist(),
        )

    @classmethod
    def sum(cls, scores: list[Score]) -> Score:
        total = cls()
        for one in scores:
            for name in ("voiced", "unvoiced", "both", "gross", "off", "octave", "missed", "invented", "cents"):
                setattr(total, name, getattr(total, name) + getattr(one, name))
        return total

    @property
    def frames(self) -> int:
        return self.voiced + self.unvoiced

    @property
    def wrong(self) -> int:
        """Frames with a wrong voicing or a gross error."""
        return self.gross + self.missed + self.invented

    def row(self) -> str:
        """Return the cells of a table: wrong, gross, off, octave, missed, invented, cents."""
        cents = f"{np.median(self.cents):.0f}" if self.cents else "-"
        return " | ".join(
            (percent(self.wrong, self.frames), percent(self.gross, self.both), percent(self.off, self.both),
             percent(self.octave, self.both), percent(self.missed, self.voiced), percent(self.invented, self.unvoiced), cents)
        )  # fmt: skip


def percent(part: float, of: float) -> str:
    return f"{100 * part / of:.1f}" if of else "-"


def range_of(scores: list[Score]) -> tuple[float, float]:
    """Return the 95 % range of the share of wrong frames in percent, by drawing clips again."""
    wrong, frames = (np.array([getattr(one, name) for one in scores], float) for name in ("wrong", "frames"))
    drawn = np.random.default_rng(0).integers(0, len(scores), (DRAWS, len(scores)))
    low, high = np.percentile(100 * wrong[drawn].sum(axis=1) / np.maximum(frames[drawn].sum(axis=1), 1), (2.5, 97.5))
    return float(low), float(high)


def difference(scores: list[Score], others: list[Score]) -> tuple[float, float, float]:
    """Return how many more frames in a hundred are wrong than by the other, on the same clips, and its 95 % range."""
    mine, theirs, frames, their_frames = (
        np.array([getattr(one, name) for one in of], float)
        for name, of in (("wrong", scores), ("wrong", others), ("frames", scores), ("frames", others))
    )

    def of(drawn: object) -> Floats:
        share = mine[drawn].sum(axis=-1) / np.maximum(frames[drawn].sum(axis=-1), 1)
        their_share = theirs[drawn].sum(axis=-1) / np.maximum(their_frames[drawn].sum(axis=-1), 1)
        return np.asarray(100 * (share - their_share))

    drawn = np.random.default_rng(0).integers(0, len(scores), (DRAWS, len(scores)))
    low, high = np.percentile(of(drawn), (2.5, 97.5))
    return float(of(np.arange(len(scores)))), float(low), float(high)
