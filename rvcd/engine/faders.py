"""The voice's parameters, from one value a block to one a frame: a key's press is a leap, a fader's way is a glide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rvcd.params import Snapshot

LEAP_FRAMES = 1
"""A new value is reached within so many frames: soon enough for a player, slow enough not to click."""


@dataclass(frozen=True)
class Faders:
    """earlier, before, now: the parameters with which the block before the last, the last and this one end."""

    earlier: Snapshot
    before: Snapshot
    now: Snapshot

    @classmethod
    def at_rest(cls, snapshot: Snapshot) -> Faders:
        """Return faders that have long been where they are."""
        return cls(snapshot, snapshot, snapshot)

    def then(self, snapshot: Snapshot) -> Faders:
        """Return the next block's."""
        return Faders(self.before, self.now, snapshot)

    def per_frame(self, name: str, frames: NDArray[np.int64], block_frames: int) -> NDArray[np.float32]:
        """Return the parameter's value at each of the frames, counted from this block's first one; (len(frames),).

        The first move after a rest is taken at once, whoever made it: it may be a key. What moved in the last block too is
        a fader on its way, and goes straight on over the whole block. Before the block and after it the value rests.
        """
        earlier, before, now = (float(getattr(snapshot, name)) for snapshot in (self.earlier, self.before, self.now))
        length = block_frames if earlier != before else LEAP_FRAMES
        way = np.clip((frames + 1) / length, 0, 1)
        return (before + (now - before) * way).astype(np.float32)
