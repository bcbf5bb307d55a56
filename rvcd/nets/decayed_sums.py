"""Sums that forget: what a stream has heard so far, the newest counting most. Shapes: B batch, N rows, D values."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK_ROWS = 128


def decayed_sums(rows: Tensor, start: Tensor | None, memory: float) -> Tensor:
    """(B, N, D), the sum before them (B, D) or None -> (B, N, D): each the row plus what remains of the sum before it.

    After `memory` rows a row counts 1 / e.
    """
    keep = torch.exp(torch.full((), -1.0 / memory, dtype=rows.dtype, device=rows.device))
    done, before = [], start
    for part in torch.split(rows, CHUNK_ROWS, dim=1):
        steps = torch.arange(part.shape[1], device=rows.device, dtype=rows.dtype)
        sums = torch.tril(keep ** (steps[:, None] - steps)) @ part
        if before is not None:
            sums = sums + keep ** (steps[:, None] + 1) * before[:, None]
        before = sums[:, -1]
        done.append(sums)
    return torch.cat(done, dim=1)
