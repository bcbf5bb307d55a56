"""What a stream's attention remembers of its past, one for each layer of a transformer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class AttentionMemory:
    """Keys and values of the newest final positions, each (B, heads, up to `length`, width)."""

    length: int
    keys: Tensor | None = None
    values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor, final: int) -> tuple[Tensor, Tensor]:
        """Return the past's keys and values followed by these, and remember the first `final` of these."""
        if self.keys is not None and self.values is not None:
            count = keys.shape[2]
            keys, values = torch.cat((self.keys, keys), dim=2), torch.cat((self.values, values), dim=2)
            end = keys.shape[2] - count + final
        else:
            end = final
        kept = slice(max(0, end - self.length), end)
        # Copies: views would keep every step's whole tensors alive.
        self.keys, self.values = keys[:, :, kept].clone(), values[:, :, kept].clone()
        return keys, values
