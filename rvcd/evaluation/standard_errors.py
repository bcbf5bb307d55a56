"""How far a figure of some clips may be from that of all clips there could be: the bootstrap (Efron 1979). numpy only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
SEED = 17
"""The same clips have the same standard error every time."""

Drawn = NDArray[np.intp]


def standard_error(clips: int, figure: Callable[[Drawn], float]) -> float:
    """Return the deviation of a figure over samples that are drawn from the clips with replacement. NaN for fewer than two.

    figure: takes the numbers of the clips that were drawn, (clips,), some of them more than once. What belongs to one clip is
    drawn together, so a difference between source and conversion is a paired one. Samples whose figure is NaN do not count.
    """
    if clips < 2:
        return float("nan")
    random = np.random.default_rng(SEED)
    figures = np.array([figure(random.integers(0, clips, clips)) for _ in range(DRAWS)], np.float64)
    known = figures[~np.isnan(figures)]
    return float(known.std(ddof=1)) if len(known) > 1 else float("nan")
