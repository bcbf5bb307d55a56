"""Before a converter is heard: every path run once, and how many threads its voice needs."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import torch

from rvcd.engine.converter import Converter

THREAD_TRIALS, PROOF_BLOCKS = 12, 3
ONE_CORE_SHARE = 0.55
HOPELESS = 1.5
"""One core that takes so many times what would be enough is not timed again."""


def warm_up(converter: Converter) -> None:
    """Run noise through the converter until every path has run, then forget it."""
    random = np.random.default_rng(0)
    geometry = converter.geometry
    blocks = 3 + -(-geometry.delay_samples // geometry.block_samples)
    if converter.graphs.recorder is not None:
        blocks = converter.steady_blocks
    with converter.graphs.rehearsal():
        for _ in range(blocks):
            noise = (0.1 * random.standard_normal(geometry.block_samples)).astype(np.float32)
            converter.process(noise, converter.applied)
    converter.reset()


def needed_thread_count(converter: Converter) -> int:
    """Measure whether one core is enough for this voice; all of them otherwise.

    Threads wait for each other, and most on a machine that others use too: there two threads took three times as long as one
    for a small voice. A few blocks in time are proof, because others' work only ever adds to a block's.
    """
    cores = os.cpu_count() or 1
    silence_off = replace(converter.applied, gate=-90.0)
    geometry = converter.geometry
    noise = (0.1 * np.random.default_rng(1).standard_normal(geometry.block_samples)).astype(np.float32)
    enough_ms = ONE_CORE_SHARE * geometry.ms(geometry.block_samples)
    spent_ms: list[float] = []
    torch.set_num_threads(1)
    while len(spent_ms) < THREAD_TRIALS and sum(spent <= enough_ms for spent in spent_ms) < PROOF_BLOCKS:
        if len(spent_ms) == 2 and min(spent_ms) > HOPELESS * enough_ms:
            break  # a large voice: its start is not held up by measuring what is plain
        spent_ms.append(converter.process(noise, silence_off).timings.total_ms)
    converter.reset()
    return 1 if sum(spent <= enough_ms for spent in spent_ms) >= PROOF_BLOCKS else cores
