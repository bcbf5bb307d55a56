"""The content encoder: HuBERT-base or ContentVec, 16 kHz audio -> units, 50 a second.

One network, one file (Hsu et al. 2021; ContentVec: Qian et al. 2022). Sizes are read from the weights' shapes, and from the
settings beside them where they are. Both circulating layouts load: fairseq's single `.pt` and the Transformers folder.
Shapes: B batch, T samples, N units, W model width.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rvcd.errors import ModelFileError
from rvcd.models.checkpoint import check_finite, load_tensors, outlined_tensors
from rvcd.models.packed import PackedConv1d, PackedGroups, PackedLinear, pack
from rvcd.models.pickle_scan import InertObject
from rvcd.models.torch_file import Outline, open_model_file, read_outline

ENCODER_RATE_HZ = 16_000
UNIT_HOP_SAMPLES = 320
RECEPTIVE_FIELD_SAMPLES = 400
V1_LAYER = 9
"""RVC v1 voices take the output of this layer through final_proj; v2 voices take the last layer."""
CONV_STRIDES = (5, 2, 2, 2, 2, 2, 2)
"""Strides of every published HuBERT; shapes do not tell them."""
HEAD_WIDTH = 64
MAX_LAYERS = 64
MAX_SETTINGS_BYTES = 1 << 20
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


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


@dataclass
class RunningMoments:
    """Mean and variance over time of the channels of a stream that forgets the far past."""

    memory_positions: float
    """Time constant of the forgetting."""
    weight: float = 0.0
    total: Tensor | None = None
    squares: Tensor | None = None

    def update(self, fresh: Tensor) -> tuple[Tensor, Tensor]:
        """Take positions not seen before, (1, C, T); return mean and variance of all, each (1, C, 1) float64."""
        kept = math.exp(-fresh.shape[2] / self.memory_positions)
        total = fresh.sum(dim=2, keepdim=True).double()
        squares = fresh.square().sum(dim=2, keepdim=True).double()
        if self.total is not None and self.squares is not None:
            total, squares = total + kept * self.total, squares + kept * self.squares
        self.weight, self.total, self.squares = kept * self.weight + fresh.shape[2], total, squares
        mean = total / self.weight
        return mean, (squares / self.weight - mean.square()).clamp_min(0.0)


class FrontEndState:
    """What a stream carries through the front end: the moments that offline come from the whole utterance.

    The first layer is normed over time (Hsu et al. 2021), and some models' input too. Norming each step's audio by itself
    would make a unit depend on how the stream is cut.
    """

    def __init__(self, memory_s: float, first_kernel: int, first_stride: int) -> None:
        self.audio = RunningMoments(memory_s * ENCODER_RATE_HZ)
        self.layer = RunningMoments(memory_s * ENCODER_RATE_HZ / first_stride)
        overlap_samples = RECEPTIVE_FIELD_SAMPLES - UNIT_HOP_SAMPLES
        self._overlap_samples = overlap_samples
        self._overlap_positions = (overlap_samples - first_kernel) // first_stride + 1

    @property
    def started(self) -> bool:
        return self.layer.weight > 0

    def norm_audio(self, audio_16k: Tensor, eps: float) -> Tensor:
        """(1, T), its first 80 samples seen before unless it is the first -> zero mean, unit variance."""
        known = self._overlap_samples if self.audio.weight else 0
        mean, variance = self.audio.update(audio_16k[:, None, known:])
        return ((audio_16k - mean[..., 0]) / torch.sqrt(variance[..., 0] + eps)).to(audio_16k.dtype)

    def norm_layer(self, x: Tensor, norm: nn.GroupNorm) -> Tensor:
        """(1, C, positions of the first layer) -> the same, normed."""
        known = self._overlap_positions if self.started else 0
        mean, variance = self.layer.update(x[..., known:])
        scale = norm.weight.double()[:, None] / torch.sqrt(variance + norm.eps)
        offset = norm.bias.double()[:, None] - mean * scale
        return torch.addcmul(offset.to(x.dtype), x, scale.to(x.dtype))


@dataclass
class UnitState:
    """What a stream carries through the transformer: the final rows as later ones see them.

    inputs (1, up to 64, W): their projected features, for the positional convolution. memory: of each layer their keys and
    values, (1, heads, up to context_units, width).
    """

    unit_width: int
    context_units: int
    inputs: Tensor | None = None
    memory: list[tuple[Tensor, Tensor]] = field(default_factory=list)


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
        if self.norm is not None:
            if not self.over_time:
                x = self.norm(x.transpose(1, 2)).transpose(1, 2)
            elif state is None:
                x = self.norm(x)
            else:
                x = state.norm_layer(x, self.norm)  # type: ignore[arg-type]
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

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, W) -> queries, keys and values, each (B, heads, N, W / heads)."""
        B, N, W = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.heads, W // self.heads).permute(2, 0, 3, 1, 4)
        return q, k, v

    def finish(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, N, W), its N queries, and the keys and values they see -> (B, N, W)."""
        x = self.norm_1(x + self.out(_attend(q, k, v).transpose(1, 2).reshape(x.shape)))
        return self.norm_2(x + self.outer(self.activation(self.inner(x))))  # type: ignore[no-any-return]


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention, (B, heads, N, width) each."""
    if q.device.type != "cpu" or q.dtype == torch.float32:
        return F.scaled_dot_product_attention(q, k, v)
    # Three times as fast as torch's flash attention for the few dozen rows of a window, on a CPU in bfloat16.
    scores = q @ k.transpose(2, 3) * (1.0 / math.sqrt(q.shape[3]))
    return scores.float().softmax(dim=-1).to(q.dtype) @ v


class ContentEncoder(nn.Module):
    """Audio -> units. Streaming may call front_end and encode apart and keep features between calls."""

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
        for layer in self.conv_layers[1:]:
            fused = "" if layer.norm is not None else "gelu"
            layer.conv = PackedConv1d(layer.conv, dtype, fused)  # type: ignore[arg-type]
            layer.activation = nn.GELU() if layer.norm is not None else nn.Identity()
        for block in self.layers:
            inner: nn.Linear = block.inner  # type: ignore[assignment]
            block.inner, block.activation = PackedLinear(inner.weight, inner.bias, dtype, "gelu"), nn.Identity()
        pack(self, dtype, skip=("conv_layers",))

    @property
    def unit_widths(self) -> tuple[int, ...]:
        """Widths of the units it can make: the last layer's, and final_proj's where layer 9 and final_proj exist."""
        widths = [self.sizes.width]
        if self.sizes.final_width is not None and self.sizes.layers >= V1_LAYER:
            widths.append(self.sizes.final_width)
        return tuple(dict.fromkeys(widths))

    def check_unit_width(self, unit_width: int) -> None:
        """Raises ModelFileError when it cannot make units of this width."""
        if unit_width not in self.unit_widths:
            offered = " or ".join(map(str, self.unit_widths))
            raise ModelFileError(f"{self.path}: makes units of width {offered}, but the voice takes width {unit_width}")

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

    def start_units(self, unit_width: int, context_units: int) -> UnitState:
        """Return what a stream of step() calls carries. Raises ModelFileError for a width it cannot make."""
        self.check_unit_width(unit_width)
        return UnitState(unit_width, context_units)

    def step(self, features: Tensor, state: UnitState, final: int) -> Tensor:
        """(1, N, channels) that follow the state's final rows -> (1, N, unit_width); the first `final` of them become final.

        A final row's keys and values stay what they are now and are seen by the context_units rows behind it, so a step costs
        its own rows only. It has seen the rows of this step behind it, and through its own past more than context_units.
        """
        blocks: list[TransformerLayer] = list(self.layers[: self._depth(state.unit_width)])  # type: ignore[arg-type]
        x: Tensor = self.projection(self.feature_norm(features))
        seen = x if state.inputs is None else torch.cat((state.inputs, x), dim=1)
        known = seen.shape[1] - x.shape[1]
        x = self._placed(seen, known)
        reach = self.sizes.position_kernel // 2
        state.inputs = seen[:, max(0, known + final - reach) : known + final]
        for i, block in enumerate(blocks):
            q, k, v = block.project(x)
            past = state.memory[i] if i < len(state.memory) else None
            if past is not None:
                k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
            end = k.shape[2] - x.shape[1] + final
            kept = slice(max(0, end - state.context_units), end)
            # Copies: a view would keep every step's whole tensors alive.
            memory = k[:, :, kept].clone(), v[:, :, kept].clone()
            state.memory[i : i + 1] = [memory]
            x = block.finish(x, q, k, v)
        return self._named(x, state.unit_width)

    def _depth(self, unit_width: int) -> int | None:
        """Return how many layers units of a width come from; None: all."""
        return None if unit_width == self.sizes.width or self.final_proj is None else V1_LAYER

    def _named(self, x: Tensor, unit_width: int) -> Tensor:
        """Return units of a width from the last of its layers."""
        return x if self._depth(unit_width) is None else self.final_proj(x)  # type: ignore[misc]

    def units(self, audio_16k: Tensor, *, unit_width: int) -> Tensor:
        """(B, T >= 400) at 16 kHz -> (B, floor((T - 400) / 320) + 1, unit_width).

        The model's own width: the last layer (RVC v2). final_proj's width: layer 9, then final_proj (RVC v1). Raises
        ModelFileError for another width.
        """
        self.check_unit_width(unit_width)
        return self._named(self.encode(self.front_end(audio_16k), self._depth(unit_width)), unit_width)


def load_content_encoder(path: Path | str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> ContentEncoder:
    """Load a fairseq `.pt` file, a Transformers folder, or a weight file inside one; in eval mode, without gradients.

    Raises ModelFileError when the file is damaged, is another network, or has sizes that cannot work.
    """
    path = Path(path)
    weights_path = path
    if path.is_dir():
        found = [path / name for name in WEIGHT_FILES if (path / name).is_file()]
        if not found:
            raise ModelFileError(f"{path}: holds no {' and no '.join(WEIGHT_FILES)}; use a HuBERT's Transformers folder")
        weights_path = found[0]
    settings: dict[str, Any]
    if weights_path.suffix == ".safetensors":
        tensors, settings = load_tensors(weights_path), _transformers_settings(weights_path.parent)
    else:
        outline = read_outline(weights_path)
        if isinstance(outline.root, dict) and isinstance(outline.root.get("model"), dict):
            tensors, settings = outlined_tensors(outline, "model"), _fairseq_settings(outline)
        else:
            tensors, settings = outlined_tensors(outline), _transformers_settings(weights_path.parent)
    reader = _Reader(weights_path, _upstream_names(tensors), settings)
    sizes = reader.sizes()
    with torch.device("meta"):
        model = ContentEncoder(sizes, str(path))
    state = {key: value.to(dtype=dtype).contiguous() for key, value in reader.state().items()}
    try:
        model.load_state_dict(check_finite(weights_path, state), strict=True, assign=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()[:160]
        raise ModelFileError(f"{weights_path}: its tensors do not fit together ({reason})") from None
    return model.to(device).eval().requires_grad_(False)


_FAIRSEQ_NAMES: tuple[tuple[str, str], ...] = (
    (r"feature_extractor\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"feature_extractor\.conv_layers\.(\d+)\.2\.(?:1\.)?", r"feature_extractor.conv_layers.\1.layer_norm."),
    (r"layer_norm\.", "feature_projection.layer_norm."),
    (r"post_extract_proj\.", "feature_projection.projection."),
    (r"encoder\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
    (r"encoder\.layers\.(\d+)\.self_attn\.", r"encoder.layers.\1.attention."),
    (r"encoder\.layers\.(\d+)\.self_attn_layer_norm\.", r"encoder.layers.\1.layer_norm."),
    (r"encoder\.layers\.(\d+)\.fc1\.", r"encoder.layers.\1.feed_forward.intermediate_dense."),
    (r"encoder\.layers\.(\d+)\.fc2\.", r"encoder.layers.\1.feed_forward.output_dense."),
)
"""fairseq's names (left, at the start of a key) in Transformers' words."""


def _upstream_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under Transformers' names, weight norm as weight_g and weight_v."""
    named: dict[str, Tensor] = {}
    for original, value in tensors.items():
        key = original.removeprefix("hubert.")
        for pattern, replacement in _FAIRSEQ_NAMES:
            key, changes = re.subn("^" + pattern, replacement, key)
            if changes:
                break
        key = key.replace("parametrizations.weight.original0", "weight_g")
        key = key.replace("parametrizations.weight.original1", "weight_v")
        named[key] = value
    return named


@dataclass(frozen=True)
class _Reader:
    """Finds one encoder's sizes and weights among named tensors."""

    path: Path
    tensors: Mapping[str, Tensor]
    settings: Mapping[str, Any]

    def tensor(self, key: str, dimensions: int) -> Tensor:
        value = self.tensors.get(key)
        if value is None:
            raise ModelFileError(f"{self.path}: is not a HuBERT content encoder: it has no {key}; use hubert_base.pt or its like")
        if value.dim() != dimensions or not value.numel() or not value.is_floating_point():
            raise ModelFileError(f"{self.path}: is not a HuBERT content encoder: its {key} has the shape {tuple(value.shape)}")
        return value.float()

    def refuse(self, reason: str) -> ModelFileError:
        return ModelFileError(f"{self.path}: {reason}")

    def count(self, pattern: str) -> int:
        """Return how many numbered parts there are, from 0 on."""
        n = 0
        while n <= MAX_LAYERS and pattern.format(n) in self.tensors:
            n += 1
        if n > MAX_LAYERS:
            raise self.refuse(f"has more than {MAX_LAYERS} layers")
        return n

    def setting(self, name: str, default: Any, kinds: type | tuple[type, ...]) -> Any:
        value = self.settings.get(name, default)
        if not isinstance(value, kinds):
            raise self.refuse(f"its settings have {name} = {str(value)[:40]!r}")
        return value

    def position_weight(self) -> Tensor:
        """The positional convolution's weight (W, W / groups, kernel), weight norm folded: g * v / |v|."""
        stem = "encoder.pos_conv_embed.conv.weight"
        if stem in self.tensors:
            return self.tensor(stem, 3)
        size, direction = self.tensor(f"{stem}_g", 3), self.tensor(f"{stem}_v", 3)
        # The norm runs over the dimensions that the size does not have: one size for each tap here, dim=2 in torch's words.
        dims = tuple(i for i in range(3) if size.shape[i] == 1)
        if any(size.shape[i] not in (1, direction.shape[i]) for i in range(3)):
            raise self.refuse("is not a HuBERT content encoder: its positional convolution does not fit its weight norm")
        norm: Tensor = torch.linalg.vector_norm(direction, dim=dims, keepdim=True).clamp_min(1e-12)
        return size * direction / norm

    def sizes(self) -> EncoderSizes:
        front, layers = "feature_extractor.conv_layers.{}.conv.weight", self.count("encoder.layers.{}.attention.q_proj.weight")
        convs = [self.tensor(front.format(i), 3) for i in range(max(1, self.count(front)))]
        kernels = tuple(conv.shape[2] for conv in convs)
        strides = self.strides(len(convs))
        reach = 1 + sum((kernel - 1) * math.prod(strides[:i]) for i, kernel in enumerate(kernels))
        if (math.prod(strides), reach) != (UNIT_HOP_SAMPLES, RECEPTIVE_FIELD_SAMPLES):
            raise self.refuse(
                f"makes a unit of {reach} samples every {math.prod(strides)}; "
                f"RVC takes {RECEPTIVE_FIELD_SAMPLES} every {UNIT_HOP_SAMPLES}"
            )
        if self.setting("do_stable_layer_norm", False, bool) or self.setting("conv_pos_batch_norm", False, bool):
            raise self.refuse("is a HuBERT with pre-norm layers or a batch-normed position, not of the base kind that RVC uses")
        for name in ("hidden_act", "feat_extract_activation"):
            if self.setting(name, "gelu", str) != "gelu":
                raise self.refuse(f"has the activation {self.settings[name][:40]!r}; only gelu is supported")
        position = self.position_weight()
        width = self.tensor("encoder.layer_norm.weight", 1).shape[0]
        if not layers or position.shape[0] != width or width % position.shape[1]:
            raise self.refuse("is not a HuBERT content encoder: its layers do not fit together")
        final = self.tensors.get("final_proj.weight")
        eps = self.setting("layer_norm_eps", 1e-5, (int, float))
        if not 0 < eps < 1:
            raise self.refuse(f"its settings have layer_norm_eps = {eps}")
        return EncoderSizes(
            conv_channels=tuple(conv.shape[0] for conv in convs),
            conv_kernels=kernels,
            conv_strides=strides,
            conv_bias="feature_extractor.conv_layers.0.conv.bias" in self.tensors,
            conv_norm="layer" if "feature_extractor.conv_layers.1.layer_norm.weight" in self.tensors else "group",
            feature_norm="feature_projection.layer_norm.weight" in self.tensors,
            projected="feature_projection.projection.weight" in self.tensors,
            width=width,
            heads=self.heads(width),
            layers=layers,
            inner_width=self.tensor("encoder.layers.0.feed_forward.intermediate_dense.weight", 2).shape[0],
            position_kernel=position.shape[2],
            position_groups=width // position.shape[1],
            final_width=self.tensor("final_proj.weight", 2).shape[0] if final is not None else None,
            norm_eps=float(eps),
            normalize=self.setting("do_normalize", False, bool),
            normalize_eps=self.setting("normalize_eps", 1e-7, float),
        )

    def strides(self, convs: int) -> tuple[int, ...]:
        strides = self.setting("conv_stride", CONV_STRIDES, (list, tuple))
        if len(strides) != convs or any(type(n) is not int or not 0 < n <= UNIT_HOP_SAMPLES for n in strides):
            raise self.refuse(f"has {convs} convolutions, for which no strides are known; it needs its config.json beside it")
        return tuple(strides)

    def heads(self, width: int) -> int:
        """From the settings; without them width / 64, the rule of every published HuBERT, or the next smaller divisor."""
        guess = next(n for n in range(max(1, width // HEAD_WIDTH), 0, -1) if width % n == 0)
        heads = self.setting("num_attention_heads", guess, int)
        if heads < 1 or width % heads:
            raise self.refuse(f"has {heads} attention heads, which do not divide its width of {width}")
        return int(heads)

    def state(self) -> dict[str, Tensor]:
        """Return the weights under ContentEncoder's names, float32."""
        state: dict[str, Tensor] = {"position.weight": self.position_weight()}

        def take(ours: str, theirs: str, dimensions: int, required: bool = True) -> None:
            if required or f"{theirs}.weight" in self.tensors:
                state[f"{ours}.weight"] = self.tensor(f"{theirs}.weight", dimensions)
            if f"{theirs}.bias" in self.tensors:
                state[f"{ours}.bias"] = self.tensor(f"{theirs}.bias", 1)

        for i in range(self.count("feature_extractor.conv_layers.{}.conv.weight")):
            take(f"conv_layers.{i}.conv", f"feature_extractor.conv_layers.{i}.conv", 3)
            take(f"conv_layers.{i}.norm", f"feature_extractor.conv_layers.{i}.layer_norm", 1, required=False)
        take("feature_norm", "feature_projection.layer_norm", 1, required=False)
        take("projection", "feature_projection.projection", 2, required=False)
        state["position.bias"] = self.tensor("encoder.pos_conv_embed.conv.bias", 1)
        take("norm", "encoder.layer_norm", 1)
        for i in range(self.count("encoder.layers.{}.attention.q_proj.weight")):
            stem = f"encoder.layers.{i}"
            names = [f"{stem}.attention.{name}_proj" for name in "qkv"]
            state[f"layers.{i}.qkv.weight"] = self.stacked([f"{name}.weight" for name in names], 2)
            state[f"layers.{i}.qkv.bias"] = self.stacked([f"{name}.bias" for name in names], 1)
            take(f"layers.{i}.out", f"{stem}.attention.out_proj", 2)
            take(f"layers.{i}.norm_1", f"{stem}.layer_norm", 1)
            take(f"layers.{i}.inner", f"{stem}.feed_forward.intermediate_dense", 2)
            take(f"layers.{i}.outer", f"{stem}.feed_forward.output_dense", 2)
            take(f"layers.{i}.norm_2", f"{stem}.final_layer_norm", 1)
        take("final_proj", "final_proj", 2, required=False)
        return state

    def stacked(self, keys: Sequence[str], dimensions: int) -> Tensor:
        parts = [self.tensor(key, dimensions) for key in keys]
        if len({tuple(part.shape) for part in parts}) != 1:
            raise self.refuse(f"is not a HuBERT content encoder: {keys[0]} and its like have different shapes")
        return torch.cat(parts)


def _transformers_settings(folder: Path) -> dict[str, Any]:
    """Read config.json and preprocessor_config.json, each optional; a folder of a published model has both."""
    settings = _read_json(folder / "config.json")
    settings["do_normalize"] = _read_json(folder / "preprocessor_config.json").get("do_normalize", False)
    settings["normalize_eps"] = 1e-7
    return {key: value for key, value in settings.items() if value is not None}


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    with open_model_file(path) as (file, _):
        text = file.read(MAX_SETTINGS_BYTES)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelFileError(f"{path}: is not whole JSON; download or copy it again") from None
    if not isinstance(content, dict):
        raise ModelFileError(f"{path}: is not a JSON object; download or copy it again")
    return content


def _fairseq_settings(outline: Outline) -> dict[str, Any]:
    """Read what the file says about its network: `cfg` of newer checkpoints, `args` of older ones; all optional."""
    cfg, args = _fields(outline.root.get("cfg")), _fields(outline.root.get("args"))
    model, task = _fields(cfg.get("model")) or args, _fields(cfg.get("task")) or args
    settings: dict[str, Any] = {"normalize_eps": 1e-5}
    for theirs, ours in (("encoder_attention_heads", "num_attention_heads"), ("layer_norm_first", "do_stable_layer_norm"),
                         ("activation_fn", "hidden_act")):  # fmt: skip
        value = _plain(model.get(theirs))
        if value is not None:
            settings[ours] = value
    normalize = _plain(task.get("normalize"))
    if isinstance(normalize, bool):
        settings["do_normalize"] = normalize
    strides = _conv_strides(_plain(model.get("conv_feature_layers")))
    if strides:
        settings["conv_stride"] = strides
    return settings


def _fields(value: Any) -> dict[Any, Any]:
    """Return the named values of a dict, a Namespace or an omegaconf node."""
    if isinstance(value, InertObject):
        content = value.state.get("_content")
        return content if isinstance(content, dict) else value.state
    return value if isinstance(value, dict) else {}


def _plain(value: Any) -> Any:
    return value.state.get("_val") if isinstance(value, InertObject) else value


def _conv_strides(text: Any) -> tuple[int, ...]:
    """Read strides from fairseq's '[(512,10,5)] + [(512,3,2)] * 4', a Python expression that is matched, never evaluated."""
    if not isinstance(text, str) or len(text) > 1000:
        return ()
    strides: list[int] = []
    for stride, times in re.findall(r"\(\s*\d+\s*,\s*\d+\s*,\s*(\d{1,3})\s*\)\s*,?\s*\]?(?:\s*\*\s*(\d{1,2}))?", text):
        strides += [int(stride)] * (int(times) if times else 1)
    return tuple(strides)
