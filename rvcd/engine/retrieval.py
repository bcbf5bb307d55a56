"""Blends live units with their nearest neighbours among the voice's training units: RVC's "index".

units' = rate * sum(w_i v_i) + (1 - rate) * units, with w_i = (1 / s_i)^2 normalised over the k = 8 nearest vectors v_i, and
s_i the squared distance (RVC). Upstream divides by zero when a unit is itself in the index; here s is clamped (MIN_DISTANCE).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Protocol

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.engine.one_thread import faiss_on_one_thread
from rvcd.engine.partitioned_search import LEAST_VECTORS, PartitionedSearch
from rvcd.errors import ModelFileError
from rvcd.formats.index_header import IndexHeader, read_fitting_index_header
from rvcd.geometry import FRAMES_PER_UNIT
from rvcd.yielding import yield_point

NEIGHBOURS = 8
MIN_DISTANCE = 1e-8
"""Squared distances below this count as this: an exact hit outweighs any other vector, two exact hits share alike."""
QUERY_ROWS = 256
"""Rows searched at once by matrix product: bounds the table of distances."""
READ_BYTES = 1 << 20
"""Of an index between two yield points."""


class NeighbourSearch(Protocol):
    """Finds the nearest vectors of an index."""

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """(N, C) -> squared distances (N, k), +inf where there is no such neighbour, and the vectors (N, k, C)."""
        ...


class FaissSearch:
    """Search on the CPU by faiss, with the file's own nprobe: the lists nearest to the unit are searched, as upstream does."""

    def __init__(self, index: Any) -> None:
        self._index = index

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        rows = np.ascontiguousarray(queries.detach().float().cpu().numpy())
        with faiss_on_one_thread():  # beside torch's threads, several take ten times as long for a block's few units
            distances, ids, vectors = self._index.search_and_reconstruct(rows, k)
        missing = ids < 0
        distances[missing], vectors[missing] = np.inf, 0.0
        return torch.from_numpy(distances).to(queries.device), torch.from_numpy(vectors).to(queries.device)


class MatrixSearch:
    """Exact search by a matrix product on a torch device.

    It looks at every vector, where faiss visits only nprobe lists: its neighbours are as near or nearer. Candidates come
    from |q|^2 + |v|^2 - 2 q.v, which rounds badly for near vectors, so their distances are computed again by difference.
    """

    def __init__(self, vectors: Tensor) -> None:
        self._vectors = vectors
        self._squares = vectors.square().sum(dim=1)

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        queries = queries.to(self._vectors.device, torch.float32)
        k = min(k, len(self._vectors))
        found = [self._some(rows, k) for rows in torch.split(queries, QUERY_ROWS)]
        distances, vectors = (torch.cat(parts) for parts in zip(*found, strict=True))
        return distances, vectors

    def _some(self, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
        scores = self._squares[None, :] - 2.0 * (rows @ self._vectors.T)
        vectors = self._vectors[scores.topk(k, dim=1, largest=False).indices]
        return (vectors - rows[:, None]).square().sum(dim=2), vectors


class UnitIndex:
    """The vectors of one voice's training units."""

    def __init__(self, width: int, vectors: int, search: NeighbourSearch) -> None:
        self.width, self.vectors, self.search = width, vectors, search

    @torch.inference_mode()
    def blend(self, units: Tensor, index_rate: float, k: int = NEIGHBOURS) -> Tensor:
        """(N, C) units -> (N, C) on the same device, blended by index_rate 0..1 with their k nearest vectors.

        A unit without any neighbour stays as it is. Finite units give finite results. Rate 0 searches nothing.
        """
        N, C = units.shape
        if self.width != C:
            raise ValueError(f"units of width {C} cannot be searched in an index of width {self.width}")
        rate = max(0.0, min(float(index_rate), 1.0))
        if not (rate and N):
            return units
        yield_point()
        distances, vectors = self.search.nearest(units, k)
        yield_point()
        distances = distances.clamp_min(MIN_DISTANCE)
        nearest = distances.min(dim=1, keepdim=True).values
        # Relative to the nearest, so that neither tiny nor huge distances leave float32; inf / inf: no neighbour at all.
        weights = (nearest / distances).nan_to_num(nan=0.0).square()
        total = weights.sum(dim=1, keepdim=True)
        retrieved = torch.zeros_like(vectors[:, 0])
        for weight, vector in zip(weights.unbind(1), vectors.unbind(1), strict=True):  # pieces too small for torch's threads
            retrieved.addcmul_(weight[:, None], vector)
        retrieved /= total.clamp_min(1.0)
        retrieved = torch.where(total > 0, retrieved.to(units.device, units.dtype), units)
        return rate * retrieved + (1.0 - rate) * units


def blend(index: UnitIndex, units: Tensor, share: Tensor, repeats: int = FRAMES_PER_UNIT) -> Tensor:
    """Blend rows (T, width), `repeats` alike for each unit, with their neighbours in an index. share (T,): 0 none, 1 all."""
    retrieved = index.blend(units[::repeats], 1.0).repeat_interleave(repeats, dim=0)
    return units + (retrieved[: len(units)] - units) * share[:, None]


def read_index(path: Path | str, unit_width: int, device: str = "cpu") -> UnitIndex:
    """Read an `.index` file for a voice whose units have unit_width. device other than "cpu": exact search by matrix product.

    A large flat index is built up for a fast search, which takes seconds (partitioned_search.py).

    Raises ModelFileError with one sentence for a missing, damaged, empty or unsupported index, or one of another width.
    """
    header = read_fitting_index_header(path, unit_width)
    index = _read(header)
    lists = list(_vectors_by_list(index, header))
    for vectors in lists:
        yield_point()
        if not np.isfinite(vectors).all():
            raise ModelFileError(f"{header.path}: holds vectors with NaN or infinity; train the index anew")
    if torch.device(device).type != "cpu":
        # Copied: the lists are views of faiss's own memory.
        return UnitIndex(header.width, header.vectors, MatrixSearch(torch.from_numpy(np.concatenate(lists)).to(device)))
    if header.lists:
        index.nprobe = header.probes
    elif header.vectors >= LEAST_VECTORS:
        # Copied, so that faiss's own goes with its index: for a moment there are two.
        return UnitIndex(header.width, header.vectors, PartitionedSearch(lists[0].copy()))
    return UnitIndex(header.width, header.vectors, FaissSearch(index))


def _read(header: IndexHeader) -> Any:
    try:
        with header.path.open("rb") as file:
            index = faiss.read_index(_reader(file))
    except (RuntimeError, MemoryError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[-120:]
        raise ModelFileError(f"{header.path}: faiss cannot read it ({reason}); train the index anew") from None
    if index.d != header.width or index.ntotal != header.vectors:
        raise ModelFileError(
            f"{header.path}: is damaged: faiss finds other sizes in it than its header says; train the index anew"
        )
    return index


def _reader(file: BinaryIO) -> Any:
    """Return what faiss reads a file by, at most READ_BYTES at a time."""

    def read(count: int) -> bytes:
        yield_point()
        return file.read(count)

    return vars(faiss)["PyCallbackIOReader"](read, READ_BYTES)  # faiss's type stubs leave it out


def _vectors_by_list(index: Any, header: IndexHeader) -> list[NDArray[np.float32]]:
    """Return views of the vectors, one array (n, width) for each list, in the file's order."""
    if not header.lists:
        return [faiss.rev_swig_ptr(index.get_xb(), header.vectors * header.width).reshape(-1, header.width)]
    views = []
    for number in range(header.lists):
        count = index.invlists.list_size(number)
        if count:
            codes = faiss.rev_swig_ptr(index.invlists.get_codes(number), count * header.width * 4)
            views.append(codes.view(np.float32).reshape(count, header.width))
    return views
