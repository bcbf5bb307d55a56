"""Convolution in float32 by C kernels of our own (rvcd/nets/_conv): direct, or by minimal filtering.

What torch's operators leave between the convolutions is done where the numbers are in registers: the activations of what goes
in and of what comes out, the residual, the sum of several. Data stay where they lie: (1, C, 1, T) channels-last, that is rows of
channels, of which any run of positions may be given.

The kernels need AVX2 or AVX-512; elsewhere, and with RVCD_CPU=baseline, available() says no and rvcd.nets.packed does the work.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rvcd.nets._conv._native import ffi, lib
from rvcd.nets.narrow_weights import narrowed
from rvcd.nets.tile_points import tile_matrices

INSTRUCTION_SETS = {0: "baseline", lib.CONV_AVX2: "avx2", lib.CONV_AVX512: "avx512"}
TILES: dict[int, tuple[int, ...]] = {3: (4, 6, 8), 7: (4, 6, 8), 11: (4, 5, 6)}
"""By the kernel's length: the outputs of the tiles that can be computed. Longer tiles multiply less and round more."""
DIRECT = 0
"""In the place of a tile's outputs: every tap is multiplied."""


@cache
def instruction_set() -> int:
    """Return which kernels run: lib.CONV_AVX512, lib.CONV_AVX2, or 0 for none. RVCD_CPU may ask for less than there is."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    lib.conv_use_threads_of(os.fsencode(library))
    found = int(lib.conv_instructions())
    asked = os.environ.get("RVCD_CPU", "")
    return min(found, next((number for number, name in INSTRUCTION_SETS.items() if name == asked), found))


def instruction_set_name() -> str:
    """Return the name of what runs, as RVCD_CPU takes it."""
    return INSTRUCTION_SETS[instruction_set()]


def available(weight: Tensor) -> bool:
    """Say whether a convolution with this weight, without groups, can be a TiledConv."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and instruction_set() > 0


class _Scratch(threading.local):
    """What the calls of a thread work in, as large as the largest so far needed."""

    buffer = torch.empty(0)

    def of(self, size: int) -> Tensor:
        if self.buffer.numel() < size:
            self.buffer = torch.empty(size)
        return self.buffer


_scratch = _Scratch()


def scratch_of(size: int) -> Tensor:
    """Return at least `size` floats that this thread's calls may work in, one call after another."""
    return _scratch.of(size)


class TiledConv:
    """One convolution along the last axis of (1, C, 1, T) channels-last float32 tensors, without padding."""

    dtype = torch.float32

    def __init__(
        self, weight: Tensor, bias: Tensor | None, *, stride: int = 1, dilation: int = 1, outputs: int = DIRECT,
        narrow: bool = False,
    ) -> None:  # fmt: skip
        """weight (out, in, kernel). outputs: of a tile, one of TILES[kernel]; or DIRECT, which a stride needs.

        narrow: keep a direct convolution's weights in 16 bits where that is exact enough (see rvcd.nets.narrow_weights): for few
        positions, where memory cannot bring the weights as fast as they are multiplied.
        """
        self.channels_out, self.channels_in, self.kernel = weight.shape
        if outputs != DIRECT and outputs not in TILES.get(self.kernel, ()):
            raise ValueError(f"there are no tiles of {outputs} outputs for a kernel of {self.kernel}")
        if outputs != DIRECT and stride != 1:
            raise ValueError(f"tiles have no stride, not even {stride}")
        self.stride, self.dilation, self.outputs = [1, stride], [1, dilation], outputs
        instructions = instruction_set()
        panel = lib.conv_panel_width(instructions)
        weight = weight.detach()
        rounded = narrowed(weight) if narrow and outputs == DIRECT else None
        taps, evaluate, combine = weight.permute(2, 1, 0), torch.empty(0), torch.empty(0)
        if outputs != DIRECT:
            matrices = tile_matrices(outputs, self.kernel)
            taps = torch.tensordot(matrices.weights, taps.double(), dims=1)
            evaluate, combine = matrices.evaluate.float(), matrices.combine.float()
        if rounded is not None:
            taps = rounded.numbers.permute(2, 1, 0)
        self._weights = _panels(taps, panel, depth_unit=1 if outputs == DIRECT else panel // 2)
        self._bias = _padded(bias, self._weights.shape[0] * panel)
        self._unit = _padded(torch.ones(self.channels_out) if rounded is None else rounded.unit, self._weights.shape[0] * panel)
        self._matrices = (evaluate, combine)
        self.plan: Any = ffi.new("struct conv_plan *")
        plan = self.plan
        plan.instructions, plan.outputs, plan.kernel = instructions, outputs, self.kernel
        plan.stride, plan.dilation = stride, dilation
        plan.channels_in, plan.channels_out = self.channels_in, self.channels_out
        plan.unit, plan.bias, plan.evaluate, plan.combine = map(_floats, (self._unit, self._bias, evaluate, combine))
        if self.is_narrow:
            plan.narrow = ffi.cast("int16_t *", self._weights.data_ptr())
        else:
            plan.weights = _floats(self._weights)

    @property
    def is_narrow(self) -> bool:
        """Whether the weights have 16 bits."""
        return self._weights.dtype == torch.int16

    def length_out(self, length: int) -> int:
        """Return how many positions come of so many."""
        return (length - self.dilation[1] * (self.kernel - 1) - 1) // self.stride[1] + 1

    def __call__(self, x: Tensor, *, slope: float | None = None) -> Tensor:
        """x (1, in, 1, T) -> (1, out, 1, T'), then leaky ReLU of a slope."""
        return self.run(x, leaving=slope)

    def rows(self, x: Tensor) -> Tensor:
        """Of a kernel of 1, as a matrix product: (..., in) -> (..., out)."""
        if x.numel() == 0:
            return x.new_empty((*x.shape[:-1], self.channels_out))
        flat = x.reshape(1, 1, -1, self.channels_in).contiguous()
        return self.run(flat.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.channels_out)

    def run(
        self,
        x: Tensor,
        *,
        entering: float | None = None,
        leaving: float | None = None,
        residual: Tensor | None = None,
        out: Tensor | None = None,
        accumulate: bool = False,
        scale: float = 1.0,
    ) -> Tensor:
        """x (1, in, 1, T) -> (1, out, 1, T'): scale * (leaky(conv(leaky(x))) + residual + what out held).

        entering, leaving: slopes of the leaky ReLUs, 0..1; None for none. out: where it is written; it must not overlap x.
        accumulate: add to what out holds. Raises ValueError for tensors of another layout or size.
        """
        count = self.length_out(x.shape[3])
        if out is None:
            out = empty_rows(self.channels_out, count)
        x_at, out_at = _address(x, self.channels_in, x.shape[3]), _address(out, self.channels_out, count)
        residual_at = 0 if residual is None else _address(residual, self.channels_out, count)
        if count <= 0:
            raise ValueError(f"{x.shape[3]} positions are too few for a kernel of {self.kernel} and dilation {self.dilation[1]}")
        threads = torch.get_num_threads()
        scratch = _scratch.of(lib.conv_scratch(self.plan, count, threads))
        lib.conv_run(
            self.plan, x_at, out_at, residual_at, count, 1.0 if entering is None else entering,
            1.0 if leaving is None else leaving, scale, accumulate, threads, scratch.data_ptr(),
        )  # fmt: skip
        return out


def empty_rows(channels: int, length: int) -> Tensor:
    """Return a new float32 tensor (1, channels, 1, length), channels-last also where a size is 1."""
    return torch.empty((1, 1, length, channels)).permute(0, 3, 1, 2)


def _panels(taps: Tensor, width: int, depth_unit: int) -> Tensor:
    """(taps, in, out) -> (panels, taps, in, width), in a multiple of depth_unit; zeros where there were none.

    Whole numbers of 16 bits stay what they are, all else becomes float32.
    """
    count, depth, out = taps.shape
    depths, panels = -(-depth // depth_unit) * depth_unit, -(-out // width)
    padded = torch.zeros((count, depths, panels * width), dtype=torch.int16 if taps.dtype == torch.int16 else torch.float32)
    padded[:, :depth, :out] = taps
    return padded.view(count, depths, panels, width).permute(2, 0, 1, 3).contiguous()


def _padded(channels: Tensor | None, length: int) -> Tensor:
    """(out,) or None -> (length,) float32, zeros where there were none."""
    made = torch.zeros(length)
    if channels is not None:
        made[: len(channels)] = channels.detach()
    return made


def _floats(tensor: Tensor) -> Any:
    return ffi.cast("float *", tensor.data_ptr())


def _address(x: Tensor, channels: int, length: int) -> int:
    """Return where a tensor's rows lie. The kernels trust its sizes, so whatever is not as they expect stops here."""
    _, stride, _, step = x.stride()
    fits = x.dtype == torch.float32 and x.shape == (1, channels, 1, length) and x.device.type == "cpu"
    if not fits or (length > 1 and step != channels) or (channels > 1 and stride != 1):
        raise ValueError(f"expected (1, {channels}, 1, {length}) channels-last in float32, not {tuple(x.shape)} in {x.dtype}")
    return x.data_ptr()
