"""Which token each frame of Kokoro's content belongs to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def frame_tokens(content: NDArray[np.floating], tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """content (512, T), constant while one token lasts; tokens (N,) without the two pads -> (T,).

    Raises ValueError when there are not N + 2 stretches.
    """
    changes = np.any(np.diff(content, axis=1) != 0, axis=0)
    number = np.r_[0, np.cumsum(changes)]
    padded = np.r_[0, tokens, 0]
    if number[-1] + 1 != len(padded):
        raise ValueError(f"{number[-1] + 1} stretches for {len(padded)} tokens")
    return padded[number]
