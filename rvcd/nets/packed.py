"""Convolutions and matrix products with weights laid out once for the processor, in float32 or bfloat16.

On a CPU, oneDNN's fast kernels want channels-last data and weights in their own blocked layout. Torch's eager operators pack
the weights again on every call; the operators that its compiler uses take them packed, and apply the activation on the way out.
Where a torch build lacks those, and on a GPU, the plain operators compute the same. In float32 kernels of our own are faster
(rvcd.nets.tiled_conv); they run where the processor has the instructions.

Sequences are (B, C, T). Channels-last means that C is contiguous in memory: a transposed (B, T, C) costs no copy.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rvcd.nets.grouped_conv import GroupedConv
from rvcd.nets.steps import MOST_STEPS
from rvcd.nets.tiled_conv import TiledConv, available
from rvcd.yielding import yield_point

ACTIVATIONS: dict[str, tuple[str, list[float], str]] = {
    "": ("none", [], ""),
    "gelu": ("gelu", [], "none"),
}
"""Our names of fused activations, in the words of torch's oneDNN operators: name, scalars, algorithm."""


def fuses(weight: Tensor) -> bool:
    """Say whether torch has its compiler's operators for a weight of this type and device."""
    operators = all(hasattr(torch.ops.mkldnn, name) for name in ("_convolution_pointwise", "_linear_pointwise"))
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    supported = weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.device.type == "cpu" and operators and available and bool(supported)


def worth_packing(dtype: torch.dtype, device: str) -> bool:
    """Say whether networks that compute in dtype are faster packed."""
    return dtype != torch.float32 or available(torch.empty(0, device=device))


def packs_alike(weight: Tensor) -> bool:
    """Say whether oneDNN lays out a convolution's weight in one way for every length of input.

    It splits 192 channels by 48 or by 64 depending on the length, and a weight packed in the wrong way is packed anew on every
    call, at 20 to 40 ms (ONEDNN_VERBOSE=1 shows it). Powers of two are split alike for all lengths from 12 to 20,000.
    """
    channels = weight.shape[0]
    return channels & (channels - 1) == 0


class PackedLinear(nn.Module):
    """Stands in for an nn.Linear: (..., in) -> (..., out) in the packed dtype."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, activation: str = "") -> None:
        """weight (out, in)."""
        super().__init__()
        self.dtype, self.activation = dtype, activation
        self.own: TiledConv | None = None
        if dtype == torch.float32 and available(weight):
            yield_point()
            self.own = TiledConv(weight[:, :, None], bias, narrow=True)
            return
        self.weight = weight.detach().to(dtype)
        self.bias = None if bias is None else bias.detach().to(dtype)
        self.fused = fuses(self.weight)
        yield_point()
        if self.fused:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, None)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        if self.own is not None:
            return _activate(self.own.rows(x), self.activation)
        if self.fused:
            y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *ACTIVATIONS[self.activation])
            return y
        return _activate(F.linear(x, self.weight, self.bias), self.activation)


class PackedConv:
    """One convolution along the last axis of (1, C, 1, T) channels-last tensors, without padding."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        dtype: torch.dtype,
        stride: int = 1,
        dilation: int = 1,
        as_product: bool = False,
        by_torch: bool = False,
        narrow: bool = False,
    ) -> None:
        """weight (out, in, kernel).

        narrow: as rvcd.nets.tiled_conv.TiledConv takes it.

        as_product: as a matrix product over unfolded rows: for short inputs, and channels that do not pack alike.
        by_torch: never by kernels of our own, which need no such distinction.
        """
        self.dtype = dtype
        _, self.channels_in, self.kernel = weight.shape
        self.stride, self.dilation = [1, stride], [1, dilation]
        self.product: PackedLinear | None = None
        self.own: TiledConv | None = None
        if dtype == torch.float32 and available(weight) and not by_torch:
            yield_point()
            self.own = TiledConv(weight, bias, stride=stride, dilation=dilation, narrow=narrow)
            return
        if as_product:
            self.product = PackedLinear(weight.detach().transpose(1, 2).flatten(1), bias, dtype)
            return
        flat = weight.detach().to(dtype).unsqueeze(2).contiguous(memory_format=torch.channels_last)
        self.bias = None if bias is None else bias.detach().to(dtype)
        self.fused = fuses(flat)
        yield_point()
        if self.fused and dtype == torch.bfloat16 and packs_alike(flat):
            flat = torch.ops.mkldnn._reorder_convolution_weight(flat, [0, 0], self.stride, self.dilation, 1, None)
        self.weight = flat

    def __call__(self, x: Tensor, *, slope: float | None = None, activation: str = "") -> Tensor:
        """x (B, in, 1, T) in any dtype -> (B, out, 1, T') in this one, then leaky ReLU of a slope, or a named activation."""
        x = x.to(self.dtype)
        if self.own is not None:
            made = [self.own(one, slope=slope) for one in torch.split(_as_rows(x), 1)]
            return _activate(made[0] if len(made) == 1 else torch.cat(made), activation)
        if self.product is not None:
            y: Tensor = self.product(self._unfolded(x)).permute(0, 3, 1, 2)
        elif self.fused:
            fused = ("leaky_relu", [slope], "") if slope is not None else ACTIVATIONS[activation]
            y = torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, [0, 0], self.stride, self.dilation, 1, *fused)
            return y
        else:
            y = F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation)
        return F.leaky_relu(y, slope) if slope is not None else _activate(y, activation)

    def run(
        self, x: Tensor, *, entering: float | None = None, leaving: float | None = None, residual: Tensor | None = None,
        out: Tensor | None = None, accumulate: bool = False, scale: float = 1.0,
    ) -> Tensor:  # fmt: skip
        """As rvcd.nets.tiled_conv.TiledConv.run; what comes out is in this dtype, or in that of residual and out."""
        if self.own is not None:
            return self.own.run(
                _as_rows(x), entering=entering, leaving=leaving, residual=residual, out=out, accumulate=accumulate, scale=scale
            )
        y = self(x if entering is None else F.leaky_relu(x.to(self.dtype), entering), slope=leaving)
        if residual is None and out is None:
            return y if scale == 1.0 else y * scale
        if residual is not None:
            y = torch.add(residual, y, out=None if accumulate else out)
        if accumulate:
            assert out is not None
            y = out.add_(y)
        elif out is not None and y is not out:
            y = out.copy_(y)
        return y if scale == 1.0 else y.mul_(scale)

    def _unfolded(self, x: Tensor) -> Tensor:
        """(B, C, 1, T) -> the inputs of each output in a row, (B, 1, T', kernel * C)."""
        rows = x.permute(0, 2, 3, 1).contiguous()
        B, _, T, C = rows.shape
        if self.kernel == 1 and self.stride[1] == 1:
            return rows
        count = (T - self.dilation[1] * (self.kernel - 1) - 1) // self.stride[1] + 1
        size, strides = (B, 1, count, self.kernel, C), (T * C, T * C, self.stride[1] * C, self.dilation[1] * C, 1)
        return rows.as_strided(size, strides).flatten(3)


class PackedConv1d(nn.Module):
    """Stands in for an nn.Conv1d without groups: (B, in, T) -> (B, out, T'), its result channels-last and in its dtype."""

    def __init__(self, conv: nn.Conv1d, dtype: torch.dtype, activation: str = "", *, narrow: bool = True) -> None:
        super().__init__()
        self.activation, self.padding = activation, int(conv.padding[0])
        self.conv = PackedConv(
            conv.weight, conv.bias, dtype=dtype, stride=conv.stride[0], dilation=conv.dilation[0],
            as_product=not packs_alike(conv.weight), narrow=narrow,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        rows = x.to(self.conv.dtype).transpose(1, 2)
        # oneDNN has no fast bfloat16 kernel for some padded shapes (11 ms instead of 0.2): pad here.
        rows = F.pad(rows, (0, 0, self.padding, self.padding)) if self.padding else rows.contiguous()
        return self.conv(rows.unsqueeze(1).permute(0, 3, 1, 2), activation=self.activation).squeeze(2)


class PackedPointwise(nn.Module):
    """Stands in for an nn.Conv1d of kernel 1: (B, in, T) -> (B, out, T), its result channels-last and in its dtype."""

    def __init__(self, conv: nn.Conv1d, dtype: torch.dtype) -> None:
        super().__init__()
        self.linear = PackedLinear(conv.weight[..., 0], conv.bias, dtype)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x.transpose(1, 2))
        return y.transpose(1, 2)


class PackedGroups(nn.Module):
    """Stands in for an nn.Conv1d of stride 1 with groups, as a batch of matrix products: (1, in, T) -> (1, out, T').

    Without padding, whatever the convolution's own is.
    """

    def __init__(self, conv: nn.Conv1d, dtype: torch.dtype) -> None:
        super().__init__()
        self.groups, self.kernel = conv.groups, conv.kernel_size[0]
        self.width = conv.in_channels // conv.groups
        self.own: GroupedConv | None = None
        if dtype == torch.float32 and available(conv.weight) and conv.groups <= MOST_STEPS:
            self.own = GroupedConv(conv.weight, conv.bias, conv.groups)
            return
        weight = conv.weight.detach().view(conv.groups, -1, self.width, self.kernel).permute(0, 3, 2, 1)
        self.weight = weight.reshape(conv.groups, self.kernel * self.width, -1).to(dtype)
        self.bias = None if conv.bias is None else conv.bias.detach().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[2]
        if self.own is not None:
            return self.own(x)
        rows = x[0].to(self.weight.dtype).reshape(self.groups, self.width, T).transpose(1, 2).contiguous()
        size = (self.groups, T - self.kernel + 1, self.kernel * self.width)
        y = torch.bmm(rows.as_strided(size, (T * self.width, self.width, 1)), self.weight)
        y = y.transpose(0, 1).reshape(1, size[1], -1)
        return (y if self.bias is None else y + self.bias).transpose(1, 2)


def pack(module: nn.Module, dtype: torch.dtype, skip: Collection[str] = ()) -> None:
    """Replace every nn.Linear and nn.Conv1d below a module by packed ones; their own weights are freed.

    A convolution of kernel 1 or with groups must have stride 1 and no dilation.

    skip: names of the module's own children that stay as they are.
    """
    for name, child in module.named_children():
        if name in skip:
            continue
        if isinstance(child, nn.Linear):
            setattr(module, name, PackedLinear(child.weight, child.bias, dtype))
            yield_point()
        elif isinstance(child, nn.Conv1d):
            kind = PackedGroups if child.groups > 1 else PackedPointwise if child.kernel_size == (1,) else PackedConv1d
            setattr(module, name, kind(child, dtype))
            yield_point()
        else:
            pack(child, dtype)


def own_of(module: nn.Module) -> TiledConv:
    """Return the C kernels' part of a packed convolution. Raises TypeError where it has none."""
    own = module.linear.own if isinstance(module, PackedPointwise) else getattr(getattr(module, "conv", None), "own", None)
    if own is None:
        raise TypeError(f"{type(module).__name__} is not computed by the C kernels")
    return own


def _as_rows(x: Tensor) -> Tensor:
    """Return (B, C, 1, T) channels-last: itself where it is so already."""
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def _activate(x: Tensor, activation: str) -> Tensor:
    return F.gelu(x) if activation == "gelu" else x
