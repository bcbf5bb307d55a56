from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.errors import ParamError
from rvcd.geometry import StreamGeometry


def geometry(**changes: float) -> StreamGeometry:
    sizes = {"rate_hz": 48000, "block_ms": 60, "lookahead_ms": 80, "deadline_ms": 60, "context_ms": 1000} | changes
    return StreamGeometry.from_ms(**sizes)


def test_the_latency_is_the_sum_of_its_parts():
    g = geometry()
    assert g.latency_samples == g.block_samples + g.lookahead_samples + g.deadline_samples
    assert g.ms(g.block_samples) == 60 and g.ms(g.deadline_samples) == 60
    assert g.ms(g.lookahead_samples) == 80 + 16


@given(
    rate_hz=st.integers(80, 1920).map(lambda n: 100 * n),
    block=st.integers(1, 50),
    lookahead=st.integers(2, 25),
    past=st.integers(2, 250),
    share=st.floats(0.01, 1.0),
)
def test_every_allowed_size_gives_whole_samples_on_the_unit_grid(rate_hz, block, lookahead, past, share):
    block_ms, context_ms = 20 * block, 20 * (block + lookahead + past)
    g = StreamGeometry.from_ms(
        rate_hz=rate_hz, block_ms=block_ms, lookahead_ms=20 * lookahead, deadline_ms=block_ms * share, context_ms=context_ms
    )
    assert g.window_frames * 10 == context_ms
    assert g.block_samples * 1000 == block_ms * rate_hz
    assert g.block_frames % 2 == g.lookahead_frames % 2 == g.window_frames % 2 == 0
    assert 1 <= g.deadline_samples <= g.block_samples
    assert g.tail_samples >= 0.016 * rate_hz


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"rate_hz": 22050}, ["22050", "multiple of 100"]),
        ({"rate_hz": 4000}, ["4000", "8000..192000"]),
        ({"block_ms": 30}, ["block_ms = 30", "multiple of 20"]),
        ({"block_ms": 0}, ["block_ms = 0", "20..2000"]),
        ({"block_ms": float("nan")}, ["block_ms = nan"]),
        ({"lookahead_ms": 20}, ["lookahead_ms = 20", "40..1000"]),
        ({"context_ms": 60}, ["context_ms = 60", "180..30000"]),
        ({"deadline_ms": 61}, ["deadline_ms = 61", "block_ms = 60"]),
        ({"deadline_ms": 0}, ["deadline_ms = 0"]),
    ],
)
def test_an_impossible_size_is_refused_with_its_value_and_bound(changes, names):
    with pytest.raises(ParamError) as caught:
        geometry(**changes)
    for name in names:
        assert name in str(caught.value)
