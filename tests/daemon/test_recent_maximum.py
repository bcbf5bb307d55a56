"""A maximum that forgets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rvcd.daemon.recent_maximum import RecentMaximum


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_value_is_the_largest_for_a_minute_and_then_forgotten() -> None:
    clock = Clock()
    recent = RecentMaximum(clock=clock)
    assert recent.value() == 0.0
    assert recent.add(7.0) == 7.0
    clock.now_s += 30
    assert recent.add(3.0) == 7.0
    clock.now_s += 29
    assert recent.value() == 7.0
    clock.now_s += 4
    assert recent.value() == 3.0
    clock.now_s += 60
    assert recent.value() == 0.0


@given(st.lists(st.tuples(st.floats(0, 40), st.floats(0, 1e6)), max_size=60))
def test_it_is_never_less_than_the_window_nor_more_than_the_window_and_a_step(additions: list[tuple[float, float]]) -> None:
    clock = Clock()
    recent = RecentMaximum(window_s=60.0, step_s=2.0, clock=clock)
    added: list[tuple[float, float]] = []
    for wait_s, value in additions:
        clock.now_s += wait_s
        added.append((clock.now_s, value))
        largest = recent.add(value)
        assert largest >= max(v for at_s, v in added if at_s > clock.now_s - 60.0)
        assert largest <= max(v for at_s, v in added if at_s > clock.now_s - 62.0)


def test_it_holds_a_bounded_number_of_values_however_often_they_come() -> None:
    clock = Clock()
    recent = RecentMaximum(window_s=60.0, step_s=2.0, clock=clock)
    for _ in range(10_000):
        clock.now_s += 0.03
        recent.add(1.0)
    assert len(recent._steps) <= 32
