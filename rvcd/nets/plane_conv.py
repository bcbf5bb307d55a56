"""Convolutions over planes (times x bands) and recurrent layers by C kernels of our own (rvcd/nets/_conv/plane.h), in float32.

A plane is rows of positions, channels of a position beside each other, within a border of zeros, which is the padding of a 3x3
convolution. Weights that are half floats to begin with stay so, without loss, and half as much of them passes through the caches.

Where rvcd.nets.tiled_conv.available() says no, use torch's modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rvcd.nets._conv._native import ffi, lib
from rvcd.nets.tiled_conv import instruction_set
from rvcd.yielding import yield_point

FLOAT_BYTES = 4
LEAST_HALVES = 1 << 15
"""Weights of a convolution that are worth keeping as half floats: fewer stay in the caches anyway, and need no widening."""
TRANSPOSED_TAPS = ((1,), (2, 0))
"""Taps of a transposed convolution of 3, stride 2, padding 1, for its even and its odd outputs: of input i, and of i + 1."""


@dataclass(frozen=True)
class Plane:
    """Some channels of a buffer, or all: (times, bands, channels), float32, every second position of it where `every` is 2.

    buffer: (times + 2, bands + 2, all channels) with its border. origin: the buffer's position of (0, 0).
    """

    buffer: Tensor
    times: int
    bands: int
    channels: int
    first_channel: int = 0
    origin: tuple[int, int] = (1, 1)
    every: int = 1

    @classmethod
    def empty(cls, times: int, bands: int, channels: int) -> Plane:
        """Return a new plane of zeros."""
        return cls(torch.zeros((times + 2, bands + 2, channels)), times, bands, channels)

    @property
    def step(self) -> int:
        """Floats from a band to the next."""
        return self.every * self.buffer.shape[2]

    @property
    def pitch(self) -> int:
        """Floats from a time to the next."""
        return self.every * self.buffer.shape[1] * self.buffer.shape[2]

    def address(self, times_before: int = 0, bands_before: int = 0) -> int:
        """Return where (0, 0) lies, or what is before it."""
        time, band = self.origin[0] - times_before, self.origin[1] - bands_before
        at = (time * self.buffer.shape[1] + band) * self.buffer.shape[2] + self.first_channel
        return self.buffer.data_ptr() + FLOAT_BYTES * at

    def part(self, first_channel: int, channels: int) -> Plane:
        """Return some of the channels."""
        return Plane(self.buffer, self.times, self.bands, channels, first_channel)

    def phase(self, time: int, band: int) -> Plane:
        """Return every second position in both directions, from (time, band) on; each 0 or 1."""
        origin = (self.origin[0] + time, self.origin[1] + band)
        return Plane(self.buffer, self.times // 2, self.bands // 2, self.channels, self.first_channel, origin, every=2)

    @property
    def values(self) -> Tensor:
        """The positions without the border, (times, bands, channels): a view."""
        end = self.first_channel + self.channels
        return self.buffer[1 : self.times + 1, 1 : self.bands + 1, self.first_channel : end]


class PlaneConv:
    """One convolution of stride 1 that keeps the size: y = relu(scale * conv(x) + bias), plus a residual."""

    def __init__(
        self, weight: Tensor, scale: Tensor | None, bias: Tensor | None, *, relu: bool = False, centred: bool = True
    ) -> None:
        """weight (out, in, taps of times, taps of bands). centred: 3 taps begin one position before; else at it."""
        self.channels_out, self.channels_in, times, bands = weight.shape
        self.before = (times // 2, bands // 2) if centred else (0, 0)
        instructions = instruction_set()
        width = lib.conv_panel_width(instructions)
        self._weights = _weights(weight.detach().permute(2, 3, 1, 0).flatten(0, 2), width)
        outputs = -(-self.channels_out // width) * width
        self._scale, self._bias = torch.ones(outputs), torch.zeros(outputs)
        if scale is not None:
            self._scale[: self.channels_out] = scale.detach()
        if bias is not None:
            self._bias[: self.channels_out] = bias.detach()
        self._plan: Any = ffi.new("struct plane_plan *")
        plan = self._plan
        plan.instructions, plan.relu, plan.halves = instructions, relu, self._weights.dtype == torch.float16
        plan.channels_in, plan.channels_out, plan.taps_times, plan.taps_bands = self.channels_in, self.channels_out, times, bands
        plan.weights, plan.scale, plan.bias = _pointer(self._weights), _pointer(self._scale), _pointer(self._bias)
        yield_point()

    def __call__(self, x: Plane, y: Plane, residual: Plane | None = None) -> None:
        """x (T, M, in) -> y (T, M, out). residual: of y's size, may be y itself. x must not be y.

        Raises ValueError for planes that do not fit.
        """
        sizes = {(plane.times, plane.bands) for plane in (x, y, residual) if plane is not None}
        outputs = {plane.channels for plane in (y, residual) if plane is not None}
        whole = x.every == 1 and x.buffer.shape[2] == self.channels_in == x.channels
        if len(sizes) != 1 or outputs != {self.channels_out} or not whole or x.buffer.data_ptr() == y.buffer.data_ptr():
            raise ValueError(f"a convolution {self.channels_in} > {self.channels_out} does not fit {x.values.shape}")
        lib.plane_run(
            self._plan, x.address(*self.before), x.pitch, self.before[0], x.times, y.address(), y.pitch, y.step,
            0 if residual is None else residual.address(), 0 if residual is None else residual.pitch,
            0 if residual is None else residual.step, x.times, x.bands, torch.get_num_threads(),
        )  # fmt: skip
        yield_point()


class PlaneUpsampling:
    """A transposed 3x3 convolution of stride 2, padding 1 and output padding 1: four convolutions, one for each phase."""

    def __init__(self, weight: Tensor, scale: Tensor | None, bias: Tensor | None, *, relu: bool = False) -> None:
        """weight (in, out, 3, 3)."""
        self._phases = {
            (time, band): PlaneConv(
                weight.transpose(0, 1)[:, :, TRANSPOSED_TAPS[time]][:, :, :, TRANSPOSED_TAPS[band]], scale, bias, relu=relu,
                centred=False,
            )
            for time in (0, 1) for band in (0, 1)
        }  # fmt: skip

    def __call__(self, x: Plane, y: Plane) -> None:
        """x (T, M, in) -> y (2 T, 2 M, out)."""
        for (time, band), conv in self._phases.items():
            conv(x, y.phase(time, band))


def halve(x: Plane, y: Plane) -> None:
    """x (2 T, 2 M, C) -> y (T, M, C): means of four."""
    if (x.times, x.bands, x.channels) != (2 * y.times, 2 * y.bands, y.channels):
        raise ValueError(f"{x.values.shape} is not twice {y.values.shape}")
    lib.plane_halve(x.address(), x.pitch, x.step, y.address(), y.pitch, y.step, y.times, y.bands, y.channels)


@dataclass(frozen=True)
class GruWeights:
    """Of one direction, as torch has them: (3 width, in), (3 width, width), (3 width,) twice."""

    inputs: Tensor
    state: Tensor
    input_bias: Tensor
    state_bias: Tensor


class BidirectionalGru:
    """One layer: (T, in) -> (T, 2 width), forward beside backward, each from a state of zeros."""

    def __init__(self, directions: Sequence[GruWeights]) -> None:
        """directions: forward, backward."""
        self.width = directions[0].state.shape[1]
        instructions = instruction_set()
        panel = lib.conv_panel_width(instructions)
        states = [direction.state.detach() for direction in directions]
        halves = all(_is_half(state) for state in states)
        self._states = [_panels(state.T, panel, halves) for state in states]
        self._state_biases = [direction.state_bias.detach().float().contiguous() for direction in directions]
        self._inputs = torch.cat([direction.inputs.detach() for direction in directions]).T.contiguous()
        self._input_bias = torch.cat([direction.input_bias.detach() for direction in directions])
        self._plan: Any = ffi.new("struct gru_plan *")
        plan = self._plan
        plan.instructions, plan.width, plan.halves = instructions, self.width, halves
        for i in (0, 1):
            plan.weights[i], plan.bias[i] = _pointer(self._states[i]), _pointer(self._state_biases[i])
        self._scratch = int(lib.gru_scratch(plan))
        yield_point()

    def __call__(self, x: Tensor) -> Tensor:
        gates = torch.addmm(self._input_bias, x, self._inputs)
        y, scratch = torch.empty((len(x), 2 * self.width)), torch.empty(self._scratch)
        lib.gru_run(self._plan, gates.data_ptr(), y.data_ptr(), len(x), torch.get_num_threads(), scratch.data_ptr())
        yield_point()
        return y


def _weights(taps: Tensor, width: int) -> Tensor:
    """(depth, out) -> panels, in half floats where that loses nothing and is worth it."""
    return _panels(taps, width, taps.numel() >= LEAST_HALVES and _is_half(taps))


def _is_half(weight: Tensor) -> bool:
    return bool(lib.plane_has_halves()) and torch.equal(weight.half().float(), weight)


def _panels(taps: Tensor, width: int, halves: bool) -> Tensor:
    """(depth, out) -> (panels, depth, width), zeros where there were none."""
    depth, out = taps.shape
    panels = -(-out // width)
    padded = torch.zeros((depth, panels * width), dtype=torch.float16 if halves else torch.float32)
    padded[:, :out] = taps
    yield_point()
    return padded.view(depth, panels, width).transpose(0, 1).contiguous()


def _pointer(tensor: Tensor) -> Any:
    return ffi.cast("void *" if tensor.dtype == torch.float16 else "float *", tensor.data_ptr())
