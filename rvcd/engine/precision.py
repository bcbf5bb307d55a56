"""Which numbers the networks compute with.

bf16: convolutions and matrix products in bfloat16, everything between them (residual paths, norms, softmax) and the decoder's
last stage in float32. fp16: the same in float16, for GPUs that multiply no bfloat16 (NVIDIA's before Ampere); processors are slow
with it. fp32: all activations and sums in float32; where kernels of our own run, weights of products have 16 bits
(rvcd.nets.narrow_weights), and units stay within 75 dB of those of plain float32.
"""

from __future__ import annotations

import torch

from rvcd.errors import ParamError
from rvcd.nets.packed import worth_packing
from rvcd.nets.precision_trial import faster_precision
from rvcd.nets.way_file import WayFile
from rvcd.protocol import PRECISIONS


def choose_precision(name: str, device: str, block_units: int = 0, file: WayFile | None = None) -> torch.dtype:
    """Return torch.float32, torch.bfloat16 or torch.float16 for engine.precision.

    auto: bf16 where the hardware multiplies it; on a processor that has kernels of our own too, float32 where these are about as
    fast, which is measured for blocks of block_units and kept in a file. Without a file nothing is measured, and it is float32.

    bf16 may be demanded anywhere: without such hardware it is slow, not wrong. Raises ParamError for another name, and for fp16
    without a GPU.
    """
    if name not in PRECISIONS:
        raise ParamError(f"engine.precision = '{name}' is unknown; it takes {', '.join(PRECISIONS)}")
    if name == "fp16":
        if torch.device(device).type == "cpu":
            raise ParamError("engine.precision = 'fp16' needs a GPU; on a processor take auto, bf16 or fp32")
        return torch.float16
    if name == "fp32" or (name == "auto" and not multiplies_bf16(device)):
        return torch.float32
    if name == "auto" and worth_packing(torch.float32, device):
        return torch.float32 if file is None else faster_precision(block_units, file)
    return torch.bfloat16


def choose_decoder_precision(name: str, device: str) -> torch.dtype:
    """Return what the decoder's residual blocks may be rounded to for engine.precision.

    auto: bf16 where the hardware multiplies it, which is then one of the ways that rvcd.nets.conv_ways chooses among.
    """
    if name == "auto":
        return torch.bfloat16 if multiplies_bf16(device) else torch.float32
    return choose_precision(name, device)


def multiplies_bf16(device: str) -> bool:
    """Say whether a device ('cpu', 'cuda', 'cuda:1') has instructions for products of bfloat16."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
