"""Full-size models with seeded random weights, in the real file formats: what `rvcd bench` measures where there are no files.

HuBERT-base and an RVC v2 voice with f0 at their published sizes, and an index of 20,000 vectors. They compute what trained
networks compute, at the speed of trained networks; what they say is a buzz.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rvcd.errors import ModelFileError, ParamError
from rvcd.formats.voice_config import SynthesizerConfig
from rvcd.nets.random_rmvpe import PUBLISHED, write_rmvpe
from rvcd.nets.random_weights import EncoderShape, VoiceGains, write_encoder, write_index, write_together, write_voice

FOLDER_VERSION = 1
"""Raise it when the files' content changes."""
VOICE_NAME = "synthetic"
UNIT_WIDTH_V2, UNIT_WIDTH_V1 = 768, 256
INDEX_VECTORS = 20_000
SPEAKERS = 109
"""Rows of the speakers' table in every published RVC voice."""

_UPSAMPLING = {
    32000: (513, (10, 8, 2, 2), (20, 16, 4, 4)),
    40000: (1025, (10, 10, 2, 2), (16, 16, 4, 4)),
    48000: (1025, (12, 10, 2, 2), (24, 20, 4, 4)),
}
"""Spectrum channels, upsampling rates and kernels of RVC v2 by sample rate."""
RATES_HZ = tuple(_UPSAMPLING)

ENCODER = EncoderShape(
    width=UNIT_WIDTH_V2, heads=12, layers=12, inner_width=3072, conv_width=512, final_width=UNIT_WIDTH_V1,
    score=1.15, alike=0.9, out=0.7, position_std=0.0128, centred=True,
)  # fmt: skip
"""Attention, feed-forward and convolutions each add about half of what they get, as in a trained network."""
GAINS = VoiceGains(
    phone=0.1, alike=0.8, attention_out=0.5, prior=0.7, log_std=-2.0, condition=0.3, wave=1.0, shift=1.0, pre=0.7, upsample=1.0,
    upsample_channels=None, tap=1.4, last_tap=0.5, residual=1.2, through=0.0, centred=True, smooth=True, level=0.12,
)  # fmt: skip
"""Every residual pair adds about half of what it gets, latents and pitch both shape the output, which peaks below 0.9."""


@dataclass(frozen=True)
class SyntheticModels:
    """encoder: a Transformers folder. voice: a .pth file. index: an .index file."""

    encoder: Path
    voice: Path
    index: Path

    @classmethod
    def in_folder(cls, folder: Path) -> SyntheticModels:
        lists = index_lists(INDEX_VECTORS)
        index = f"added_IVF{lists}_Flat_nprobe_1_{VOICE_NAME}_v2.index"
        return cls(folder / "hubert_base", folder / f"{VOICE_NAME}.pth", folder / index)

    def complete(self) -> bool:
        """Say whether every file is there."""
        files = (self.encoder / "model.safetensors", self.encoder / "config.json", self.voice, self.index)
        return all(path.exists() for path in files)


def index_lists(vectors: int) -> int:
    """Return how many lists RVC gives an index of so many vectors."""
    return min(int(16 * vectors**0.5), vectors // 39)


def write_synthetic(folder: Path, *, rate_hz: int = 40000, seed: int = 0) -> SyntheticModels:
    """Write the models (0.5 GB) below folder unless they are there already, and return where they are.

    rate_hz: of the voice, 32000, 40000 or 48000. Raises ParamError for another rate, ModelFileError when the folder cannot be
    written or the disk is full.
    """
    if rate_hz not in _UPSAMPLING:
        raise ParamError(f"there is no RVC v2 voice of {rate_hz} Hz; the rate is one of {', '.join(map(str, RATES_HZ))}")
    target = folder / f"synthetic-{FOLDER_VERSION}-{rate_hz // 1000}k-seed{seed}"
    models = SyntheticModels.in_folder(target)
    if not models.complete():
        write_together(
            target,
            lambda scratch: _write_all(SyntheticModels.in_folder(scratch), rate_hz, seed),
            models.complete,
            what="the synthetic models",
            fix="make the folder writable and free 600 MB, or use another one",
        )
    return models


def write_synthetic_rmvpe(folder: Path, *, seed: int = 0) -> Path:
    """Write an RMVPE of the published size (181 MB) below folder, and return its path. Raises ModelFileError."""
    path = folder / f"rmvpe-seed{seed}.pt"
    try:
        write_rmvpe(path, PUBLISHED, torch.Generator().manual_seed(seed))
    except (OSError, RuntimeError) as error:  # torch's own writer says a full disk as a RuntimeError
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise ModelFileError(f"{path}: cannot be written ({reason}); make the folder writable and free 200 MB") from None
    return path


def _write_all(models: SyntheticModels, rate_hz: int, seed: int) -> None:
    # A generator for each file: the encoder of a seed is the same beside a voice of any rate.
    encoder, voice, index = (torch.Generator().manual_seed(3 * seed + i) for i in range(3))
    write_encoder(models.encoder, ENCODER, encoder)
    write_voice(models.voice, _voice_config(rate_hz), GAINS, voice, version="v2", info="synthetic, not trained")
    _write_index(models.index, index)


def _voice_config(rate_hz: int) -> SynthesizerConfig:
    spec_channels, rates, kernels = _UPSAMPLING[rate_hz]
    return SynthesizerConfig(
        spec_channels=spec_channels, segment_size=32, inter_channels=192, hidden_channels=192, filter_channels=768, n_heads=2,
        n_layers=6, kernel_size=3, p_dropout=0.0, resblock="1", resblock_kernel_sizes=(3, 7, 11),
        resblock_dilation_sizes=((1, 3, 5),) * 3, upsample_rates=rates, upsample_initial_channel=512,
        upsample_kernel_sizes=kernels, n_speakers=SPEAKERS, gin_channels=256, rate_hz=rate_hz, unit_width=UNIT_WIDTH_V2,
        has_f0=True,
    )  # fmt: skip


def _write_index(path: Path, random: torch.Generator) -> None:
    """Vectors in clusters, as units are, around centroids known beforehand: lists of even length without k-means."""
    lists = index_lists(INDEX_VECTORS)
    centroids = torch.randn(lists, UNIT_WIDTH_V2, generator=random).mul_(0.8)
    vectors = torch.randn(INDEX_VECTORS, UNIT_WIDTH_V2, generator=random).mul_(0.6)
    vectors += centroids[torch.arange(INDEX_VECTORS) % lists]
    write_index(path, np.asarray(vectors), lists, np.asarray(centroids))
