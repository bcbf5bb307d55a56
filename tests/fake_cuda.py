"""A CUDA device that computes nothing: tensors know shape, type and place, and whoever asks for their numbers is told off.

FakeTensorMode lets a program run for a device that is not there. What would make the processor wait for a real one raises:
.item(), boolean masks, Python branches on a tensor, a tensor as NumPy's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda:0")
_CUDA_TYPE, _META_TYPE, _TYPES = 1, 14, 22


def _give_cuda_a_guard() -> None:
    """Let torch's build for CPUs change over to a device "cuda" as it does to "meta": without doing anything.

    torch does so itself for FakeTensorMode, but only in builds with CUDA; in others it says that it is not linked with it.
    """
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * _TYPES).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    if not guards[_CUDA_TYPE]:
        guards[_CUDA_TYPE] = guards[_META_TYPE]


class Crossings(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what goes from one device to another while it is on, by the names of the operators."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        flat = [x for x in torch.utils._pytree.tree_leaves((args, kwargs, made)) if isinstance(x, Tensor)]
        # A number on the processor may be an operand of anything: it travels as an argument of the kernel.
        if len({x.device.type for x in flat if x.dim() or x.device.type != "cpu"}) > 1:
            self.seen.append(str(func))
        return made


class FakeLink:
    """A device link without numbers. uploads, downloads: how many there were."""

    def __init__(self, counts: dict[str, int]) -> None:
        self._counts = counts

    def upload(self, *arrays: NDArray[Any]) -> list[Tensor]:
        self._counts["uploads"] += 1
        like = (torch.from_numpy(np.empty(0, array.dtype)).dtype for array in arrays)
        return [torch.empty(array.shape, dtype=dtype, device=CUDA) for array, dtype in zip(arrays, like, strict=True)]

    def download(self, x: Tensor) -> NDArray[Any]:
        assert x.device.type == "cuda"
        self._counts["downloads"] += 1
        return np.full(tuple(x.shape), 0.01, np.float32)


@contextmanager
def fake_cuda(mode: FakeTensorMode) -> Iterator[None]:
    """While it is on, every tensor that is made is a fake one of this mode; those of two modes do not mix."""
    _give_cuda_a_guard()
    with torch.inference_mode(), mode:
        yield
