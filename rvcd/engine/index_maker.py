"""Makes RVC's kind of index of units: "IVF{n},Flat", its numbers as in RVC's training, so that any RVC program reads it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, BinaryIO

import faiss
import numpy as np
from numpy.typing import NDArray

from rvcd.engine.one_thread import faiss_on_one_thread

MOST_ROWS, CENTRES = 200_000, 10_000
"""RVC's: more rows than the first are replaced by this many centres."""
PROBES = 1
"""Lists that a search visits, as RVC writes it."""
ADDED_ROWS = 8192
ROUNDS = 10
"""Of k-means, as faiss's own training of such an index."""
ENOUGH = 1e-3
"""A round that lowers the error by a smaller share is the last one."""
WRITE_BYTES = 1 << 20
WORTH_THREADS = 1e10
"""Products a round from which on faiss's threads pay; for less they wait for each other, long where a core is not theirs."""

Rows = NDArray[np.float32]
Progress = Callable[[float], None]


def lists_of(rows: int) -> int:
    """Return RVC's number of inverted lists for that many rows: min(16 sqrt(N), N // 39), at least 1."""
    return max(1, min(int(16 * math.sqrt(rows)), rows // 39))


def reduce_rows(rows: Rows, centres: int, seed: int, progress: Progress) -> Rows:
    """Return `centres` rows in the place of more: the centres of k-means. The same seed gives the same ones.

    progress: called with 0..1 after each round. Can be interrupted (KeyboardInterrupt) within a round.
    """
    one_thread = len(rows) * centres * rows.shape[1] < WORTH_THREADS
    with faiss_on_one_thread() if one_thread else contextlib.nullcontext():
        return _reduce(rows, centres, seed, progress)


def _reduce(rows: Rows, centres: int, seed: int, progress: Progress) -> Rows:
    random = np.random.default_rng(seed)
    found = np.ascontiguousarray(rows[np.sort(random.choice(len(rows), centres, replace=False))])
    before = math.inf
    for number in range(ROUNDS):
        # One round at a time: faiss tells nobody how far it is. It empties no cluster: an empty one gets half of a full one.
        means = faiss.Kmeans(rows.shape[1], centres, niter=1, seed=seed, min_points_per_centroid=1,
                             max_points_per_centroid=len(rows))  # fmt: skip
        error = float(means.train(rows, init_centroids=found))
        found = np.ascontiguousarray(means.centroids)
        progress((number + 1) / ROUNDS)
        if error >= before * (1 - ENOUGH):
            break
        before = error
    progress(1.0)
    return found


def make_index(rows: Rows, seed: int, progress: Progress) -> Any:
    """Return a faiss index of the rows (n, width), n at least 1. progress: called with 0..1."""
    lists = lists_of(len(rows))
    index: Any = faiss.index_factory(rows.shape[1], f"IVF{lists},Flat")
    index.quantizer.add(reduce_rows(rows, lists, seed, progress))
    with faiss_on_one_thread():
        index.train(rows)  # which finds the lists' centres made, and only says so
        for first in range(0, len(rows), ADDED_ROWS):
            index.add(rows[first : first + ADDED_ROWS])
    index.nprobe = PROBES
    return index


def write_index(index: Any, file: BinaryIO) -> None:
    """Write an index as faiss.write_index does. Raises OSError where the file takes no more."""
    refused: list[OSError] = []

    def write(data: bytes) -> int:
        try:
            file.write(data)
        except OSError as error:
            refused.append(error)
            raise
        return len(data)

    try:
        faiss.write_index(index, vars(faiss)["PyCallbackIOWriter"](write, WRITE_BYTES))  # faiss's type stubs leave it out
    except Exception:
        if refused:
            raise refused[0] from None
        raise
