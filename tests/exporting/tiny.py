"""A voice that is small enough to be exported in a few seconds: the exporter's time goes by layers, not by weights."""

from __future__ import annotations

from pathlib import Path

import torch

from rvcd.nets.random_weights import VoiceGains, write_voice
from tests.support import small_config

TINY = {
    "n_layers": 1, "resblock_kernel_sizes": (3,), "resblock_dilation_sizes": ((1, 3),), "upsample_rates": (20, 20),
    "upsample_kernel_sizes": (40, 40), "unit_width": 48,
}  # fmt: skip


def write_tiny_voice(path: Path) -> Path:
    """Write it as an RVC voice of 40 kHz with f0 and two speakers."""
    config = small_config(**TINY)
    write_voice(path, config, VoiceGains(), torch.Generator().manual_seed(5), version="v2", info="random, not trained")
    return path
