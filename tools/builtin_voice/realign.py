"""Two tracks of units that say the same, with up to 80 ms between them: which row of one belongs to which row of the other.

Forced alignment of people's speech is that coarse, and a network taught with it blurs its answers. Once it knows something, what
it says itself tells better when its teacher should have said it.
"""

from __future__ import annotations

import torch
from torch import Tensor

REACH_UNITS = 4
PRICE = 4.0
"""Of moving on by one row more or less than a row, in the tracks' own measure: the sum of absolute differences."""


def shifts(heard: Tensor, other: Tensor) -> Tensor:
    """(N, C), (N, C) -> (N,) whole numbers of rows: heard[t] goes with other[t + shifts[t]] (Viterbi)."""
    N, D = len(heard), 2 * REACH_UNITS + 1
    cost = torch.full((N, D), 1e6)
    for j, shift in enumerate(range(-REACH_UNITS, REACH_UNITS + 1)):
        low, high = max(0, -shift), min(N, N - shift)
        cost[low:high, j] = (heard[low:high] - other[low + shift : high + shift]).abs().sum(1)
    here, far = torch.arange(D), torch.tensor([1e9])
    total, came_from = cost[0], torch.zeros(N, D, dtype=torch.long)
    for t in range(1, N):
        ways = torch.stack((total, torch.cat((total[1:], far)) + PRICE, torch.cat((far, total[:-1])) + PRICE))
        best, way = ways.min(0)
        came_from[t] = here + torch.tensor((0, 1, -1))[way]
        total = best + cost[t]
    path = [int(total.argmin())]
    for t in range(N - 1, 0, -1):
        path.append(int(came_from[t, path[-1]]))
    return torch.tensor(path[::-1]) - REACH_UNITS
