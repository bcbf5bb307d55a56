"""What a stream's attention remembers of its past, one for each layer of a transformer."""

from __future__ import annotations

from torch import Tensor

from rvcd.nets.rolling_buffer import Past


class AttentionMemory:
    """Keys and values of the newest final positions, each (B, heads, up to `length`, width)."""

    def __init__(self, length: int) -> None:
        self.length = length
        self._keys, self._values = Past(length, 2), Past(length, 2)

    def reset(self) -> None:
        """Forget the stream."""
        self._keys.reset()
        self._values.reset()

    @property
    def known(self) -> int:
        """How many positions are remembered, up to `length`."""
        return self._keys.known

    def extend(self, keys: Tensor, values: Tensor, final: int) -> tuple[Tensor, Tensor]:
        """Return the past's keys and values followed by these, and remember the first `final` of these."""
        return self._keys.extend(keys, final), self._values.extend(values, final)

    def tensors(self) -> list[Tensor | None]:
        """Where it is kept; None before the first step."""
        return [self._keys.tensor, self._values.tensor]
