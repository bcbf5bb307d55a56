"""The content encoder: HuBERT-base or ContentVec, 16 kHz audio -> units, 50 a second.

One network, one file (Hsu et al. 2021; ContentVec: Qian et al. 2022); rvcd.nets.contentvec_file loads it.
Shapes: B batch, T samples, N units, W model width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rvcd.errors import ModelFileError
from rvcd.geometry import FRAMES_PER_UNIT
from rvcd.nets.attention_memory import AttentionMemory
from rvcd.nets.contentvec_state import RECEPTIVE_FIELD_SAMPLES, FrontEndState, UnitState
from rvcd.nets.packed import PackedConv1d, PackedGroups, PackedLinear, pack, worth_packing
from rvcd.nets.rolling_buffer import Past
from rvcd.nets.transformer_steps import LayerWeights, TransformerStream
from rvcd.yielding import yield_point

V1_LAYER = 9
"""RVC v1 voices take the output of this layer through final_proj; v2 voices take the last layer."""


@dataclass(frozen=True)
class EncoderSizes:
    """Every size of one encoder. conv_norm: "group" (first layer, over time) or "layer" (every layer, over channels)."""

    conv_channels: tuple[int, ...]
    conv_kernels: tuple[int, ...]
    conv_strides: tuple[int, ...]
    conv_bias: bool
    conv_norm: str
    feature_norm: bool
    projected: bool
    width: int
    heads: int
    layers: int
    inner_width: int
    position_kernel: int
    position_groups: int
    final_width: int | None
    norm_eps: float
    normalize: bool
    normalize_eps: float


class ConvLayer(nn.Module):
    """One layer of the front end: convolution, norm (or none), GELU."""

    def __init__(self, sizes: EncoderSizes, index: int) -> None:
        super().__init__()
        inputs = 1 if index == 0 else sizes.conv_channels[index - 1]
        channels = sizes.conv_channels[index]
        self.conv = nn.Conv1d(inputs, channels, sizes.conv_kernels[index], sizes.conv_strides[index], bias=sizes.conv_bias)
        self.over_time = sizes.conv_norm == "group"
        self.norm: nn.Module | None = None
        if not self.over_time:
            self.norm = nn.LayerNorm(channels, eps=sizes.norm_eps)
        elif index == 0:
            self.norm = nn.GroupNorm(channels, channels, eps=1e-5)
        self.activation: nn.Module = nn.GELU()

    def forward(self, x: Tensor, state: FrontEndState | None = None) -> Tensor:
        x = self.conv(x)
        yield_point()
        if self.norm is not None:
            if not self.over_time:
                x = self.norm(x.transpose(1, 2)).transpose(1, 2)
            elif state is None:
                x = self.norm(x)
            else:
                x = state.norm_layer(x, self.norm)  # type: ignore[arg-type]
            yield_point()
        return self.activation(x)  # type: ignore[no-any-return]


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward, each followed by its layer norm. q, k and v are one matrix product."""

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.qkv = nn.Linear(sizes.width, 3 * sizes.width)
        self.out = nn.Linear(sizes.width, sizes.width)
        self.norm_1 = nn.LayerNorm(sizes.width, eps=sizes.norm_eps)
        self.inner = nn.Linear(sizes.width, sizes.inner_width)
        self.activation: nn.Module = nn.GELU()
        self.outer = nn.Linear(sizes.inner_width, sizes.width)
        self.norm_2 = nn.LayerNorm(sizes.width, eps=sizes.norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, W) -> (B, N, W); every row sees every row."""
        return self.finish(x, *self.project(x))

    def for_steps(self) -> LayerWeights | None:
        """Return the layer as the C kernels compute it; None where they do not."""
        linears: list[nn.Module] = [self.qkv, self.out, self.inner, self.outer]
        own = [linear.own for linear in linears if isinstance(linear, PackedLinear) and linear.own is not None]
        if len(own) < len(linears):
            return None
        qkv, out, inner, outer = own
        return LayerWeights(self.heads, qkv, out, self.norm_1, inner, outer, self.norm_2)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, W) -> queries, keys and values, each (B, heads, N, W / heads)."""
        B, N, W = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.heads, W // self.heads).permute(2, 0, 3, 1, 4)
        return q, k, v

    def finish(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, N, W), its N queries, and the keys and values they see -> (B, N, W)."""
        yield_point()
        x = self.norm_1(x + self.out(_attend(q, k, v).transpose(1, 2).reshape(x.shape)))
        yield_point()
        y = self.activation(self.inner(x))
        yield_point()
        return self.norm_2(x + self.outer(y))  # type: ignore[no-any-return]


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention, (B, heads, N, width) each."""
    if q.device.type != "cpu" or q.dtype == torch.float32:
        return F.scaled_dot_product_attention(q, k, v)
    # Three times as fast as torch's flash attention for the few dozen rows of a window, on a CPU in bfloat16.
    scores = q @ k.transpose(2, 3) * (1.0 / math.sqrt(q.shape[3]))
    return scores.float().softmax(dim=-1).to(q.dtype) @ v


class ContentEncoder(nn.Module):
    """Audio -> units. Streaming may call front_end and encode apart and keep features between calls."""

    attends = True
    """A unit depends on all that is seen at once."""
    hears_pitch = False
    before_samples, field_samples = 0, RECEPTIVE_FIELD_SAMPLES
    """What a unit hears: so much before its first sample, and so much from there on."""

    def __init__(self, sizes: EncoderSizes, path: str = "content encoder") -> None:
        super().__init__()
        self.sizes, self.path = sizes, path
        channels = sizes.conv_channels[-1]
        self.conv_layers = nn.ModuleList(ConvLayer(sizes, i) for i in range(len(sizes.conv_channels)))
        self.feature_norm = nn.LayerNorm(channels, eps=sizes.norm_eps) if sizes.feature_norm else nn.Identity()
        self.projection = nn.Linear(channels, sizes.width) if sizes.projected else nn.Identity()
        self.position = nn.Conv1d(
            sizes.width, sizes.width, sizes.position_kernel, padding=sizes.position_kernel // 2, groups=sizes.position_groups
        )
        self.norm = nn.LayerNorm(sizes.width, eps=sizes.norm_eps)
        self.layers = nn.ModuleList(TransformerLayer(sizes) for _ in range(sizes.layers))
        self.final_proj = nn.Linear(sizes.width, sizes.final_width) if sizes.final_width is not None else None

    def pack(self, dtype: torch.dtype) -> None:
        """Compute in dtype from now on; the plain weights are freed. Norms, residual paths and the first layer stay float32."""
        if worth_packing(torch.float32, str(self.norm.weight.device)):
            first = self.conv_layers[0]
            first.conv = PackedConv1d(first.conv, torch.float32, narrow=False)  # type: ignore[arg-type]
        for layer in self.conv_layers[1:]:
            fused = "" if layer.norm is not None else "gelu"
            layer.conv = PackedConv1d(layer.conv, dtype, fused, narrow=False)  # type: ignore[arg-type]
            layer.activation = nn.GELU() if layer.norm is not None else nn.Identity()
            yield_point()
        for block in self.layers:
            inner: nn.Linear = block.inner  # type: ignore[assignment]
            block.inner, block.activation = PackedLinear(inner.weight, inner.bias, dtype, "gelu"), nn.Identity()
            yield_point()
        pack(self, dtype, skip=("conv_layers",))

    @property
    def unit_widths(self) -> tuple[int, ...]:
        """Widths of the units it can make: the last layer's, and final_proj's where layer 9 and final_proj exist."""
        widths = [self.sizes.width]
        if self.sizes.final_width is not None and self.sizes.layers >= V1_LAYER:
            widths.append(self.sizes.final_width)
        return tuple(dict.fromkeys(widths))

    def check_units(self, unit_width: int, layer: int = 0) -> None:
        """Raises ModelFileError when it cannot make units of this width, or of this layer (0: the usual one of that width)."""
        finals = (self.sizes.final_width,) if layer else ()
        if unit_width not in (*self.unit_widths, *finals):
            offered = " or ".join(map(str, self.unit_widths))
            raise ModelFileError(f"{self.path}: makes units of width {offered}, but the voice takes width {unit_width}")
        if layer > self.sizes.layers:
            raise ModelFileError(f"{self.path}: has {self.sizes.layers} layers, but the voice takes units of layer {layer}")

    def normalized(self, audio_16k: Tensor) -> Tensor:
        """Return audio with zero mean and unit variance over the given window, if the model was trained so; else as it is."""
        if not self.sizes.normalize:
            return audio_16k
        mean, variance = audio_16k.mean(-1, keepdim=True), audio_16k.var(-1, keepdim=True, unbiased=False)
        return (audio_16k - mean) / torch.sqrt(variance + self.sizes.normalize_eps)

    def start_front_end(self, memory_s: float) -> FrontEndState:
        """Return what a stream of front_end() calls carries, its moments forgotten with a time constant of memory_s."""
        return FrontEndState(memory_s, self.sizes.conv_kernels[0], self.sizes.conv_strides[0])

    def front_end(self, audio_16k: Tensor, state: FrontEndState | None = None) -> Tensor:
        """(B, T >= 400) -> (B, floor((T - 400) / 320) + 1, channels).

        The first layer's norm takes its statistics over all T samples, or, with a state, over the stream so far; then B is 1,
        and audio_16k starts with the last 80 samples of the call before.
        """
        _, T = audio_16k.shape
        if T < RECEPTIVE_FIELD_SAMPLES:
            raise ValueError(f"{T} samples are fewer than the {RECEPTIVE_FIELD_SAMPLES} that one unit takes")
        audio_16k = audio_16k.to(self.norm.weight.dtype)
        if state is not None and self.sizes.normalize:
            audio_16k = state.norm_audio(audio_16k, self.sizes.normalize_eps)
        elif state is None:
            audio_16k = self.normalized(audio_16k)
        x: Tensor = self.conv_layers[0](audio_16k[:, None], state)
        for layer in self.conv_layers[1:]:
            x = layer(x)
        return x.transpose(1, 2)

    def encode(self, features: Tensor, layer: int | None = None) -> Tensor:
        """(B, N, channels) -> (B, N, W) after `layer` transformer layers, all of them if None. Every row sees every row."""
        x: Tensor = self.projection(self.feature_norm(features))
        x = self._placed(x, 0)
        for block in self.layers[:layer]:
            x = block(x)
        return x

    def _placed(self, x: Tensor, known: int) -> Tensor:
        """Add what the positional convolution says and norm: (B, N, W), its first `known` rows only there to be seen."""
        kernel = self.sizes.position_kernel
        # An even kernel sees one row less on the right (SamePad); zeros stand beyond both ends.
        left = max(0, kernel // 2 - known)
        seen = F.pad(x[:, max(0, known - kernel // 2) :], (0, 0, left, (kernel - 1) // 2)).transpose(1, 2)
        if isinstance(self.position, PackedGroups):
            position = self.position(seen)
        else:
            position = F.conv1d(seen, self.position.weight, self.position.bias, groups=self.position.groups)
        return self.norm(x[:, known:] + F.gelu(position).transpose(1, 2))  # type: ignore[no-any-return]

    def per_frame(self, units: Tensor) -> Tensor:
        """(N, width) -> (2 N, width): each unit twice, as RVC does."""
        return units.repeat_interleave(FRAMES_PER_UNIT, dim=0)

    def start_units(self, unit_width: int, context_units: int, layer: int = 0) -> UnitState:
        """Return what a stream of step() calls carries. Raises ModelFileError for units it cannot make (see check_units)."""
        self.check_units(unit_width, layer)
        blocks: list[TransformerLayer] = list(self.layers[: self._depth(unit_width, layer)])  # type: ignore[arg-type]
        weights = [found for block in blocks if (found := block.for_steps()) is not None]
        inputs = Past(self.sizes.position_kernel // 2, 1)
        if blocks and len(weights) == len(blocks):
            return UnitState(unit_width, [TransformerStream(weights, context_units)], inputs)
        return UnitState(unit_width, [AttentionMemory(context_units) for _ in blocks], inputs)

    def step(self, features: Tensor, state: UnitState, final: int, pitch: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(1, N, channels) that follow the state's final rows -> (1, N, unit_width); the first `final` of them become final.

        A final row's keys and values stay what they are now and are seen by the context_units rows behind it, so a step costs
        its own rows only. It has seen the rows of this step behind it, and through its own past more than context_units.
        pitch: not heard.
        """
        x: Tensor = self.projection(self.feature_norm(features))
        known = state.inputs.known
        seen = state.inputs.extend(x, final)
        yield_point()
        x = self._placed(seen, known)
        yield_point()
        first = state.layers[0] if state.layers else None
        if isinstance(first, TransformerStream):
            return self._named(first.step(x[0], final)[None], state.unit_width)
        blocks: list[TransformerLayer] = list(self.layers[: len(state.layers)])  # type: ignore[arg-type]
        memories: list[AttentionMemory] = state.layers  # type: ignore[assignment]
        for block, memory in zip(blocks, memories, strict=True):
            q, k, v = block.project(x)
            x = block.finish(x, q, *memory.extend(k, v, final))
        return self._named(x, state.unit_width)

    def _is_projected(self, unit_width: int) -> bool:
        """Say whether units of a width are final_proj's."""
        return unit_width != self.sizes.width and self.final_proj is not None

    def _depth(self, unit_width: int, layer: int) -> int | None:
        """Return how many layers units of a width come from; None: all. layer 0: the usual one."""
        return layer or (V1_LAYER if self._is_projected(unit_width) else None)

    def _named(self, x: Tensor, unit_width: int) -> Tensor:
        """Return units of a width from the last of its layers."""
        return self.final_proj(x) if self._is_projected(unit_width) else x  # type: ignore[misc]

    def units(self, audio_16k: Tensor, *, unit_width: int, layer: int = 0, pitch: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, T >= 400) at 16 kHz -> (B, floor((T - 400) / 320) + 1, unit_width).

        The model's own width: the last layer (RVC v2). final_proj's width: layer 9, then final_proj (RVC v1). layer: another
        one in their place. pitch: not heard. Raises ModelFileError for units it cannot make.
        """
        self.check_units(unit_width, layer)
        return self._named(self.encode(self.front_end(audio_16k), self._depth(unit_width, layer)), unit_width)
