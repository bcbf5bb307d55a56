"""What a way round is: something that plays a sound and returns what comes back, in samples from its beginning."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rvcd.errors import RvcdError


class LoopError(RvcdError):
    """There is no way round, or it cannot be used. One sentence that says what to do."""


class Loop(Protocol):
    """A way from a player through what is measured to a recorder. close() leaves everything as it was found."""

    @property
    def rate_hz(self) -> int: ...

    @property
    def period_samples(self) -> int:
        """Samples in one callback of the device."""

    @property
    def description(self) -> str:
        """One line for people: which way the chirp goes."""

    @property
    def ends_ms(self) -> tuple[float, float]:
        """What lies beyond both ends of the way and belongs to the latency, by the server's word; valid after take_over."""

    def take_over(self, sound_frames: int, record_s: float) -> None:
        """Make the way: from here on nobody else is heard by what is measured, nor hears it. Raises LoopError."""

    def send(self, sound: NDArray[np.float32], record_s: float) -> NDArray[np.float32]:
        """Play the sound and return what was heard from its first sample on, record_s long, both of take_over's lengths.

        Raises LoopError.
        """

    def close(self) -> None:
        """Put everything back; may be called twice."""
