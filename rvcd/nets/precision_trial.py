"""Whether bfloat16 by torch's operators or float32 by kernels of our own is faster here: measured once on a machine.

bfloat16 instructions multiply two pairs where float32 multiplies one, but a block's few rows are bound by the weights, which have
16 bits either way, and by what lies between the products. Which is faster therefore depends on more than the instructions. So a
content encoder of the published sizes, with random weights and two of its layers, computes some blocks in both, on one thread.
"""

from __future__ import annotations

import time

import torch

from rvcd.nets.contentvec import ContentEncoder, EncoderSizes
from rvcd.nets.contentvec_state import RECEPTIVE_FIELD_SAMPLES, UNIT_HOP_SAMPLES
from rvcd.nets.way_file import WayFile
from rvcd.yielding import yield_point

LAYERS, TRIED_LAYERS = 12, 2
SIZES = EncoderSizes(
    conv_channels=(512,) * 7, conv_kernels=(10, 3, 3, 3, 3, 2, 2), conv_strides=(5, 2, 2, 2, 2, 2, 2), conv_bias=False,
    conv_norm="group", feature_norm=True, projected=True, width=768, heads=12, layers=TRIED_LAYERS, inner_width=3072,
    position_kernel=128, position_groups=16, final_width=None, norm_eps=1e-5, normalize=False, normalize_eps=1e-5,
)  # fmt: skip
LOOKAHEAD_UNITS, CONTEXT_UNITS = 5, 50
LEAST_UNITS, MOST_UNITS = 2, 20
ROUNDS = 10
NEARLY = 1.1
"""float32 may take so many times bfloat16's time, for what it is more exact (decision 42)."""
NUMBERS = {torch.float32: 32, torch.bfloat16: 16}


def faster_precision(block_units: int, file: WayFile | None) -> torch.dtype:
    """Return torch.float32 or torch.bfloat16 for blocks of so many units.

    For a processor that has instructions for both. file: where the choice is kept; None: nowhere.
    """
    units = min(max(block_units, LEAST_UNITS), MOST_UNITS)
    name = f"encoder x{units}"
    known = None if file is None else file.get(name)
    for dtype, number in NUMBERS.items():
        if known == number:
            return dtype
    spent = tried(units)
    chosen = torch.float32 if spent[torch.float32] <= NEARLY * spent[torch.bfloat16] else torch.bfloat16
    if file is not None:
        file.put(name, NUMBERS[chosen])
    return chosen


def tried(units: int) -> dict[torch.dtype, float]:
    """Return the seconds that a block of so many units takes in each: the processor's time of this thread, the shortest of some.

    They take turns, so that what other programs do to the caches and to memory meets both.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            trials = {dtype: _Trial(dtype, units) for dtype in NUMBERS}
            for _ in range(ROUNDS):
                for trial in trials.values():
                    yield_point()
                    trial.run()
    finally:
        torch.set_num_threads(threads)
    return {dtype: trial.front_end_s + trial.step_s * LAYERS / TRIED_LAYERS for dtype, trial in trials.items()}


class _Trial:
    """An encoder in one precision. front_end_s, step_s: the shortest so far."""

    def __init__(self, dtype: torch.dtype, units: int) -> None:
        self.encoder, self.units = _encoder(), units
        self.encoder.pack(dtype)
        self.front = self.encoder.start_front_end(10.0)
        self.state = self.encoder.start_units(SIZES.width, CONTEXT_UNITS)
        self.encoder.step(_rows(CONTEXT_UNITS), self.state, CONTEXT_UNITS)
        self.audio = torch.linspace(-1, 1, (units - 1) * UNIT_HOP_SAMPLES + RECEPTIVE_FIELD_SAMPLES)[None]
        self.rows = _rows(units + LOOKAHEAD_UNITS)
        self.front_end_s = self.step_s = float("inf")

    def run(self) -> None:
        started_s = time.thread_time()
        self.encoder.front_end(self.audio, self.front)
        between_s = time.thread_time()
        self.encoder.step(self.rows, self.state, self.units)
        ended_s = time.thread_time()
        self.front_end_s = min(self.front_end_s, between_s - started_s)
        self.step_s = min(self.step_s, ended_s - between_s)


def _rows(count: int) -> torch.Tensor:
    channels = SIZES.conv_channels[-1]
    return torch.linspace(-1, 1, count * channels).view(1, count, channels)


def _encoder() -> ContentEncoder:
    """Return one with weights of a size that keeps its numbers ordinary."""
    with torch.device("meta"):
        encoder = ContentEncoder(SIZES)
    encoder = encoder.to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in encoder.parameters():
        yield_point()
        if parameter.dim() > 1:
            parameter.normal_(0.0, parameter[0].numel() ** -0.5, generator=generator)
        else:
            parameter.zero_()
    return encoder
