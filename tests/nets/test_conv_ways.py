"""How the decoder's convolutions are computed is measured once, kept for this machine alone, and never believed blindly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from rvcd.nets import conv_ways, way_file
from rvcd.nets.conv_ways import PACKED, Ways, candidates, fastest, positions_tried
from rvcd.nets.tiled_conv import DIRECT, TILES, available
from rvcd.nets.way_file import WayFile

needs_kernels = pytest.mark.skipif(not available(torch.empty(0)), reason="this processor has no instructions for the kernels")
WEIGHT = torch.zeros(8, 8, 7)


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Measure nothing: the shortest tiles win. Returns what was to be measured."""
    asked: list[tuple[object, ...]] = []

    def tried(*shape):
        asked.append(shape)
        return {way: 1.0 if way == 4 else 2.0 for way in candidates(shape[2], shape[3])}

    monkeypatch.setattr(conv_ways, "tried", tried)
    return asked


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_way_of_a_shape_is_timed(dtype: torch.dtype) -> None:
    spent = conv_ways.tried(8, 8, 3, dtype, 64)
    assert set(spent) == {PACKED, DIRECT, *TILES[3]}
    assert all(0 < seconds < 60 for seconds in spent.values())


def test_of_ways_nearly_as_fast_the_most_exact_one_is_taken() -> None:
    ways = candidates(7, torch.float32)
    assert fastest({DIRECT: 1.04, PACKED: 9, 4: 9, 6: 9, 8: 1.0}, ways) == DIRECT
    assert fastest({DIRECT: 1.06, PACKED: 9, 4: 9, 6: 1.01, 8: 1.0}, ways) == 6
    assert fastest({DIRECT: 3, PACKED: 1, 4: 3, 6: 3, 8: 3}, ways) == PACKED
    assert fastest({DIRECT: 3, PACKED: 1, 4: 3, 6: 3, 8: 1}, candidates(7, torch.bfloat16)) == 8


@needs_kernels
def test_a_shape_is_measured_once_and_remembered_by_the_next_process(tmp_path: Path, trials) -> None:
    file = tmp_path / "deep" / "convolutions.json"
    first = Ways(10, file)
    assert [first.of(WEIGHT, torch.float32, 10) for _ in range(3)] == [4, 4, 4]
    assert Ways(10, file).of(WEIGHT, torch.float32, 10) == 4
    assert len(trials) == 1
    assert Ways(10, file).of(WEIGHT, torch.bfloat16, 10) == 4
    assert Ways(10, file).of(WEIGHT, torch.float32, 100) == 4
    assert len(trials) == 3
    assert len(json.loads(file.read_text())["ways"]) == 3


@needs_kernels
@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff\x00", b"[" * 100_000, b"[]", b'{"machine": 1}', b'{"ways": {"a": 1}}', b'{"machine": "M", "ways": [1]}',
        b'{"machine": "M", "ways": {"fp32 8>8 k7 x128": "4"}}', b'{"machine": "M", "ways": {"fp32 8>8 k7 x128": 5}}',
        b'{"machine": "M", "ways": {"fp32 8>8 k7 x128": true}}', b'{"machine": "another", "ways": {"fp32 8>8 k7 x128": 6}}',
    ],
)  # fmt: skip
def test_what_does_not_belong_to_this_machine_is_measured_again(content, tmp_path: Path, trials, monkeypatch) -> None:
    monkeypatch.setattr(way_file, "machine", lambda: "M")
    file = tmp_path / "convolutions.json"
    file.write_bytes(content)
    assert Ways(10, file).of(WEIGHT, torch.float32, 10) == 4
    assert len(trials) == 1
    assert json.loads(file.read_text()) == {"machine": "M", "ways": {"fp32 8>8 k7 x128": 4}}


@needs_kernels
def test_a_folder_that_cannot_be_written_costs_only_the_memory(tmp_path: Path, trials) -> None:
    (tmp_path / "file").write_text("")
    ways = Ways(10, tmp_path / "file" / "convolutions.json")
    assert ways.of(WEIGHT, torch.float32, 10) == ways.of(WEIGHT, torch.float32, 10) == 4
    assert len(trials) == 1


def test_additions_of_two_processes_both_stay(tmp_path: Path) -> None:
    one, other = WayFile(tmp_path / "ways.json"), WayFile(tmp_path / "ways.json")
    assert one.get("a") is None and other.get("b") is None
    one.put("a", 1)
    other.put("b", 2)
    assert (WayFile(tmp_path / "ways.json").get("a"), WayFile(tmp_path / "ways.json").get("b")) == (1, 2)


def test_lengths_near_each_other_share_a_choice() -> None:
    assert [positions_tried(n) for n in (0, 1, 64, 90, 91, 1400, 1500, 10**6)] == [64, 64, 64, 64, 128, 1024, 2048, 2048]


def test_without_the_kernels_nothing_is_measured(monkeypatch: pytest.MonkeyPatch, trials) -> None:
    monkeypatch.setattr(conv_ways, "available", lambda weight: False)
    assert Ways(10, None).of(WEIGHT, torch.float32, 10) == PACKED
    assert trials == []
