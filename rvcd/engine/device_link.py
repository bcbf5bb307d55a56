"""What passes between the processor and the device that the networks run on: few copies, and one wait a block.

A copy to a GPU out of pinned memory is queued like any other work and nobody waits for it; a copy back is waited for, once a
block. Whatever else a block needs from the other side would make it wait for all that is queued.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ALIGNMENT_BYTES = 256
Array = NDArray[Any]


class DeviceLink(Protocol):
    """One place of a block at which numbers go to the device or come back."""

    def upload(self, *arrays: Array) -> list[Tensor]:
        """Return the arrays on the device, by one copy. They are valid until the next upload()."""
        ...

    def download(self, x: Tensor) -> Array:
        """Return a tensor's numbers, by one copy; waits until they are there. Valid until the next download()."""
        ...


class NoLink:
    """Where the networks run on the processor itself: nothing is copied."""

    def upload(self, *arrays: Array) -> list[Tensor]:
        return [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]

    def download(self, x: Tensor) -> Array:
        found: Array = x.numpy()
        return found


class CudaLink:
    """To a CUDA device and back, through pinned memory that stays where it is, as the tensors on the device do."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pinned = self._there = self._back = torch.empty(0, dtype=torch.uint8)
        self._sent: torch.cuda.Event | None = None

    def upload(self, *arrays: Array) -> list[Tensor]:
        offsets, size = places(arrays)
        if self._sent is not None:
            self._sent.synchronize()  # the last block's copy may still be reading; it never is once that block was heard
        if self._pinned.numel() < size:
            self._pinned = torch.empty(size, dtype=torch.uint8, pin_memory=True)
            self._there = torch.empty(size, dtype=torch.uint8, device=self._device)
        pinned = self._pinned.numpy()
        for array, offset in zip(arrays, offsets, strict=True):
            pinned[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)[...] = array
        self._there[:size].copy_(self._pinned[:size], non_blocking=True)
        self._sent = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._sent.record()
        return views(self._there, arrays, offsets)

    def download(self, x: Tensor) -> Array:
        flat = x.reshape(-1)
        if self._back.numel() < flat.numel() or self._back.dtype != x.dtype:
            self._back = torch.empty(flat.numel(), dtype=x.dtype, pin_memory=True)
        into = self._back[: flat.numel()]
        into.copy_(flat, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()
        done.synchronize()
        found: Array = into.numpy().reshape(x.shape)
        return found


LinkMaker = Callable[[torch.device], DeviceLink]


def link_to(device: torch.device) -> DeviceLink:
    """Return a link to a device."""
    return NoLink() if device.type == "cpu" else CudaLink(device)


def places(arrays: Sequence[Array]) -> tuple[list[int], int]:
    """Return where each array begins in one buffer, in bytes, and the size of it all."""
    offsets, size = [], 0
    for array in arrays:
        offsets.append(size)
        size += -(-array.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return offsets, size


def views(buffer: Tensor, arrays: Sequence[Array], offsets: Sequence[int]) -> list[Tensor]:
    """Return the parts of a buffer of bytes as tensors like the arrays."""
    return [
        buffer[offset : offset + array.nbytes].view(torch.from_numpy(np.empty(0, array.dtype)).dtype).view(array.shape)
        for array, offset in zip(arrays, offsets, strict=True)
    ]
