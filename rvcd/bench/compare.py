"""Ours and upstream's way side by side: one process, the same files, the same speech, block against block. Holds torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from rvcd.bench.measure import MEASURED, blocks_of, choose_threads, environment_of, load, settle, speech, stages_of
from rvcd.bench.tasks import MIN_BLOCKS, WARM_UP_S, Compared, MeasureTask, Way
from rvcd.engine.stopwatch import Timings
from rvcd.worker.process import raise_priority
from rvcd.worker.warm_up import warm_up

if TYPE_CHECKING:
    from rvcd.bench.measure import Reporter


def compare(task: MeasureTask, reporter: Reporter) -> Compared:
    """Convert `task.seconds` of audio both ways. Each block goes to the way that is behind, so both meet the same machine."""
    from rvcd.bench.recompute import load_recompute

    reporter.progress(0.0, "loading")
    torch.set_flush_denormal(True)
    raise_priority()
    threads = task.setup.models.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    theirs = load_recompute(task.setup, index_rate=MEASURED.index_rate)
    loader, ours = load(task.setup)
    warm_up(ours)
    choose_threads(task.setup, ours)
    environment = environment_of(loader)
    settle()

    rate_hz, geometry = task.setup.geometry.rate_hz, ours.geometry
    audio = speech(task.audio, rate_hz)
    our_blocks, their_blocks = blocks_of(audio, geometry.block_samples), blocks_of(audio, theirs.block_samples)
    our_timings: list[Timings] = []
    their_timings: list[Timings] = []
    ours_at = theirs_at = 0
    settling = round(WARM_UP_S * rate_hz) + theirs.block_samples + geometry.delay_samples
    end = settling + max(round(task.seconds * rate_hz), MIN_BLOCKS * theirs.block_samples)
    while theirs_at < end:
        if ours_at <= theirs_at:
            torch.set_num_threads(environment.threads)
            spent = ours.process(next(our_blocks), MEASURED).timings
            if ours_at >= settling:
                our_timings.append(spent)
            ours_at += geometry.block_samples
        else:
            torch.set_num_threads(threads)
            _, spent = theirs.process(next(their_blocks))
            if theirs_at >= settling:
                their_timings.append(spent)
            theirs_at += theirs.block_samples
        reporter.progress(theirs_at / end, "converting both ways")
    ours_way = Way(geometry.ms(geometry.block_samples), environment.threads, environment.precision, stages_of(our_timings))
    return Compared(environment, ours_way, Way(theirs.block_ms, threads, "fp32", stages_of(their_timings)))
