"""Small models in the real file formats, with seeded random weights, so that the whole path runs with nothing to download.

They are not a voice: they buzz at the pitch of what you say. Written once into a cache folder and loaded like any other files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from rvcd.formats.voice_config import SynthesizerConfig
from rvcd.nets.random_weights import EncoderShape, VoiceGains, write_encoder, write_index, write_together, write_voice
from rvcd.voices.test_weight_paths import UNIT_WIDTH_V1, UNIT_WIDTH_V2, TestWeightPaths

ENCODER = EncoderShape(
    width=UNIT_WIDTH_V2, heads=4, layers=9, inner_width=2 * UNIT_WIDTH_V2, conv_width=32, final_width=UNIT_WIDTH_V1
)
INDEX_VECTORS, INDEX_LISTS = 400, 8


def ensure_test_weights(cache: Path) -> TestWeightPaths:
    """Write the files below cache unless they are all there, and return where they are.

    Raises ModelFileError when the folder cannot be written or the disk is full.
    """
    paths = TestWeightPaths.below(cache)

    def complete() -> bool:
        return all(path.exists() for path in paths.files())

    if not complete():
        write_together(
            paths.folder,
            lambda scratch: _write_all(TestWeightPaths.in_folder(scratch)),
            complete,
            what="the test weights",
            fix="make the folder writable and free 5 MB, or set XDG_CACHE_HOME to another one",
        )
    return paths


def _write_all(paths: TestWeightPaths) -> None:
    random = torch.Generator().manual_seed(20261122)
    write_encoder(paths.encoder, ENCODER, random)
    for path, version, config in (
        (paths.voice_v2, "v2", _voice(UNIT_WIDTH_V2, (10, 10, 2, 2), (16, 16, 4, 4), 40000)),
        (paths.voice_v1, "v1", _voice(UNIT_WIDTH_V1, (10, 6, 2, 2, 2), (16, 16, 4, 4, 4), 48000)),
    ):
        write_voice(path, config, VoiceGains(), random, version=version, info="test weights, not trained")
    # Random directions, of about the size units have after a layer norm.
    vectors = np.random.default_rng(7).standard_normal((INDEX_VECTORS, UNIT_WIDTH_V2)).astype(np.float32)
    write_index(paths.index_v2, vectors, INDEX_LISTS)


def _voice(unit_width: int, upsample_rates: tuple[int, ...], kernels: tuple[int, ...], rate_hz: int) -> SynthesizerConfig:
    """Fewer and smaller residual blocks than a real voice (3, 7, 11 with 1, 3, 5): it must run beside a game on any machine."""
    return SynthesizerConfig(
        spec_channels=1025, segment_size=32, inter_channels=32, hidden_channels=32, filter_channels=64, n_heads=2, n_layers=2,
        kernel_size=3, p_dropout=0.0, resblock="1", resblock_kernel_sizes=(3, 7), resblock_dilation_sizes=((1, 3), (1, 3)),
        upsample_rates=upsample_rates, upsample_initial_channel=64, upsample_kernel_sizes=kernels, n_speakers=2,
        gin_channels=16, rate_hz=rate_hz, unit_width=unit_width, has_f0=True,
    )  # fmt: skip
