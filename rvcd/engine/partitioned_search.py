"""A fast search of a large flat index: a few lists of short codes are looked through, the best of them exactly.

The vectors are turned so that the first CODE_WIDTH of their coordinates hold most of the variance (subspace iteration), those are
grouped into lists around centroids (Lloyd 1982), and kept in one byte each. A search compares a unit with the codes of the PROBES
nearest lists and then, in float32 and in full width, with the CANDIDATES best. Each unit is searched by itself: the same unit has
the same neighbours, whatever it is searched together with.

Everything is built when the index is read, in pieces with a yield point between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.engine.one_thread import faiss_on_one_thread
from rvcd.yielding import yield_point

LEAST_VECTORS = 4096
"""Fewer are searched exactly: that takes 2 ms for a block of 140 ms on one core, and building would gain little."""
CODE_WIDTH = 128
SAMPLE = 32_768
"""Vectors that the coordinates and the centroids are found from."""
SUBSPACE_ROUNDS, LLOYD_ROUNDS = 6, 6
RANGE_SAMPLE = 2048
"""Vectors that the range of the bytes is found from; what lies outside is cut to it."""
PROBES, CANDIDATES = 64, 64
ROWS = 1024
"""Vectors worked on between two yield points: a few milliseconds."""


class PartitionedSearch:
    """Approximate search on the CPU; see retrieval.NeighbourSearch. What it costs in recall is in docs/measurements.md."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        """vectors (N, C), N >= LEAST_VECTORS. They are kept, not copied."""
        self._vectors = torch.from_numpy(vectors)
        count, width = vectors.shape
        sample = _spread(self._vectors, min(SAMPLE, count))
        self._mean = sum((rows.sum(dim=0) for rows in _pieces(sample)), torch.zeros(width)) / len(sample)
        self._axes = _main_axes(sample, self._mean, min(CODE_WIDTH, width))
        self._axes_by_row = np.ascontiguousarray(self._axes.numpy().T)
        turned = torch.cat([self._turn(rows) for rows in _pieces(sample)])
        centroids = _centroids(turned, _list_count(count))
        self._index = _empty_index(centroids.numpy(), turned.numpy())
        for rows in _pieces(self._vectors):
            turned = self._turn(rows)
            with faiss_on_one_thread():
                self._index.add(turned.numpy())

    def _turn(self, rows: Tensor) -> Tensor:
        """(N, C) -> their main coordinates (N, CODE_WIDTH)."""
        return (rows - self._mean) @ self._axes

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """See NeighbourSearch.nearest. On the caller's thread alone: beside a busy program, several wait for each other."""
        rows = queries.detach().float().cpu().numpy()
        # einsum: neither torch's threads nor BLAS's, and a row's sums do not depend on how many rows there are.
        turned = np.einsum("nc,wc->nw", rows - self._mean.numpy(), self._axes_by_row)
        with faiss_on_one_thread():
            _, ids = self._index.search(turned, max(k, CANDIDATES))
        kept = min(k, ids.shape[1])
        distances = np.empty((len(rows), kept), np.float32)
        found = np.empty((len(rows), kept, rows.shape[1]), np.float32)
        for row, candidates, nearest, into in zip(rows, ids, distances, found, strict=True):
            nearest[:], into[:] = self._best(row, candidates, kept)
        return torch.from_numpy(distances).to(queries.device), torch.from_numpy(found).to(queries.device)

    def _best(self, row: NDArray[np.float32], ids: NDArray[np.int64], k: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(C,), candidates (M,), -1 for none -> squared distances (k,) and vectors (k, C), compared in full."""
        vectors = self._vectors.numpy()[np.maximum(ids, 0)]
        apart = vectors - row
        distances = np.einsum("mc,mc->m", apart, apart)
        distances[ids < 0], vectors[ids < 0] = np.inf, 0.0
        order = np.argsort(distances, kind="stable")[:k]
        return distances[order], vectors[order]


def _pieces(rows: Tensor) -> Iterator[Tensor]:
    """Yield the rows piece by piece, with a yield point before each."""
    for piece in torch.split(rows, ROWS):
        yield_point()
        yield piece


def _spread(rows: Tensor, count: int) -> Tensor:
    """Return `count` rows, evenly spread: the same ones every time."""
    chosen = torch.linspace(0, len(rows) - 1, count, dtype=torch.float64).round().long()
    found = rows.new_empty((count, rows.shape[1]))
    for into, piece in zip(_pieces(found), torch.split(chosen, ROWS), strict=True):
        torch.index_select(rows, 0, piece, out=into)
    return found


def _list_count(vectors: int) -> int:
    """Return a power of two near twice the root: then a list is as long as there are lists, to a factor of four."""
    return int(2 ** round(np.log2(2 * np.sqrt(vectors))))


def _main_axes(sample: Tensor, mean: Tensor, count: int) -> Tensor:
    """Return orthonormal directions (C, count) of the greatest variance, nearly (subspace iteration)."""
    width = sample.shape[1]
    covariance = torch.zeros(width, width)
    for rows in _pieces(sample):
        centred = rows - mean
        covariance += centred.T @ centred
    axes = torch.eye(width)[:, :count]
    for _ in range(SUBSPACE_ROUNDS):
        yield_point()
        axes = torch.linalg.qr(covariance @ axes).Q
    return axes


def _centroids(rows: Tensor, count: int) -> Tensor:
    """Return centroids (count, C) of rows (N, C), N >= count (Lloyd's algorithm). One that loses all its rows stays."""
    centroids = _spread(rows, count)
    for _ in range(LLOYD_ROUNDS):
        half_squares = centroids.square().sum(dim=1) / 2
        sums, sizes = torch.zeros_like(centroids), torch.zeros(count)
        for piece in _pieces(rows):
            nearest = (half_squares - piece @ centroids.T).argmin(dim=1)
            sums.index_add_(0, nearest, piece)
            sizes += torch.bincount(nearest, minlength=count)
        centroids = torch.where(sizes[:, None] > 0, sums / sizes.clamp_min(1)[:, None], centroids)
    return centroids


def _empty_index(centroids: NDArray[np.float32], sample: NDArray[np.float32]) -> Any:
    """Return faiss's index of one byte a coordinate with these centroids. sample: for the range of the bytes."""
    width = centroids.shape[1]
    quantizer = faiss.IndexFlatL2(width)
    quantizer.add(centroids)
    scalar = vars(faiss)["ScalarQuantizer"].QT_8bit  # faiss's type stubs leave it out
    index = faiss.IndexIVFScalarQuantizer(quantizer, width, len(centroids), scalar)
    yield_point()
    index.train(sample[:: max(1, len(sample) // RANGE_SAMPLE)])
    index.nprobe = min(PROBES, len(centroids))
    return index
