"""The convolution kernels against float64, for any shape, place and way to be called; and what they refuse."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rvcd.nets.narrow_weights import LEAST_DB as NARROW_DB
from rvcd.nets.narrow_weights import narrowed
from rvcd.nets.tile_points import tile_matrices
from rvcd.nets.tiled_conv import DIRECT, TILES, TiledConv, available, empty_rows

LEAST_DB = 85.0
WAYS = [(kernel, outputs) for kernel, sizes in TILES.items() for outputs in (DIRECT, *sizes)]

pytestmark = pytest.mark.skipif(not available(torch.empty(0)), reason="this processor has no instructions that the kernels need")


def random_of(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rows(x: Tensor) -> Tensor:
    """(C, T) -> (1, C, 1, T) channels-last."""
    made = empty_rows(*x.shape)
    made.copy_(x[None, :, None])
    return made


def exact(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """(1, C, 1, T) -> (1, C', 1, T') in float64."""
    bias = None if bias is None else bias.double()
    return F.conv2d(x.double(), weight.double()[:, :, None], bias, dilation=(1, dilation))


def ratio_db(made: Tensor, wanted: Tensor) -> float:
    return float(10 * torch.log10(wanted.square().sum() / (made.double() - wanted).square().sum().clamp_min(1e-300)))


def weight_of(seed: int, out: int, channels: int, kernel: int) -> Tensor:
    return random_of(seed, out, channels, kernel) / (channels * kernel) ** 0.5


def widened(weight: Tensor) -> Tensor:
    """What is left of a weight in 16 bits."""
    rounded = narrowed(weight)
    assert rounded is not None
    return rounded.numbers * rounded.unit[:, None, None]


@pytest.mark.parametrize("channels", [16, 32, 64, 128, 256, 512])
@pytest.mark.parametrize("kernel, outputs", WAYS)
def test_every_way_is_within_85_db_of_float64(kernel: int, outputs: int, channels: int) -> None:
    weight = weight_of(1, channels, channels, kernel)
    x = rows(random_of(2, channels, 70 + 3 * (kernel - 1)))
    for entering in (x, F.leaky_relu(x, 0.1), x.abs()):
        made = TiledConv(weight, None, dilation=3, outputs=outputs)(entering)
        assert ratio_db(made, exact(entering, weight, None, 3)) >= LEAST_DB


@settings(max_examples=150, deadline=None)
@given(
    way=st.sampled_from(WAYS), channels_in=st.integers(1, 70), channels_out=st.integers(1, 70), dilation=st.integers(1, 7),
    count=st.integers(1, 150), seed=st.integers(0, 99), entering=st.sampled_from([None, 0.0, 0.1]),
    leaving=st.sampled_from([None, 0.1]), biased=st.booleans(), residual=st.booleans(), accumulate=st.booleans(),
    scale=st.sampled_from([1.0, 1 / 3]), threads=st.sampled_from([1, 2, 5]),
)  # fmt: skip
def test_any_shape_computed_in_any_way_equals_float64(
    way, channels_in, channels_out, dilation, count, seed, entering, leaving, biased, residual, accumulate, scale, threads
) -> None:
    kernel, outputs = way
    weight, bias = weight_of(seed, channels_out, channels_in, kernel), random_of(seed + 1, channels_out) if biased else None
    x = rows(random_of(seed + 2, channels_in, count + dilation * (kernel - 1)))
    added, held = rows(random_of(seed + 3, channels_out, count)), rows(random_of(seed + 4, channels_out, count))
    made, before = held.clone(memory_format=torch.preserve_format), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        TiledConv(weight, bias, dilation=dilation, outputs=outputs).run(
            x, entering=entering, leaving=leaving, residual=added if residual else None, out=made, accumulate=accumulate,
            scale=scale,
        )  # fmt: skip
    finally:
        torch.set_num_threads(before)
    wanted = exact(x if entering is None else F.leaky_relu(x, entering), weight, bias, dilation)
    wanted = wanted if leaving is None else F.leaky_relu(wanted, leaving)
    wanted = scale * (wanted + residual * added.double() + accumulate * held.double())
    # One output alone may be near 0: the error is compared with what it is made of.
    assert (made.double() - wanted).abs().max() < 10 ** (-LEAST_DB / 20) * (1 + wanted.abs().max())


@pytest.mark.parametrize("kernel, outputs", WAYS)
def test_a_stream_in_steps_of_any_length_equals_the_whole(kernel: int, outputs: int) -> None:
    dilation, reach = 3, 3 * (kernel - 1)
    conv = TiledConv(weight_of(1, 24, 24, kernel), random_of(2, 24), dilation=dilation, outputs=outputs)
    x = rows(random_of(3, 24, 400 + reach))
    whole, streamed, at = conv(x), empty_rows(24, 400), 0
    for length in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 169):
        conv.run(x[..., at : at + length + reach], out=streamed[..., at : at + length])
        at += length
    assert at == 400
    assert ratio_db(streamed, whole.double()) >= LEAST_DB


@settings(max_examples=40, deadline=None)
@given(
    stride=st.integers(1, 6), kernel=st.integers(1, 11), channels_in=st.integers(1, 600), channels_out=st.integers(1, 600),
    count=st.integers(1, 40), dilation=st.integers(1, 3), entering=st.sampled_from([None, 0.1]), threads=st.sampled_from([1, 3]),
    narrow=st.booleans(),
)  # fmt: skip
def test_a_direct_convolution_takes_any_kernel_and_stride(
    stride, kernel, channels_in, channels_out, count, dilation, entering, threads, narrow
) -> None:
    weight, bias = weight_of(1, channels_out, channels_in, kernel), random_of(2, channels_out)
    x, before = rows(random_of(3, channels_in, (count - 1) * stride + dilation * (kernel - 1) + 1)), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        conv = TiledConv(weight, bias, stride=stride, dilation=dilation, narrow=narrow)
        made = conv.run(x, entering=entering)
    finally:
        torch.set_num_threads(before)
    if narrow:
        assert conv.is_narrow
        weight = widened(weight)
    x = x if entering is None else F.leaky_relu(x, entering)
    wanted = F.conv2d(x.double(), weight.double()[:, :, None], bias.double(), (1, stride), dilation=(1, dilation))
    assert made.shape == wanted.shape
    assert (made.double() - wanted).abs().max() < 1e-5 * (1 + wanted.abs().max())


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_weights_in_16_bits_are_within_85_db_of_float64(size: float) -> None:
    weight, x = weight_of(1, 96, 768, 1) * size, rows(random_of(2, 768, 13))
    conv = TiledConv(weight, None, narrow=True)
    assert conv.is_narrow
    assert ratio_db(conv(x), exact(x, weight, None, 1)) >= LEAST_DB


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 100.0])
def test_weights_that_16_bits_would_spoil_stay_float32(value: float) -> None:
    weight = weight_of(1, 16, 64, 1)
    assert TiledConv(weight, None, narrow=True).is_narrow
    weight[:, 5] = value  # so large beside the others that little would be left of these
    assert not TiledConv(weight, None, narrow=True).is_narrow


def test_channels_of_zeros_stay_zeros() -> None:
    weight = weight_of(1, 8, 6, 1)
    weight[3] = 0
    assert (widened(weight)[3] == 0).all()


@settings(max_examples=60, deadline=None)
@given(exponents=st.lists(st.integers(-149, 127), min_size=4, max_size=4), seed=st.integers(0, 99))
def test_rounding_to_16_bits_loses_no_more_than_it_may(exponents: list[int], seed: int) -> None:
    weight = (random_of(seed, 4, 6, 3).double() * torch.tensor([2.0**e for e in exponents]).view(4, 1, 1)).float()
    if not weight.isfinite().all():
        assert narrowed(weight) is None
    elif narrowed(weight) is not None:
        assert ratio_db(widened(weight), weight.double()) >= NARROW_DB - 0.01


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 7, 5), (1, 0, 5)])
def test_rows_are_a_matrix_product_of_any_shape(shape: tuple[int, ...]) -> None:
    weight, bias, x = random_of(1, 9, 5), random_of(2, 9), random_of(3, *shape)
    made = TiledConv(weight[:, :, None], bias).rows(x)
    assert made.shape == (*shape[:-1], 9)
    assert torch.allclose(made, F.linear(x, weight, bias), atol=1e-5)


def test_nothing_is_written_beside_the_result() -> None:
    conv = TiledConv(weight_of(1, 13, 20, 7), None, outputs=6)
    held = torch.full((1, 1, 40, 13), 7.0).permute(0, 3, 1, 2)
    conv.run(rows(random_of(2, 20, 26)), out=held[..., 10:30])
    assert (held[..., :10] == 7).all() and (held[..., 30:] == 7).all() and (held[..., 10:30] != 7).all()


@pytest.mark.parametrize("kernel, outputs", WAYS)
def test_numbers_that_are_none_stay_seen(kernel: int, outputs: int) -> None:
    """The converter stops at NaN; a kernel that made zeros of them would hide a broken voice."""
    x = rows(random_of(1, 16, 60))
    x[0, 3, 0, 30] = float("nan")
    conv = TiledConv(weight_of(2, 16, 16, kernel), None, outputs=outputs)
    assert conv.run(x, entering=0.1, leaving=0.1)[..., 30 - (kernel - 1) // 2].isnan().all()


def test_the_result_does_not_depend_on_the_threads() -> None:
    conv, before = TiledConv(weight_of(1, 64, 64, 11), None, dilation=5, outputs=5), torch.get_num_threads()
    made = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        made.append(conv(rows(random_of(2, 64, 900))))
    torch.set_num_threads(before)
    assert all(torch.equal(made[0], other) for other in made[1:])


@pytest.mark.parametrize("kernel, outputs", [way for way in WAYS if way[1] != DIRECT])
def test_the_matrices_of_a_tile_are_exact(kernel: int, outputs: int) -> None:
    matrices = tile_matrices(outputs, kernel)
    inputs, taps = random_of(1, outputs + kernel - 1).double(), random_of(2, kernel).double()
    made = ((matrices.evaluate @ inputs) * (matrices.weights @ taps)) @ matrices.combine
    assert torch.allclose(made, inputs.unfold(0, kernel, 1) @ taps, atol=1e-11)


def test_what_the_kernels_cannot_read_is_refused() -> None:
    conv = TiledConv(weight_of(1, 8, 8, 3), None)
    good = rows(random_of(2, 8, 20))
    with pytest.raises(ValueError, match="channels-last"):
        conv(random_of(2, 1, 8, 1, 20))
    with pytest.raises(ValueError, match="float64"):
        conv(good.double())
    with pytest.raises(ValueError, match=r"expected \(1, 8, 1, 20\)"):
        conv(rows(random_of(2, 9, 20)))
    with pytest.raises(ValueError, match=r"expected \(1, 8, 1, 18\)"):
        conv.run(good, out=empty_rows(8, 17))
    with pytest.raises(ValueError, match="too few"):
        conv(rows(random_of(2, 8, 2)))
    with pytest.raises(ValueError, match="no tiles of 7 outputs"):
        TiledConv(weight_of(1, 8, 8, 3), None, outputs=7)
    with pytest.raises(ValueError, match="no stride"):
        TiledConv(weight_of(1, 8, 8, 3), None, stride=2, outputs=6)


def test_a_processor_may_be_treated_as_a_lesser_one() -> None:
    code = "import torch; from rvcd.nets.tiled_conv import available; print(available(torch.empty(0)))"
    for asked, wanted in (("baseline", "False"), ("avx2", "True"), ("", "True")):
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "RVCD_CPU": asked})
        assert run.stdout.strip() == wanted, run.stderr
