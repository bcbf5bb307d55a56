"""What a stream keeps stays where it is, and is what a concatenation would be."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rvcd.nets.rolling_buffer import HOMES, Past, RollingBuffer


@given(
    length=st.integers(0, 6),
    zeros=st.booleans(),
    steps=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=12),
)
def test_a_past_is_the_newest_final_positions_before_each_step(length: int, zeros: bool, steps: list[tuple[int, int]]) -> None:
    past = Past(length, 2, zeros=zeros)
    final = torch.zeros(1, 2, length if zeros else 0)
    number = 1.0
    for final_count, provisional in steps:
        x = number + torch.arange(2.0 * (final_count + provisional)).view(1, 2, -1)
        number += 100
        expected = torch.cat((final[..., max(0, final.shape[2] - length) :], x), dim=2)
        assert torch.equal(past.extend(x, final_count), expected)
        final = torch.cat((final, x[..., :final_count]), dim=2)
        assert past.known == min(length, final.shape[2])


def test_after_a_reset_nothing_of_it_is_left() -> None:
    past = Past(3, 1, zeros=True)
    past.extend(torch.full((1, 5), float("nan")), 5)
    past.reset()
    assert torch.equal(past.extend(torch.ones(1, 2), 2), torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0]]))


def test_a_steady_stream_finds_its_buffer_again_after_a_restart() -> None:
    past, x = Past(8, 0), torch.ones(3)
    places = [past.extend(x, 2).data_ptr() for _ in range(20)]
    assert len(set(places[5:])) == 1
    past.reset()
    again = [past.extend(x, 2).data_ptr() for _ in range(20)]
    assert set(again[5:]) == {places[-1]}


def test_another_type_or_device_gets_a_buffer_of_its_own() -> None:
    rolling = RollingBuffer(0)
    for _ in range(3):
        rolling.roll(0, 0, torch.ones(4))
    rolling.clear()
    assert rolling.roll(0, 0, torch.ones(4, dtype=torch.float64)).dtype is torch.float64


def test_no_more_than_a_few_sizes_are_kept() -> None:
    rolling = RollingBuffer(0)
    for size in range(1, HOMES + 10):
        for _ in range(2):
            rolling.roll(0, 0, torch.ones(size))
    assert len(rolling._homes._buffers) == HOMES


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_holds_for_every_size(channels: int) -> None:
    rolling = RollingBuffer(3, channels_last=True)
    made = rolling.roll(0, 0, torch.ones(1, channels, 1, 1))
    assert made.permute(0, 2, 3, 1).is_contiguous() and made.stride()[1] == 1
