"""How each convolution of a decoder is computed: measured once on a machine, remembered in a file.

Which way is fastest depends on the processor, on channels and kernel, and on how many positions a block brings. So each shape is
tried once with random numbers, on one thread: torch's operators in the precision that is configured, our direct kernel, and
minimal filtering with tiles of several sizes. Of ways that are nearly as fast as the fastest the most exact one is taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from rvcd.nets.packed import PackedConv
from rvcd.nets.tiled_conv import DIRECT, TILES, TiledConv, available, empty_rows
from rvcd.nets.way_file import WayFile
from rvcd.yielding import yield_point

PACKED = -1
"""Torch's operators. The other ways are outputs of a TiledConv's tiles, or DIRECT."""
ROUNDS = 5
LEAST_POSITIONS, MOST_POSITIONS = 64, 2048
"""More are not tried: the kernels cut them into pieces of hundreds."""
NEARLY = 1.05
"""A way that takes so many times the fastest one's time is as good where it is more exact."""
SLOPE = 0.1
DTYPE_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16"}


class Ways:
    """Chooses for a stream's shapes. `chosen` is what it chose, by the shape's name: precision, channels, kernel, positions."""

    def __init__(self, frames: int, file: Path | None) -> None:
        """frames: of 10 ms, that a step decodes. file: where the choices are kept; None: nowhere."""
        self._frames = frames
        self._file = None if file is None else WayFile(file)
        self.chosen: dict[str, int] = {}

    def of(self, weight: Tensor, dtype: torch.dtype, per_frame: int) -> int:
        """Return the way for a weight (out, in, kernel) of a layer with per_frame positions a frame, wanted in dtype."""
        out, channels, kernel = weight.shape
        if not available(weight) or dtype not in DTYPE_NAMES:
            return PACKED
        positions = positions_tried(self._frames * per_frame)
        shape = f"{DTYPE_NAMES[dtype]} {channels}>{out} k{kernel} x{positions}"
        if shape not in self.chosen:
            ways = candidates(kernel, dtype)
            known = None if self._file is None else self._file.get(shape)
            if known not in ways:
                known = fastest(tried(out, channels, kernel, dtype, positions), ways)
                if self._file is not None:
                    self._file.put(shape, known)
            self.chosen[shape] = known
        return self.chosen[shape]


def way_names(chosen: Mapping[str, int]) -> dict[str, str]:
    """Return what was chosen, in words, by the shape's name."""
    special = {PACKED: "torch", DIRECT: "direct"}
    return {shape: special.get(way) or f"tiles of {way}" for shape, way in chosen.items()}


def positions_tried(positions: int) -> int:
    """Return the power of two, within bounds, that a choice is made for: lengths near each other share one."""
    return int(min(max(2 ** round(torch.tensor(float(max(positions, 1))).log2().item()), LEAST_POSITIONS), MOST_POSITIONS))


def candidates(kernel: int, dtype: torch.dtype) -> tuple[int, ...]:
    """Return the ways for a kernel, from the most exact one to the least."""
    tiles = TILES.get(kernel, ())
    return (DIRECT, PACKED, *tiles) if dtype == torch.float32 else (DIRECT, *tiles, PACKED)


def fastest(spent: dict[int, float], ways: Sequence[int]) -> int:
    """Return the first of the ways that is nearly as fast as the fastest."""
    return next(way for way in ways if spent[way] <= NEARLY * min(spent.values()))


def tried(out: int, channels: int, kernel: int, dtype: torch.dtype, positions: int) -> dict[int, float]:
    """Return the seconds of each way: the processor's time of this thread, the shortest of some calls.

    Other programs only ever add to it, through the caches.
    """
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn((out, channels, kernel), generator=generator) / (channels * kernel) ** 0.5
    x, residual, made = empty_rows(channels, positions + kernel - 1), empty_rows(out, positions), empty_rows(out, positions)
    x.copy_(torch.randn(x.shape, generator=generator))
    residual.zero_()
    calls: dict[int, Callable[[], object]] = {}
    for way in candidates(kernel, dtype):
        yield_point()
        conv = PackedConv(weight, None, dtype=dtype, by_torch=True) if way == PACKED else TiledConv(weight, None, outputs=way)
        calls[way] = partial(conv.run, x, entering=SLOPE, leaving=SLOPE, residual=residual, out=made)
    spent = dict.fromkeys(calls, float("inf"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(ROUNDS):
            for way, call in calls.items():
                yield_point()
                started_s = time.thread_time()
                call()
                spent[way] = min(spent[way], time.thread_time() - started_s)
    finally:
        torch.set_num_threads(threads)
    return spent
