"""A layer as a list of steps, which one call of the C kernels computes: products, norms, attention and gates, on rows.

Between two of torch's operators lie some microseconds of Python and of waking threads, and for a block's few rows that is as long
as what they compute. A list is made once for each number of rows; what changes from call to call are addresses.

Rows are float32 tensors (N, channels), contiguous. They are kept by the list until it is dropped; a step may write the rows of
one before it, and reads them as they are then.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from rvcd.nets._conv._native import ffi, lib
from rvcd.nets.tiled_conv import TiledConv, scratch_of

MOST_STEPS: int = lib.MOST_STEPS
KEPT_SIZES = 4
T = TypeVar("T")


class BySize(Generic[T]):
    """What is made for a number of rows, kept for the newest few numbers: a stream's blocks have one or two."""

    def __init__(self, make: Callable[[int], T]) -> None:
        self._make = make
        self._kept: OrderedDict[int, T] = OrderedDict()

    def of(self, count: int) -> T:
        """Return what was made for so many rows, or make it."""
        made = self._kept.pop(count) if count in self._kept else self._make(count)
        self._kept[count] = made
        while len(self._kept) > KEPT_SIZES:
            self._kept.popitem(last=False)
        return made


class Steps:
    """Computes what it was given, in that order, with run()."""

    def __init__(self) -> None:
        self._steps: Any = ffi.new("struct conv_step[]", MOST_STEPS)
        self._count = 0
        self._kept: list[object] = []
        self._threads = self._scratch = 0

    def conv(
        self, conv: TiledConv, x: Tensor, y: Tensor, *, entering: float = 1.0, leaving: float = 1.0, gelu: bool = False,
        residual: Tensor | None = None, accumulate: bool = False, scale: float = 1.0, together: bool = False,
    ) -> None:  # fmt: skip
        """y = scale * (leaky(conv(leaky(x))) + residual + what y held, if it accumulates). Slopes are entering and leaving.

        gelu: in the place of the second leaky ReLU. x (positions, in), y and residual (length_out(positions), out).
        together: the next step does not need this one's result, and need not wait for it.
        """
        count = conv.length_out(len(x))
        step = self._new(lib.STEP_CONV, x, y, count)
        _expect(conv.channels_in, x)
        _expect(conv.channels_out, y, count)
        if residual is not None:
            _expect(conv.channels_out, residual, count)
            step.residual = residual.data_ptr()
        step.plan, step.accumulate, step.gelu, step.together = conv.plan, accumulate, gelu, together
        step.slope_in, step.slope_out, step.scale = entering, leaving, scale
        self._kept += [conv, residual]

    def norm(self, x: Tensor, y: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> None:
        """y = layer norm of x (N, C) over its channels."""
        count, width = x.shape
        step = self._new(lib.STEP_NORM, x, y, count)
        _expect(width, y, count)
        step.width, step.epsilon = width, epsilon
        step.first, step.second = _vector(gamma, width), _vector(beta, width)
        self._kept += [gamma, beta]

    def gate(self, x: Tensor, y: Tensor, added: Tensor) -> None:
        """y (N, C) = tanh of the first C channels of x + added times sigmoid of the others. x (N, 2 * C), added (2 * C,)."""
        count, width = y.shape
        step = self._new(lib.STEP_GATE, x, y, count)
        _expect(2 * width, x, count)
        step.width, step.first = width, _vector(added, 2 * width)
        self._kept.append(added)

    def attend(self, rows: Tensor, count: int, y: Tensor, *, heads: int, near: tuple[Tensor, Tensor] | None = None) -> None:
        """y (count, W) = attention of the newest `count` rows to all rows (K, 3 * W): queries, keys and values side by side.

        near: what is added to keys and values by distance, each (2 * window + 1, W / heads): the first is of keys `window` rows
        before the query's. None: nothing.
        """
        width = y.shape[1]
        step = self._new(lib.STEP_ATTEND, rows, y, count)
        _expect(width, y, count)
        step.heads, step.width, step.x_stride, step.window = heads, width // heads, 3 * width, -1
        step.scale = (width // heads) ** -0.5
        if near is not None:
            step.window = len(near[0]) // 2
            for embedding in near:
                _expect(width // heads, embedding, 2 * step.window + 1)
            step.near_keys, step.near_values = near[0].data_ptr(), near[1].data_ptr()
            self._kept.append(near)
        self.move_attention(self._count - 1, rows)

    def move_attention(self, number: int, rows: Tensor) -> None:
        """Let an attention, step `number`, see other rows, of any number not below its queries'."""
        step = self._steps[number]
        width = step.heads * step.width
        if rows.dim() != 2 or len(rows) < step.count:
            raise ValueError(f"{len(rows)} rows are fewer than the {step.count} queries")
        _expect(3 * width, rows)
        at, row_bytes = rows.data_ptr(), 4 * 3 * width
        step.keys = len(rows)
        step.x = at + (len(rows) - step.count) * row_bytes
        step.first, step.second = at + 4 * width, at + 8 * width
        self._threads = 0

    def move_result(self, number: int, y: Tensor) -> None:
        """Let a convolution, step `number`, write elsewhere."""
        step = self._steps[number]
        _expect(step.plan.channels_out, y, step.count)
        step.y = y.data_ptr()

    @property
    def count(self) -> int:
        """Steps so far; the next one's number."""
        return self._count

    def run(self) -> None:
        """Compute all steps, on as many threads as torch uses."""
        threads = torch.get_num_threads()
        if threads != self._threads:
            self._threads, self._scratch = threads, lib.conv_steps_scratch(self._steps, self._count, threads)
        lib.conv_run_steps(self._steps, self._count, threads, scratch_of(self._scratch).data_ptr())

    def _new(self, kind: int, x: Tensor, y: Tensor, count: int) -> Any:
        if self._count == MOST_STEPS:
            raise ValueError(f"a list has no more than {MOST_STEPS} steps")
        if count <= 0:
            raise ValueError("a step computes at least one row")
        step = self._steps[self._count]
        self._count += 1
        step.kind, step.count, step.x, step.y = kind, count, x.data_ptr(), y.data_ptr()
        self._kept += [x, y]
        return step


def _expect(channels: int, rows: Tensor, count: int | None = None) -> None:
    """The kernels trust sizes, so whatever is not as they expect stops here."""
    fits = rows.dtype == torch.float32 and rows.device.type == "cpu" and rows.dim() == 2 and rows.is_contiguous()
    if not fits or rows.shape[1] != channels or (count is not None and len(rows) != count):
        wanted = f"({'N' if count is None else count}, {channels})"
        raise ValueError(f"expected rows {wanted} in float32, contiguous, not {tuple(rows.shape)} in {rows.dtype}")


def _vector(values: Tensor, length: int) -> int:
    if values.dtype != torch.float32 or values.shape != (length,) or not values.is_contiguous():
        raise ValueError(f"expected ({length},) in float32, not {tuple(values.shape)} in {values.dtype}")
    return values.data_ptr()
