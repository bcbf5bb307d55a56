"""What engine.precision means: auto takes bfloat16 only where the hardware has it and it is faster; a name is always obeyed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rvcd.engine import precision
from rvcd.engine.decoder_layers import coarsest
from rvcd.engine.precision import choose_decoder_precision, choose_precision
from rvcd.nets.packed import PackedConv
from rvcd.nets.tiled_conv import TiledConv, available
from rvcd.nets.way_file import WayFile

FP32, BF16 = torch.float32, torch.bfloat16
WEIGHT = torch.zeros(8, 8, 3)


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch):
    """Pretend a processor: whether it multiplies bfloat16, whether our kernels run, and what a trial finds."""

    def pretend(*, bf16: bool, kernels: bool, faster: torch.dtype | None = None) -> None:
        monkeypatch.setattr(precision, "multiplies_bf16", lambda device: bf16)
        monkeypatch.setattr(precision, "worth_packing", lambda dtype, device: kernels)
        trial = (lambda units, file: faster) if faster is not None else (lambda units, file: pytest.fail("measured"))
        monkeypatch.setattr(precision, "faster_precision", trial)

    return pretend


def test_auto_takes_what_is_measured_to_be_faster(hardware, tmp_path: Path) -> None:
    for faster in (FP32, BF16):
        hardware(bf16=True, kernels=True, faster=faster)
        assert choose_precision("auto", "cpu", 5, WayFile(tmp_path / "ways.json")) is faster


def test_auto_measures_nothing_where_only_one_precision_is_fast(hardware, tmp_path: Path) -> None:
    file = WayFile(tmp_path / "ways.json")
    for kernels in (True, False):
        hardware(bf16=False, kernels=kernels)
        assert choose_precision("auto", "cpu", 5, file) is FP32
    hardware(bf16=True, kernels=False)
    assert choose_precision("auto", "cpu", 5, file) is BF16


def test_without_a_file_auto_is_float32_where_our_kernels_run(hardware) -> None:
    hardware(bf16=True, kernels=True)
    assert choose_precision("auto", "cpu") is FP32


def test_a_precision_that_is_named_is_obeyed_and_not_measured(hardware, tmp_path: Path) -> None:
    hardware(bf16=True, kernels=True)
    for choose in (
        lambda name: choose_precision(name, "cpu", 5, WayFile(tmp_path / "w")),
        lambda n: choose_decoder_precision(n, "cpu"),
    ):
        assert (choose("fp32"), choose("bf16")) == (FP32, BF16)


def test_autos_decoder_may_take_bfloat16_where_there_is_such_hardware(hardware) -> None:
    for bf16 in (True, False):
        hardware(bf16=bf16, kernels=True)
        assert choose_decoder_precision("auto", "cpu") is (BF16 if bf16 else FP32)


@pytest.mark.skipif(not available(WEIGHT), reason="this processor has no instructions for the kernels")
def test_a_decoder_without_a_convolution_in_bfloat16_is_a_float32_one() -> None:
    exact, rounded = TiledConv(WEIGHT, None), PackedConv(WEIGHT, None, dtype=BF16, by_torch=True)
    assert coarsest([[(exact, exact)], [(exact, exact)]]) is FP32
    assert coarsest([[(exact, exact)], [(exact, rounded)]]) is BF16
    assert coarsest([]) is FP32
