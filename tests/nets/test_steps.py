"""Steps of the C kernels against float64: what each computes, on any number of threads, and a stream of layers made of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rvcd.nets.grouped_conv import GroupedConv
from rvcd.nets.row_memory import RowMemory
from rvcd.nets.steps import MOST_STEPS, Steps
from rvcd.nets.tiled_conv import TiledConv, available
from rvcd.nets.transformer_steps import LayerWeights, TransformerStream

LEAST_DB = 85.0

pytestmark = pytest.mark.skipif(not available(torch.empty(0)), reason="this processor has no instructions that the kernels need")


@pytest.fixture(autouse=True)
def threads_put_back() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def random_of(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def is_near(made: Tensor, wanted: Tensor) -> bool:
    return bool((made.double() - wanted).abs().max() < 10 ** (-LEAST_DB / 20) * (1 + wanted.abs().max()))


def product_of(seed: int, out: int, channels: int, *, narrow: bool = False) -> tuple[TiledConv, nn.Linear]:
    weight, bias = random_of(seed, out, channels) / channels**0.5, random_of(seed + 1, out)
    plain = nn.Linear(channels, out).double().requires_grad_(False)
    plain.weight.copy_(weight)
    plain.bias.copy_(bias)
    return TiledConv(weight[:, :, None], bias, narrow=narrow), plain


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 40), channels=st.integers(1, 90), out=st.integers(1, 90), seed=st.integers(0, 99),
    residual=st.booleans(), accumulate=st.booleans(), threads=st.sampled_from([1, 2, 5]),
)  # fmt: skip
def test_a_product_goes_through_gelu(count, channels, out, seed, residual, accumulate, threads) -> None:
    conv, plain = product_of(seed, out, channels)
    x, y, added = 3 * random_of(seed + 2, count, channels), random_of(seed + 3, count, out), random_of(seed + 4, count, out)
    held, steps = y.clone(), Steps()
    steps.conv(conv, x, y, gelu=True, residual=added if residual else None, accumulate=accumulate)
    torch.set_num_threads(threads)
    steps.run()
    assert is_near(y, F.gelu(plain(x.double())) + residual * added.double() + accumulate * held.double())


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 40), width=st.integers(1, 200), seed=st.integers(0, 99), mean=st.sampled_from([0.0, 3.0, -20.0]))
def test_rows_are_normed(count, width, seed, mean) -> None:
    x, gamma, beta = random_of(seed, count, width) + mean, random_of(seed + 1, width), random_of(seed + 2, width)
    y, steps = torch.full((count + 1, width), 7.0), Steps()
    steps.norm(x, y[:count], gamma, beta, 1e-5)
    steps.run()
    wanted = F.layer_norm(x.double(), (width,), gamma.double(), beta.double(), 1e-5)
    # What the mean is rounded by is divided by the deviation, which may be anything where few numbers are normed.
    assert (y[:count] - wanted).abs().max() < 1e-4 if width > 8 else y.isfinite().all()
    assert (y[count] == 7).all()


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 40), width=st.integers(1, 90), seed=st.integers(0, 99), size=st.sampled_from([0.01, 1.0, 50.0]))
def test_rows_go_through_a_gate(count, width, seed, size) -> None:
    x, added, y = size * random_of(seed, count, 2 * width), random_of(seed + 1, 2 * width), torch.empty(count, width)
    steps = Steps()
    steps.gate(x, y, added)
    steps.run()
    filtered, opened = (x.double() + added.double()).chunk(2, dim=1)
    assert is_near(y, torch.tanh(filtered) * torch.sigmoid(opened))


def attended(rows: Tensor, count: int, heads: int, near: tuple[Tensor, Tensor] | None) -> Tensor:
    """Attention in float64, from its definition. rows (K, 3 * W) -> (count, W)."""
    K, width = rows.shape[0], rows.shape[1] // 3
    q, k, v = (part.reshape(K, heads, -1).transpose(0, 1) for part in rows.double().chunk(3, dim=1))
    q = q[:, K - count :] * (width // heads) ** -0.5
    scores, distance = q @ k.transpose(1, 2), torch.arange(K)[None] - torch.arange(K - count, K)[:, None]
    if near is None:
        return (scores.softmax(-1) @ v).transpose(0, 1).reshape(count, width)
    window = len(near[0]) // 2
    inside, at = distance.abs() <= window, distance.clamp(-window, window) + window
    scores += inside * (q[:, :, None, :] * near[0].double()[at]).sum(-1)
    weights = scores.softmax(-1)
    made = weights @ v + ((inside * weights)[..., None] * near[1].double()[at]).sum(2)
    return made.transpose(0, 1).reshape(count, width)


@settings(max_examples=80, deadline=None)
@given(
    past=st.integers(0, 60), count=st.integers(1, 30), heads=st.integers(1, 4), width=st.integers(1, 50), seed=st.integers(0, 99),
    window=st.sampled_from([None, 1, 10]), size=st.sampled_from([1.0, 4.0]), threads=st.sampled_from([1, 3]),
)  # fmt: skip
def test_the_newest_rows_attend_to_all(past, count, heads, width, seed, window, size, threads) -> None:
    rows, y = size * random_of(seed, past + count, 3 * heads * width), torch.empty(count, heads * width)
    near = None if window is None else (random_of(1, 2 * window + 1, width), random_of(2, 2 * window + 1, width))
    steps = Steps()
    steps.attend(random_of(3, count, 3 * heads * width), count, y, heads=heads, near=near)
    steps.move_attention(0, rows)
    torch.set_num_threads(threads)
    steps.run()
    assert is_near(y, attended(rows, count, heads, near))


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_step_waits_for_those_it_reads_and_the_result_is_the_same_on_any_threads(threads: int) -> None:
    layers = [product_of(i, 96, 96) for i in range(6)]
    x, halves, last = random_of(7, 300, 96), [torch.empty(300, 96) for _ in range(3)], torch.zeros(300, 96)
    steps = Steps()
    for (conv, _), y in zip(layers[:3], halves, strict=True):
        steps.conv(conv, x, y, together=y is not halves[2])
    for (conv, _), y in zip(layers[3:], halves, strict=True):
        steps.conv(conv, y, last, accumulate=True)
    torch.set_num_threads(threads)
    wanted = sum(second(first(x.double())) for (_, first), (_, second) in zip(layers[:3], layers[3:], strict=True))
    made = []
    for _ in range(20):
        last.zero_()
        steps.run()
        assert is_near(last, wanted)
        made.append(last.clone())
    assert all(torch.equal(made[0], other) for other in made)


def test_numbers_that_are_none_stay_seen() -> None:
    """The converter stops at NaN; a step that made numbers of them would hide a broken voice."""
    conv, _ = product_of(1, 32, 32)
    bad = random_of(2, 5, 32)
    bad[3, 4] = float("nan")
    made = [torch.empty(5, 32), torch.empty(5, 32), torch.empty(5, 16)]
    steps = Steps()
    steps.conv(conv, bad, made[0], gelu=True)
    steps.norm(bad, made[1], torch.ones(32), torch.zeros(32), 1e-5)
    steps.gate(bad, made[2], torch.zeros(32))
    steps.run()
    assert made[0][3].isnan().all() and made[1][3].isnan().all() and made[2][3, 4].isnan()
    rows, y = random_of(3, 6, 3 * 16), torch.empty(2, 16)
    rows[1] = float("nan")
    steps = Steps()
    steps.attend(rows, 2, y, heads=2)
    steps.run()
    assert y.isnan().all()


def test_what_the_kernels_cannot_read_is_refused() -> None:
    conv, _ = product_of(1, 8, 6)
    for x, y in (
        (torch.zeros(3, 6), torch.zeros(4, 8)), (torch.zeros(3, 7), torch.zeros(3, 8)), (torch.zeros(6, 3).T, torch.zeros(3, 8)),
        (torch.zeros(3, 6).double(), torch.zeros(3, 8)), (torch.zeros(0, 6), torch.zeros(0, 8)),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            Steps().conv(conv, x, y)
    with pytest.raises(ValueError):
        Steps().norm(torch.zeros(3, 6), torch.zeros(3, 6), torch.zeros(5), torch.zeros(6), 1e-5)
    with pytest.raises(ValueError):
        Steps().gate(torch.zeros(3, 7), torch.zeros(3, 3), torch.zeros(6))
    with pytest.raises(ValueError, match="queries"):
        Steps().attend(torch.zeros(3, 12), 4, torch.zeros(4, 4), heads=2)
    with pytest.raises(ValueError):
        Steps().attend(torch.zeros(3, 12), 2, torch.zeros(2, 4), heads=2, near=(torch.zeros(3, 3), torch.zeros(3, 2)))
    steps = Steps()
    for _ in range(MOST_STEPS):
        steps.conv(conv, torch.zeros(3, 6), torch.zeros(3, 8))
    with pytest.raises(ValueError, match="no more than"):
        steps.conv(conv, torch.zeros(3, 6), torch.zeros(3, 8))


@settings(max_examples=60, deadline=None)
@given(length=st.integers(0, 9), steps=st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8)), max_size=30))
def test_a_row_memory_holds_the_newest_final_rows(length: int, steps: list[tuple[int, int]]) -> None:
    memory, final_rows, number = RowMemory(length, 2), torch.zeros(0, 2), 0
    for count, final in steps:
        final = min(final, count)
        rows, new = memory.room(count), torch.arange(number, number + count).repeat_interleave(2).view(-1, 2).float()
        kept = final_rows[max(0, len(final_rows) - length) :]
        assert torch.equal(rows[: len(rows) - count], kept)
        rows[len(rows) - count :] = new
        memory.keep(final)
        final_rows, number = torch.cat((final_rows, new[:final])), number + final


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stream_of_layers_equals_attention_over_what_it_remembers(threads: int) -> None:
    """Each row sees the context rows before the step and the rows of the step, whatever the steps' lengths."""
    torch.set_num_threads(threads)
    width, heads, context = 48, 3, 11
    products = [[product_of(9 * i + j, *size, narrow=True) for j, size in enumerate(((144, 48), (48, 48), (100, 48), (48, 100)))]
                for i in range(2)]  # fmt: skip
    norms = [[nn.LayerNorm(width).requires_grad_(False) for _ in range(2)] for _ in range(2)]
    layers = [LayerWeights(heads, p[0][0], p[1][0], n[0], p[2][0], p[3][0], n[1]) for p, n in zip(products, norms, strict=True)]
    stream, pasts = TransformerStream(layers, context), [torch.zeros(0, 3 * width).double()] * 2
    for number, (count, final) in enumerate([(7, 4), (7, 4), (3, 3), (12, 0), (7, 7), (20, 15), (7, 4), (1, 1)]):
        x = random_of(100 + number, count, width)
        wanted = x.double()
        for i, (p, n) in enumerate(zip(products, norms, strict=True)):
            seen = torch.cat((pasts[i], p[0][1](wanted)))
            pasts[i] = seen[: len(seen) - count + final][-context:]
            wanted = n[0].double()(wanted + p[1][1](attended(seen, count, heads, None)))
            wanted = n[1].double()(wanted + p[3][1](F.gelu(p[2][1](wanted))))
            n[0].float(), n[1].float()
        made = stream.step(x, final)
        assert 10 * torch.log10(wanted.square().sum() / (made - wanted).square().sum()) > 70  # the weights have 16 bits


@pytest.mark.parametrize("length", [8, 9, 40])
def test_groups_are_convolved_apart(length: int) -> None:
    weight, bias, x = random_of(1, 24, 6, 8) / 7, random_of(2, 24), random_of(3, 1, 24, length)
    conv = GroupedConv(weight, bias, 4)
    assert torch.allclose(conv(x), F.conv1d(x, weight, bias, groups=4), atol=1e-3)
    other = random_of(4, 1, 24, 17)
    first = conv(other).clone()
    conv(x)
    assert torch.equal(conv(other), first)
