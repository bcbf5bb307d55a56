"""What the search of a large flat index costs and what it misses, against the exact search.

    python tools/measure_retrieval.py --threads 1
    python tools/measure_retrieval.py --threads 2 --beside 2    (beside two busy programs)
    python tools/measure_retrieval.py --units units.npy     (a float32 array (N, C) of an encoder's units, in time order)

Without --units the vectors are invented: clusters as of sounds, followed in time, most of the variance in few directions.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from rvcd.engine.partitioned_search import PartitionedSearch
from rvcd.engine.retrieval import NEIGHBOURS, FaissSearch, UnitIndex

FloatArray = NDArray[np.float32]
HELD_OUT, REPEATS = 3000, 60
PAUSE_S = 0.01
"""Before each block, as live: who never waits is made to wait by the kernel."""
BLOCKS = {"40 ms": 2, "140 ms": 7, "240 ms": 12}


def invented(count: int, width: int = 768, clusters: int = 800) -> FloatArray:
    """Return (count, width) vectors in time order."""
    random = np.random.default_rng(0)
    shape = (1 + np.arange(width)) ** -0.45
    shape /= np.sqrt((shape**2).mean())
    turn = np.linalg.qr(random.standard_normal((width, width)))[0].astype(np.float32)
    centres = random.standard_normal((clusters, width)) * shape * 0.35
    out = np.empty((count, width), np.float32)
    drift, before, at = np.zeros(width), centres[0], 0
    while at < count:
        here = centres[random.integers(clusters)]
        for step in range(min(int(random.integers(2, 9)), count - at)):
            drift = 0.7 * drift + 0.71 * random.standard_normal(width) * shape * 0.25
            share = min(1.0, (step + 1) / 3)
            out[at] = (1 - share) * before + share * here + drift
            at += 1
        before = here
    return out @ turn


@contextlib.contextmanager
def busy_programs(count: int) -> Iterator[None]:
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def median_ms(search: Callable[[FloatArray], object], units: FloatArray, rows: int) -> float:
    spent = []
    for i in range(REPEATS):
        block = units[i * rows : (i + 1) * rows]
        time.sleep(PAUSE_S)
        started = time.perf_counter()
        search(block)
        spent.append(1000 * (time.perf_counter() - started))
    return float(np.median(spent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=250_000)
    parser.add_argument("--units", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--beside", type=int, default=0, help="so many busy programs")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    everything = np.load(args.units).astype(np.float32) if args.units else invented(args.vectors + HELD_OUT)
    vectors, units = np.ascontiguousarray(everything[:-HELD_OUT]), np.ascontiguousarray(everything[-HELD_OUT:])
    count, width = vectors.shape

    flat = faiss.IndexFlatL2(width)
    flat.add(vectors)
    exact = UnitIndex(width, count, FaissSearch(flat))
    started = time.perf_counter()
    fast = UnitIndex(width, count, PartitionedSearch(vectors))
    print(f"{count:,} x {width}, {args.threads} thread(s); built in {time.perf_counter() - started:.1f} s")

    some = torch.from_numpy(units[::6])
    (near, _), (nearest, _) = fast.search.nearest(some, NEIGHBOURS), exact.search.nearest(some, NEIGHBOURS)
    recall = float((near <= nearest[:, -1:] * (1 + 1e-4)).float().mean())
    blended, exactly = fast.blend(some, 1.0), exact.blend(some, 1.0)
    print(f"recall of the {NEIGHBOURS} nearest {recall:.4f}; error of what is blended in "
          f"{float((blended - exactly).norm() / exactly.norm()):.3f}")  # fmt: skip
    with busy_programs(args.beside):
        for name, rows in BLOCKS.items():
            ours = median_ms(lambda block: fast.blend(torch.from_numpy(block), 0.75), units, rows)
            theirs = median_ms(lambda block: exact.blend(torch.from_numpy(block), 0.75), units, rows)
            print(f"block of {name} ({rows} units): {ours:.2f} ms; exact {theirs:.1f} ms")


if __name__ == "__main__":
    main()
