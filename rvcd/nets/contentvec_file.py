"""Loads a content encoder: fairseq's single `.pt` and the Transformers folder. Nothing in a file runs.

Sizes are read from the weights' shapes, and from the settings beside them where they are.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rvcd.errors import ModelFileError
from rvcd.formats.checkpoint import check_finite, load_tensors, outlined_tensors
from rvcd.formats.pickle_scan import InertObject
from rvcd.formats.torch_file import Outline, open_model_file, read_outline
from rvcd.nets.contentvec import ContentEncoder, EncoderSizes
from rvcd.nets.contentvec_state import RECEPTIVE_FIELD_SAMPLES, UNIT_HOP_SAMPLES
from rvcd.nets.envelope_encoder import EnvelopeEncoder
from rvcd.nets.envelope_encoder_file import build_envelope_encoder, is_envelope_encoder
from rvcd.yielding import yield_point

CONV_STRIDES = (5, 2, 2, 2, 2, 2, 2)
"""Strides of every published HuBERT; shapes do not tell them."""
HEAD_WIDTH = 64
MAX_LAYERS = 64
MAX_SETTINGS_BYTES = 1 << 20
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def load_content_encoder(path: Path | str, device: str = "cpu") -> ContentEncoder | EnvelopeEncoder:
    """Load a fairseq `.pt` file, a Transformers folder, or a weight file inside one; float32, in eval mode, without gradients.

    A weight file may also be an envelope encoder's.

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
        tensors = load_tensors(weights_path)
        if is_envelope_encoder(tensors):
            return build_envelope_encoder(weights_path, tensors, device=device)
        settings = _transformers_settings(weights_path.parent)
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
    state = {key: value.contiguous() for key, value in reader.state().items()}
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
        yield_point()
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

    def position_shape(self) -> tuple[int, int, int]:
        """The shape (W, W / groups, kernel) of the positional convolution's weight."""
        stem = "encoder.pos_conv_embed.conv.weight"
        width, inputs, kernel = self.tensor(stem if stem in self.tensors else f"{stem}_v", 3).shape
        return width, inputs, kernel

    def position_weight(self) -> Tensor:
        """The positional convolution's weight, of position_shape, weight norm folded: g * v / |v|."""
        stem = "encoder.pos_conv_embed.conv.weight"
        if stem in self.tensors:
            return self.tensor(stem, 3)
        size, direction = self.tensor(f"{stem}_g", 3), self.tensor(f"{stem}_v", 3)
        # The norm runs over the dimensions that the size does not have: one size for each tap here, dim=2 in torch's words.
        dims = tuple(i for i in range(3) if size.shape[i] == 1)
        if any(size.shape[i] not in (1, direction.shape[i]) for i in range(3)):
            raise self.refuse("is not a HuBERT content encoder: its positional convolution does not fit its weight norm")
        norm: Tensor = torch.linalg.vector_norm(direction, dim=dims, keepdim=True).clamp_min(1e-12)
        yield_point()
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
        position_width, position_inputs, position_kernel = self.position_shape()
        width = self.tensor("encoder.layer_norm.weight", 1).shape[0]
        if not layers or position_width != width or width % position_inputs:
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
            position_kernel=position_kernel,
            position_groups=width // position_inputs,
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
