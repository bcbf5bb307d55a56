"""How many workers there are: as cores, memory, a container's limits and the files allow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rvcd.rendering import machine
from rvcd.rendering.machine import available_bytes, private_bytes, usable_cores, worker_count

GB = 2**30


@pytest.fixture
def sixteen_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of 16 cores and 10 GB of free memory, in a container whose limits are the files of the folder."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(machine, "available_bytes", lambda: 10 * GB)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "device", "bytes_each", "threads", "wanted"),
    [
        (100, "cpu", 0, 1, 16),
        (100, "cpu", GB // 10, 1, 16),
        (3, "cpu", GB // 10, 1, 3),
        (100, "cpu", 2 * GB, 1, 5),
        (100, "cpu", 50 * GB, 1, 1),
        (100, "cpu", GB // 10, 4, 4),
        (100, "cpu", GB // 10, 99, 1),
        (100, "cuda", GB // 10, 1, 1),
        (0, "cpu", GB, 1, 1),
    ],
)
def test_there_is_a_worker_for_each_core_as_far_as_memory_and_files_reach(
    sixteen_cores: Path, files: int, device: str, bytes_each: int, threads: int, wanted: int
) -> None:
    assert worker_count(files, device, bytes_each, threads) == wanted


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 16), ("250000 100000", 3), ("1000 100000", 1), ("nonsense", 16), ("9900000 100000", 16)]
)
def test_a_containers_quota_of_cores_counts(sixteen_cores: Path, quota: str, cores: int) -> None:
    (sixteen_cores / "cpu.max").write_text(quota)
    assert usable_cores() == cores


def test_a_containers_limit_of_memory_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert available_bytes() > 2**20
    (tmp_path / "memory.max").write_text(f"{2**20}\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert available_bytes() == 2**20 - 1000
    (tmp_path / "memory.current").write_text(f"{2**21}\n")
    assert available_bytes() == 0


def test_the_memory_of_this_process_is_measured() -> None:
    before = private_bytes()
    block = bytearray(os.urandom(1)) * (300 * 2**20)
    assert before > 0 and private_bytes() >= before
    assert len(block) == 300 * 2**20
