"""The device's part of the published latency: never below 0, and the configured offset in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.daemon.device_buffers import device_buffers

MS = st.floats(-50, 3000)


def test_an_offset_is_added_to_the_output() -> None:
    assert device_buffers(5.0, 10.0, 7.5).out_ms == 17.5
    assert device_buffers(5.0, 10.0, 7.5).in_ms == 5.0


@given(MS, MS, st.floats(-1000, 1000))
def test_nothing_is_below_0_and_the_sum_is_what_was_said_and_the_offset(in_ms: float, out_ms: float, offset_ms: float) -> None:
    buffers = device_buffers(in_ms, out_ms, offset_ms)
    said = max(0.0, in_ms) + max(0.0, out_ms)
    assert buffers.in_ms >= 0.0 and buffers.out_ms >= 0.0
    assert buffers.in_ms + buffers.out_ms == pytest.approx(max(0.0, said + offset_ms))
    assert buffers.offset_ms == pytest.approx(max(-said, offset_ms))
