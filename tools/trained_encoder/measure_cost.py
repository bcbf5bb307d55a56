"""Measure what a block costs an encoder of HuBERT base's size (random weights) in each way, interleaved. Prints Markdown."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from network import SIZES
from streams import UPSTREAM_CONTEXT_UNITS, Taker, Way

from rvcd.engine.precision import choose_precision
from rvcd.engine.units import UnitKind, UnitStreams
from rvcd.geometry import ENCODER_HOP_SAMPLES, FRAMES_PER_UNIT
from rvcd.nets.contentvec import ContentEncoder
from rvcd.nets.packed import worth_packing

BASE = replace(SIZES, conv_channels=(512,) * 7, width=768, heads=12, layers=12, inner_width=3072)
WAYS = (
    Way("upstream"),
    Way("remembered", context_ms=1000),
    Way("remembered", context_ms=2000),
    Way("remembered", context_ms=2000, revised_ms=200),
    Way("remembered", context_ms=2000, revised_ms=1000),
    Way("window", context_ms=1000),
    Way("window", context_ms=2500),
)


BLOCKS = 3
"""Timed each round."""


def streamed_ms(encoder: ContentEncoder, way: Way, dice: np.random.Generator) -> list[float]:
    """Time blocks of a stream whose window is full."""
    geometry, taker = way.geometry, Taker(encoder, UnitKind(encoder.sizes.width))
    streams = UnitStreams(encoder, geometry, torch.device("cpu"), window=way.name == "window")
    end, spent_ms = geometry.window_frames, []
    streams.push(0.1 * dice.standard_normal(end * ENCODER_HOP_SAMPLES, dtype=np.float32))
    streams.per_frame(0, end, taker)
    for _ in range(BLOCKS):
        end += geometry.block_frames
        streams.push(0.1 * dice.standard_normal(geometry.block_frames * ENCODER_HOP_SAMPLES, dtype=np.float32))
        began = time.process_time()
        streams.per_frame(end - geometry.settle_frames - geometry.block_frames, end, taker)
        spent_ms.append(1000 * (time.process_time() - began))
    return spent_ms


def again_ms(encoder: ContentEncoder, way: Way, dice: np.random.Generator) -> list[float]:
    """Time blocks in which the last revised_ms are gone over again, which the engine's streams do not do."""
    geometry, sizes = way.geometry, encoder.sizes
    fresh, again = geometry.block_frames // FRAMES_PER_UNIT, way.revised_ms // 20
    provisional = geometry.settle_frames // FRAMES_PER_UNIT - 1
    context = geometry.context_frames // FRAMES_PER_UNIT - again
    state, front_end, spent_ms = encoder.start_units(sizes.width, context), encoder.start_front_end(2.0), []
    known = torch.from_numpy(dice.standard_normal((1, context, sizes.conv_channels[-1]), dtype=np.float32))
    encoder.step(known, state, context)
    for _ in range(BLOCKS):
        audio = torch.from_numpy(0.1 * dice.standard_normal((1, fresh * 320 + 80), dtype=np.float32))
        began = time.process_time()
        rows = torch.cat((known[:, : again + provisional], encoder.front_end(audio, front_end)), dim=1)
        encoder.step(rows, state, fresh)
        spent_ms.append(1000 * (time.process_time() - began))
    return spent_ms


def upstream_ms(encoder: ContentEncoder, way: Way, dice: np.random.Generator) -> list[float]:
    units = UPSTREAM_CONTEXT_UNITS + way.block_ms // 20 + (way.lookahead_ms - 20) // 20
    audio = 0.1 * dice.standard_normal((1, units * 320), dtype=np.float32)
    began = time.process_time()
    encoder.units(torch.from_numpy(audio), unit_width=encoder.sizes.width)
    return [1000 * (time.process_time() - began)]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams-only", action="store_true", help="without upstream's way, which takes ten times as long")
    parser.add_argument("--blocks-ms", type=int, nargs="+", default=[40, 140, 200])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ways = [way for way in WAYS if way.name != "upstream" or not args.streams_only]
    packed = ContentEncoder(BASE).eval().requires_grad_(False)
    plain = packed if args.streams_only else ContentEncoder(BASE).eval().requires_grad_(False)
    precision = choose_precision("auto", "cpu")
    if worth_packing(precision, "cpu"):
        packed.pack(precision)
    dice = np.random.default_rng(1)
    print(f"processor time in ms a block, {precision}, {args.threads} threads; upstream's way in float32 with plain modules\n")
    again = [f", the last {way.revised_ms} again" if way.revised_ms else "" for way in ways]
    print("| block | " + " | ".join(f"{way.name}, {way.context_ms}{more}" for way, more in zip(ways, again, strict=True)) + " |")
    print("|--:|" + "--:|" * len(ways), flush=True)
    for block_ms in args.blocks_ms:
        spent: list[list[float]] = [[] for _ in ways]
        for _ in range(args.rounds):
            for number, kind in enumerate(ways):
                way = replace(kind, block_ms=block_ms, lookahead_ms=100)
                measure = upstream_ms if way.name == "upstream" else again_ms if way.revised_ms else streamed_ms
                spent[number] += measure(plain if way.name == "upstream" else packed, way, dice)
        print(f"| {block_ms} ms | " + " | ".join(f"{np.median(one):.0f}" for one in spent) + " |", flush=True)


if __name__ == "__main__":
    main()
