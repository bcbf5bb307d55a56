"""Weights in 16 bits: whole numbers, and for each output channel what a 1 stands for.

A block's few rows are multiplied with all weights of a layer, so memory has to bring these once for each block, and it is slower
than the products. Half the bytes take half the time. Whole numbers with a unit for each output channel keep more of a weight
than a floating-point format of 16 bits does: the largest of a channel's weights is 32767 units, so that all are rounded by
half a unit at most (88 dB for weights that are normally distributed, bfloat16: 52, float16: 74).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST = 32767
LEAST_DB = 74.0
"""Of the weights' mean size against what rounding changes (float16: 74). Where a few large weights make the unit coarser than
this, all stay float32. Not of their mean square, to which those few would add more than they spoil.
"""


@dataclass(frozen=True)
class NarrowWeights:
    """numbers (out, in, kernel) int16; numbers * unit[:, None, None] are the weights, unit (out,) float32."""

    numbers: Tensor
    unit: Tensor


def narrowed(weight: Tensor) -> NarrowWeights | None:
    """Round a float32 weight (out, in, kernel); None where that loses more than LEAST_DB allows, or a weight is not a number."""
    largest = weight.abs().amax(dim=(1, 2))
    # The smallest unit has an inverse. Of a channel of zeros any will do.
    unit = (largest / LARGEST).clamp_min(torch.finfo(torch.float32).tiny)
    numbers = torch.round(weight / unit[:, None, None])
    lost = (numbers * unit[:, None, None] - weight).double().square().mean(dim=(1, 2)).sum()
    allowed = weight.double().abs().mean(dim=(1, 2)).square().sum() * 10 ** (-LEAST_DB / 10)
    if not lost <= allowed:  # so also where a weight is NaN or infinite
        return None
    return NarrowWeights(numbers.to(torch.int16), unit)
