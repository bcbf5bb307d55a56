"""An index is made with RVC's numbers, the same from the same seed, and read as upstream reads it."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.engine.index_maker import lists_of, make_index, reduce_rows, write_index
from rvcd.engine.reservoir import Reservoir
from rvcd.engine.retrieval import read_index
from rvcd.formats.index_header import read_index_header


def ignored(done: float) -> None:
    pass


def rows_of(count: int, width: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def written(rows: np.ndarray, path: Path, seed: int = 0) -> Path:
    with path.open("wb") as file:
        write_index(make_index(rows, seed, ignored), file)
    return path


@pytest.mark.parametrize(
    "rows, lists", [(8, 1), (38, 1), (39, 1), (780, 20), (100_000, 2564), (200_000, 5128), (10_000_000, 50_596)]
)
def test_the_number_of_lists_is_rvcs(rows: int, lists: int) -> None:
    assert lists_of(rows) == lists


def test_upstreams_call_reads_the_rows_in_their_order(tmp_path: Path) -> None:
    rows = rows_of(800)
    index = faiss.read_index(str(written(rows, tmp_path / "a.index")))
    assert np.array_equal(index.reconstruct_n(0, index.ntotal), rows)
    assert (index.nlist, index.nprobe, index.is_trained) == (20, 1, True)


def test_rvcd_reads_what_it_wrote_and_finds_each_row_in_it(tmp_path: Path) -> None:
    rows = rows_of(400)
    path = written(rows, tmp_path / "a.index")
    header = read_index_header(path)
    assert (header.width, header.vectors, header.lists, header.probes) == (16, 400, 10, 1)
    import torch

    found = read_index(path, 16).blend(torch.from_numpy(rows), 1.0)
    assert np.abs(found.numpy() - rows).max() < 1e-3


@pytest.mark.parametrize("rows", [1, 8, 39, 100])
def test_few_rows_make_an_index_too(rows: int, tmp_path: Path) -> None:
    assert read_index_header(written(rows_of(rows), tmp_path / "a.index")).vectors == rows


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    rows = rows_of(600)
    first, again, other = (written(rows, tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()


def test_centres_stand_for_what_is_there() -> None:
    places = rows_of(5, seed=3) * 10
    rows = np.concatenate([place + rows_of(40, seed=n) * 0.01 for n, place in enumerate(places)]).astype(np.float32)
    told: list[float] = []
    centres = reduce_rows(rows, 20, 0, told.append)
    assert centres.shape == (20, 16)
    distances = np.linalg.norm(centres[:, None] - places[None], axis=2)
    assert set(distances.argmin(axis=1)) == set(range(5)), "every place keeps a centre"
    assert told == sorted(told) and told[-1] == 1.0


def test_a_disk_that_takes_no_more_is_an_error_of_the_system() -> None:
    with Path("/dev/full").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        write_index(make_index(rows_of(100), 0, ignored), file)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 50), st.lists(st.integers(0, 40), max_size=6))
def test_a_reservoir_keeps_all_rows_or_as_many_as_it_holds(capacity: int, sizes: list[int]) -> None:
    kept, rows = Reservoir(capacity, 1, seed=0), np.arange(sum(sizes), dtype=np.float32)[:, None]
    at = 0
    for size in sizes:
        kept.add(rows[at : at + size])
        at += size
    found = kept.rows[:, 0]
    assert (kept.seen, len(found), len(set(found))) == (len(rows), min(capacity, len(rows)), len(found))
    if len(rows) <= capacity:
        assert np.array_equal(found, rows[:, 0])


def test_a_reservoir_gives_every_row_the_same_chance() -> None:
    counts = np.zeros(100)
    for seed in range(400):
        kept = Reservoir(20, 1, seed)
        kept.add(np.arange(100, dtype=np.float32)[:, None])
        counts[kept.rows[:, 0].astype(int)] += 1
    assert counts.min() > 40 and counts.max() < 130  # 80 each on average, deviation 8
