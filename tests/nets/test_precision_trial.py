"""Whether bfloat16 is faster than float32 by our kernels is measured once, and of two nearly as fast the exact one is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rvcd.nets import precision_trial
from rvcd.nets.precision_trial import faster_precision
from rvcd.nets.way_file import WayFile

FP32, BF16 = torch.float32, torch.bfloat16


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> dict[torch.dtype, float]:
    """What the trial finds."""
    found = {FP32: 1.0, BF16: 1.0}
    monkeypatch.setattr(precision_trial, "tried", lambda units: found)
    return found


@pytest.mark.parametrize(("fp32", "bf16", "expected"), [(0.5, 1, FP32), (1.09, 1, FP32), (1.2, 1, BF16), (2, 1, BF16)])
def test_float32_is_taken_where_it_is_about_as_fast(spent, fp32: float, bf16: float, expected: torch.dtype) -> None:
    spent.update({FP32: fp32, BF16: bf16})
    assert faster_precision(5, None) is expected


def test_the_choice_is_measured_once_for_a_length_of_blocks(spent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spent[FP32] = 9.0
    assert faster_precision(5, WayFile(tmp_path / "ways.json")) is BF16
    monkeypatch.setattr(precision_trial, "tried", lambda units: pytest.fail("measured again"))
    assert faster_precision(5, WayFile(tmp_path / "ways.json")) is BF16
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        faster_precision(7, WayFile(tmp_path / "ways.json"))


def test_a_number_that_stands_for_nothing_is_measured_again(spent, tmp_path: Path) -> None:
    file = WayFile(tmp_path / "ways.json")
    file.put("encoder x5", 7)
    assert faster_precision(5, file) is FP32
    assert file.get("encoder x5") == 32


def test_a_block_is_really_timed_in_both(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"conv_channels": (8,) * 7, "width": 32, "heads": 2, "inner_width": 64, "position_groups": 2}
    monkeypatch.setattr(precision_trial, "SIZES", precision_trial.EncoderSizes(**{**vars(precision_trial.SIZES), **small}))
    threads = torch.get_num_threads()
    spent = precision_trial.tried(2)
    assert set(spent) == {FP32, BF16} and all(0 < seconds < 60 for seconds in spent.values())
    assert torch.get_num_threads() == threads
