"""The encoder that is trained here: rvcd's own class, small, with the heads that teach it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from log_mel import FEATURES
from phones import CLASSES
from torch import Tensor, nn

from rvcd.nets.contentvec import ContentEncoder, EncoderSizes

CHANNELS, WIDTH, LAYERS = 64, 128, 6
SIZES = EncoderSizes(
    conv_channels=(CHANNELS,) * 7,
    conv_kernels=(10, 3, 3, 3, 3, 2, 2),
    conv_strides=(5, 2, 2, 2, 2, 2, 2),
    conv_bias=False,
    conv_norm="group",
    feature_norm=True,
    projected=True,
    width=WIDTH,
    heads=4,
    layers=LAYERS,
    inner_width=4 * WIDTH,
    position_kernel=128,
    position_groups=16,
    final_width=None,
    norm_eps=1e-5,
    normalize=False,
    normalize_eps=1e-5,
)
"""HuBERT base's kernels, strides, norms, positions; an eighth of its channels, a sixth of its width, half of its layers."""


class Trained(nn.Module):
    """The encoder and its heads. Only ctc is of use once it is trained.

    near: the phone of a frame from the front end's features alone; mel: log-mel bands from them; frame: the phone of a frame from
    the last layer; ctc: the phones of the clip. mask: what stands for a row that the transformer must guess (HuBERT's).
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ContentEncoder(SIZES)
        self.mel = nn.Linear(CHANNELS, FEATURES)
        self.near = nn.Sequential(nn.LayerNorm(CHANNELS), _OverTime(CHANNELS, 128, 7), nn.GELU(), nn.Linear(128, CLASSES))
        self.frame = nn.Linear(WIDTH, CLASSES)
        self.ctc = nn.Linear(WIDTH, CLASSES)
        self.mask = nn.Parameter(torch.randn(WIDTH) * 0.1)
        for layer in self.encoder.conv_layers:  # only the first has a norm: without this the signal fades
            nn.init.kaiming_normal_(layer.conv.weight)  # type: ignore[union-attr, arg-type]
        for layer in self.encoder.layers:  # near to passing on what it is given: norms behind each part learn slowly otherwise
            layer.out.weight.data.mul_(0.3)  # type: ignore[union-attr, operator]
            layer.outer.weight.data.mul_(0.3)  # type: ignore[union-attr, operator]
        nn.init.normal_(self.encoder.position.weight, std=(4 / (128 * WIDTH)) ** 0.5)
        nn.init.zeros_(self.encoder.position.bias)  # type: ignore[arg-type]

    def masked_units(self, features: Tensor, hidden: Tensor, dropped: float) -> Tensor:
        """(B, N, CHANNELS), rows to hide (B, N) bool -> (B, N, WIDTH), as encoder.encode makes them."""
        encoder = self.encoder
        x = encoder.projection(encoder.feature_norm(features))
        x = torch.where(hidden[..., None], self.mask, x)
        x = F.dropout(encoder._placed(x, 0), dropped, self.training)
        for layer in encoder.layers:
            x = layer(x)
        return x


class _OverTime(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.transpose(1, 2)).transpose(1, 2)  # type: ignore[no-any-return]


def drop_out(model: Trained, share: float) -> None:
    """Let every layer of the transformer forget some of what it adds while it is trained.

    Not of its inner values: drawing so many numbers would take a fifth of a step.
    """
    for layer in model.encoder.layers:
        for part in (layer.out, layer.outer):
            part.register_forward_hook(lambda part, _, out: F.dropout(out, share, part.training))  # type: ignore[union-attr]


def save_final(path: Path, weights: dict[str, Tensor]) -> None:
    """Write what a measurement needs, float16: sizes, the encoder's weights, the heads'."""
    wanted = {k: v.half() for k, v in weights.items() if k.startswith(("encoder.", "ctc.", "frame."))}
    torch.save({"sizes": asdict(SIZES), "weights": wanted}, path)


@dataclass(frozen=True)
class Finished:
    """A trained encoder, float32, and what tells phones from its units: of a clip (ctc), of a frame."""

    encoder: ContentEncoder
    ctc: nn.Linear
    frame: nn.Linear


def load_final(path: Path) -> Finished:
    """Read what save_final() wrote."""
    saved: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    sizes = {k: tuple(v) if isinstance(v, list) else v for k, v in saved["sizes"].items()}
    parts: dict[str, nn.Module] = {
        "encoder": ContentEncoder(EncoderSizes(**sizes), str(path)),
        "ctc": nn.Linear(sizes["width"], CLASSES),
        "frame": nn.Linear(sizes["width"], CLASSES),
    }
    weights = {k: v.float() for k, v in saved["weights"].items()}
    for name, part in parts.items():
        part.load_state_dict({k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")})
        part.eval().requires_grad_(False)
    return Finished(**parts)  # type: ignore[arg-type]
