"""A residual block's convolutions as one list of steps of the C kernels, where these compute all of them.

The list holds the addresses of the buffers that a stream's steps of one length are computed in, and is made anew when they
change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

from rvcd.engine.decoder_layers import Convolution, Pairs
from rvcd.nets.steps import MOST_STEPS, Steps
from rvcd.nets.tiled_conv import TiledConv
from rvcd.yielding import is_yielding


class BlockSteps:
    """The list of one residual block, and what comes out of it. result (1, C, 1, T): valid until the next step."""

    def __init__(self, pairs: Pairs) -> None:
        self._convs = [(own_of(dilated), own_of(plain)) for dilated, plain in pairs]
        self._usable = 0 < 2 * len(pairs) <= MOST_STEPS and all(conv is not None for pair in self._convs for conv in pair)
        self._key: tuple[int, ...] = ()
        self._steps = Steps()
        self.result = Tensor()

    @property
    def usable(self) -> bool:
        """Whether the block can be computed so now. A thread that yields to another does so between convolutions."""
        return self._usable and not is_yielding()

    def convolutions(self) -> Iterator[tuple[TiledConv, TiledConv]]:
        """Return the pairs, dilated and plain, of a usable block."""
        for dilated, plain in self._convs:
            assert dilated is not None and plain is not None
            yield dilated, plain

    def run(self, length: int, buffers: Iterable[Tensor], make: Callable[[Steps], Tensor]) -> Tensor:
        """Compute the block in these buffers. make: fills a new list for them, and returns where the result will be."""
        key = (length, *(buffer.data_ptr() for buffer in buffers))
        if key != self._key:
            self._steps = Steps()
            self.result = make(self._steps)
            self._key = key
        self._steps.run()
        return self.result


def own_of(conv: Convolution) -> TiledConv | None:
    """Return the C kernels' convolution; None for torch's."""
    return conv if isinstance(conv, TiledConv) else conv.own


def rows_of(x: Tensor) -> Tensor:
    """(1, C, 1, T) channels-last -> the same memory as (T, C)."""
    return x.permute(0, 2, 3, 1)[0, 0]
