"""Retrieval equals upstream's blend, survives exact hits and empty lists, and refuses every broken index in one sentence."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch

from rvcd.engine.partitioned_search import LEAST_VECTORS, PartitionedSearch
from rvcd.engine.retrieval import FaissSearch, MatrixSearch, UnitIndex, read_index
from rvcd.errors import ModelFileError
from rvcd.formats.index_header import read_index_header

PARITY = Path(__file__).parent.parent / "data" / "parity"
INDEX = {256: PARITY / "added_IVF8_Flat_nprobe_1_kit_v1.index", 768: PARITY / "added_IVF8_Flat_nprobe_1_kit_v2.index"}


def random_vectors(count: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def write(path: Path, vectors: np.ndarray, kind: str = "IVF4,Flat", metric: int = faiss.METRIC_L2) -> Path:
    index = faiss.index_factory(vectors.shape[1], kind, metric)
    index.train(random_vectors(200, vectors.shape[1]))
    if len(vectors):
        index.add(vectors)
    faiss.write_index(index, str(path))
    return path


def refusal(path: Path, width: int = 16) -> str:
    with pytest.raises(ModelFileError) as caught:
        read_index(path, width)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("width", [256, 768])
def test_the_blend_equals_upstreams(width: int) -> None:
    vectors = np.load(PARITY / f"index_{width}.npz")
    index = read_index(INDEX[width], width)
    units = torch.from_numpy(vectors["query"])
    for rate, name in ((1.0, "blend_rate1"), (0.3, "blend_rate03")):
        assert np.abs(index.blend(units, rate).numpy() - vectors[name]).max() < 1e-4
    distances, _ = index.search.nearest(units, 8)
    assert np.abs(distances.numpy() / vectors["score"] - 1).max() < 1e-4


def test_the_matrix_product_finds_what_faiss_finds_when_it_looks_everywhere(tmp_path: Path) -> None:
    vectors = random_vectors(700, 16)
    flat = read_index(write(tmp_path / "a.index", vectors, "Flat"), 16)
    matrix = UnitIndex(16, 700, MatrixSearch(torch.from_numpy(vectors)))
    units = torch.from_numpy(random_vectors(600, 16, seed=2))
    torch.testing.assert_close(flat.blend(units, 0.7), matrix.blend(units, 0.7), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["Flat", "IVF4,Flat"])
def test_a_unit_of_the_index_is_found_as_itself_not_as_nan(tmp_path: Path, kind: str) -> None:
    vectors = random_vectors(300, 16)
    vectors[1] = vectors[0]  # twice the same: two exact hits
    index = read_index(write(tmp_path / "a.index", vectors, kind), 16)
    units = torch.from_numpy(vectors[:20])
    torch.testing.assert_close(index.blend(units, 1.0), units, atol=1e-6, rtol=0)
    exact = UnitIndex(16, 300, MatrixSearch(torch.from_numpy(vectors)))
    torch.testing.assert_close(exact.blend(units, 1.0), units, atol=1e-6, rtol=0)


def test_fewer_vectors_than_neighbours_are_used_as_they_are(tmp_path: Path) -> None:
    vectors = random_vectors(3, 16)
    units = torch.from_numpy(random_vectors(10, 16, seed=5))
    flat = read_index(write(tmp_path / "a.index", vectors, "Flat"), 16).blend(units, 1.0)
    assert torch.isfinite(flat).all()
    torch.testing.assert_close(flat, UnitIndex(16, 3, MatrixSearch(torch.from_numpy(vectors))).blend(units, 1.0))


def test_a_unit_whose_list_is_empty_stays_as_it_is(tmp_path: Path) -> None:
    index = faiss.index_factory(16, "IVF4,Flat")
    index.train(random_vectors(200, 16))
    index.add(random_vectors(1, 16))
    found = UnitIndex(16, 1, FaissSearch(index))
    units = torch.from_numpy(random_vectors(40, 16, seed=3))
    blended = found.blend(units, 0.5)
    assert torch.isfinite(blended).all()
    unchanged = (blended == units).all(dim=1)
    assert unchanged.any()
    assert not unchanged.all()


def test_huge_units_give_no_nan() -> None:
    index = UnitIndex(16, 50, MatrixSearch(torch.from_numpy(random_vectors(50, 16))))
    assert torch.isfinite(index.blend(torch.full((3, 16), 1e18), 1.0)).all()


def test_rate_0_searches_nothing() -> None:
    class Fails:
        def nearest(self, queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
            raise AssertionError("searched")

    units = torch.ones(3, 16)
    assert UnitIndex(16, 1, Fails()).blend(units, 0.0) is units


def test_rates_outside_their_range_are_clamped(tmp_path: Path) -> None:
    index = read_index(write(tmp_path / "a.index", random_vectors(300, 16)), 16)
    units = torch.from_numpy(random_vectors(5, 16, seed=2))
    assert torch.equal(index.blend(units, 7.0), index.blend(units, 1.0))


def test_the_wrong_width_is_refused_with_both() -> None:
    assert "is an index of width 256, but the voice's units have width 768" in refusal(INDEX[256], 768)


def test_an_empty_trained_index_names_the_added_one(tmp_path: Path) -> None:
    path = write(tmp_path / "trained_IVF4_Flat_nprobe_1_kit_v2.index", np.zeros((0, 16), np.float32))
    assert refusal(path).endswith("use added_IVF4_Flat_nprobe_1_kit_v2.index")
    (tmp_path / "added_IVF4_Flat_nprobe_1_kit_v2.index").touch()
    assert refusal(path).endswith("use added_IVF4_Flat_nprobe_1_kit_v2.index beside it")


def test_indexes_of_other_kinds_are_refused(tmp_path: Path) -> None:
    vectors = random_vectors(300, 16)
    assert "of kind" in refusal(write(tmp_path / "a.index", vectors, "HNSW8"))
    assert "of kind" in refusal(write(tmp_path / "b.index", vectors, "IVF4,SQ8"))
    assert "another measure" in refusal(write(tmp_path / "c.index", vectors, "IVF4,Flat", faiss.METRIC_INNER_PRODUCT))
    assert "another measure" in refusal(write(tmp_path / "d.index", vectors, "Flat", faiss.METRIC_INNER_PRODUCT))


def test_files_that_are_no_index_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.index")
    assert "is a folder" in refusal(tmp_path)
    path = tmp_path / "a.index"
    for body, said in ((b"", "is empty"), (b"hello world, this is text", "is not a FAISS index"), (b"Iw", "cut short")):
        path.write_bytes(body)
        assert said in refusal(path)
    shutil.copy(PARITY / "v2_40k_f0.pth", path)
    assert "is not a FAISS index" in refusal(path)


def test_vectors_with_nan_are_refused(tmp_path: Path) -> None:
    vectors = random_vectors(300, 16)
    path = write(tmp_path / "a.index", vectors)
    path.write_bytes(path.read_bytes().replace(vectors[7].tobytes(), np.full(16, np.nan, np.float32).tobytes()))
    assert "NaN or infinity" in refusal(path)


@pytest.mark.parametrize("kind", ["Flat", "IVF4,Flat"])
def test_every_truncated_or_flipped_index_is_read_or_refused(tmp_path: Path, kind: str) -> None:
    whole = write(tmp_path / "whole.index", random_vectors(60, 16), kind).read_bytes()
    chance = random.Random(3)
    path = tmp_path / "a.index"
    header_end = 1000 if kind == "IVF4,Flat" else 60
    for i in range(300):
        body = bytearray(whole)
        if i % 5 == 4:
            del body[chance.randrange(len(body)) :]
        else:
            body[chance.randrange(header_end)] ^= 1 << chance.randrange(8)
        path.write_bytes(body)
        try:
            index = read_index(path, 16)
        except ModelFileError:
            continue
        assert torch.isfinite(index.blend(torch.zeros(2, 16), 1.0)).all()


def test_a_header_that_asks_for_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    whole = bytearray(write(tmp_path / "a.index", random_vectors(60, 16)).read_bytes())
    path = tmp_path / "b.index"
    for at in (8, 37, 90):  # vectors, lists, length of the first stage's data
        body = whole.copy()
        body[at : at + 8] = (1 << 39).to_bytes(8, "little")
        path.write_bytes(body)
        refusal(path)


def test_sparse_lists_are_read(tmp_path: Path) -> None:
    # faiss writes list sizes as pairs when most lists are empty.
    index = faiss.index_factory(16, "IVF32,Flat")
    index.train(random_vectors(1300, 16))
    vectors = random_vectors(2, 16)
    index.add(vectors)
    faiss.write_index(index, str(tmp_path / "a.index"))
    header = read_index_header(tmp_path / "a.index")
    assert (header.width, header.vectors, header.lists, header.probes) == (16, 2, 32, 1)
    blended = read_index(tmp_path / "a.index", 16).blend(torch.from_numpy(vectors), 1.0)
    torch.testing.assert_close(blended, torch.from_numpy(vectors))


# ---- large flat indexes


def unit_like(count: int, seed: int, width: int = 96) -> np.ndarray:
    """Vectors in clusters, most of their variance in few directions, as units are. The clusters are the same for every seed."""
    shape = 1 / np.sqrt(1 + np.arange(width))
    centres = np.random.default_rng(5).standard_normal((60, width)) * shape
    turn = np.linalg.qr(np.random.default_rng(6).standard_normal((width, width)))[0]
    random_ = np.random.default_rng(seed)
    around = centres[random_.integers(60, size=count)] + 0.5 * shape * random_.standard_normal((count, width))
    return (around @ turn).astype(np.float32)


@pytest.fixture(scope="module")
def large() -> tuple[UnitIndex, UnitIndex, np.ndarray]:
    """(fast search, exact search, their vectors)."""
    vectors = unit_like(9000, seed=1)
    fast, exact = PartitionedSearch(vectors), MatrixSearch(torch.from_numpy(vectors))
    return UnitIndex(96, len(vectors), fast), UnitIndex(96, len(vectors), exact), vectors


Pair = tuple[UnitIndex, UnitIndex, np.ndarray]


def test_a_large_flat_index_is_searched_fast_and_a_small_one_exactly(tmp_path: Path) -> None:
    few, many = unit_like(LEAST_VECTORS - 1, seed=1), unit_like(LEAST_VECTORS, seed=1)
    assert isinstance(read_index(write(tmp_path / "few.index", few, "Flat"), 96).search, FaissSearch)
    index = read_index(write(tmp_path / "many.index", many, "Flat"), 96)
    assert isinstance(index.search, PartitionedSearch)
    assert index.vectors == LEAST_VECTORS


def test_the_fast_search_finds_nearly_all_neighbours(large: Pair) -> None:
    fast, exact, _ = large
    units = torch.from_numpy(unit_like(500, seed=2))
    (near, _), (nearest, _) = fast.search.nearest(units, 8), exact.search.nearest(units, 8)
    assert (near >= nearest * (1 - 1e-4)).all()
    assert float((near <= nearest * (1 + 1e-4)).float().mean()) > 0.98
    blended, exactly = fast.blend(units, 1.0), exact.blend(units, 1.0)
    assert float((blended - exactly).norm() / exactly.norm()) < 0.05


def test_a_unit_that_is_in_the_index_is_found_exactly(large: Pair) -> None:
    fast, _, vectors = large
    chosen = torch.from_numpy(vectors[::97])
    distances, found = fast.search.nearest(chosen, 8)
    assert (distances[:, 0] == 0).all()
    assert torch.equal(found[:, 0], chosen)


def test_a_unit_has_the_same_neighbours_whatever_it_is_searched_with(large: Pair) -> None:
    fast, _, _ = large
    units = torch.from_numpy(unit_like(40, seed=3))
    together = fast.blend(units, 0.8)
    for cut in (1, 3, 7, 40):
        apart = torch.cat([fast.blend(piece, 0.8) for piece in torch.split(units, cut)])
        assert (apart - together).abs().max() < 1e-6


def test_the_fast_search_computes_on_the_callers_thread_alone() -> None:
    """Several threads wait for each other beside a busy program: a block of 2 ms then takes 30."""
    vectors = unit_like(LEAST_VECTORS, seed=1, width=768)
    index, units = UnitIndex(768, len(vectors), PartitionedSearch(vectors)), torch.from_numpy(vectors[:12].copy())
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        own_s, all_s = time.thread_time(), time.process_time()
        for _ in range(100):
            index.blend(units, 0.75)
        own_s, all_s = time.thread_time() - own_s, time.process_time() - all_s
    finally:
        torch.set_num_threads(threads)
    assert all_s < 1.3 * own_s


SEARCH_IN_A_PROCESS = """
import torch  # first, as in the worker: the loader then binds faiss's calls of OpenMP to torch's library
import numpy as np
from rvcd.engine.partitioned_search import LEAST_VECTORS, PartitionedSearch
from rvcd.engine.retrieval import read_index
torch.set_num_threads(3)
vectors = np.random.default_rng(1).standard_normal((LEAST_VECTORS, 16), dtype=np.float32)
for search in (PartitionedSearch(vectors), read_index({index!r}, 16).search):
    search.nearest(torch.from_numpy(vectors[:12]), 8)
    print(torch.get_num_threads())
"""


def test_a_search_leaves_torch_its_threads(tmp_path: Path) -> None:
    path = write(tmp_path / "a.index", random_vectors(500, 16))
    script = SEARCH_IN_A_PROCESS.format(index=str(path))
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["3", "3"]


def test_the_fast_search_is_the_same_when_it_is_built_again(large: Pair) -> None:
    fast, _, vectors = large
    units = torch.from_numpy(unit_like(100, seed=4))
    again = UnitIndex(96, len(vectors), PartitionedSearch(vectors))
    assert torch.equal(again.blend(units, 1.0), fast.blend(units, 1.0))


@pytest.mark.parametrize("kind", ["all alike", "two places", "huge", "wide apart"])
def test_odd_vectors_are_searched_all_the_same(kind: str) -> None:
    vectors = np.ones((LEAST_VECTORS, 16), np.float32)
    if kind == "two places":
        vectors[::2] = -1.0
    elif kind == "huge":
        vectors = unit_like(LEAST_VECTORS, seed=1, width=16) * np.float32(1e15)
    elif kind == "wide apart":
        vectors = unit_like(LEAST_VECTORS, seed=1, width=16)
        vectors[7] = 1e6
    index = UnitIndex(16, len(vectors), PartitionedSearch(vectors))
    found = index.blend(torch.from_numpy(vectors[:50]), 1.0)
    assert torch.isfinite(found).all()
    assert (found - torch.from_numpy(vectors[:50])).abs().max() <= 1e-3 * np.abs(vectors).max()
