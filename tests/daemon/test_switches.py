"""Mute, panic, bypass and the talk key: what is heard follows from them, and the key's moves are heard in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.daemon.switches import Switches, TalkKey
from rvcd.errors import RvcdError
from rvcd.ipc.segment import AudioSegment


class Clock:
    """Runs functions later, when time is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waiting: list[tuple[float, int, Callable[[], None]]] = []

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        self.waiting.append((self.now_s + delay_s, len(self.waiting), work))

    def move(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while due := sorted((entry for entry in self.waiting if entry[0] <= end_s), key=lambda entry: entry[0]):
            self.waiting.remove(due[0])
            self.now_s = due[0][0]
            due[0][2]()
        self.now_s = end_s


@pytest.fixture
def segment() -> Iterator[AudioSegment]:
    with AudioSegment.create(48000) as made:
        yield made


def switches_of(segment: AudioSegment, clock: Clock, talk_mode: str = "off") -> Switches:
    made = Switches(segment, talk_mode, TalkKey(clock.later, lambda: made.apply()))
    made.apply()
    return made


def test_a_press_and_a_release_are_heard_later_by_the_latency() -> None:
    clock, heard = Clock(), []
    key = TalkKey(clock.later, lambda: heard.append((clock.now_s, key.heard)))
    key.move(True, 0.5)
    clock.move(1.0)
    key.move(False, 0.5)
    clock.move(1.0)
    assert heard == [(0.5, True), (1.5, False)]


def test_a_latency_that_shrinks_between_press_and_release_does_not_leave_the_key_down() -> None:
    clock = Clock()
    key = TalkKey(clock.later, lambda: None)
    key.move(True, 1.0)
    clock.move(0.1)
    key.move(False, 0.2)  # heard before the press would have been
    clock.move(5.0)
    assert not key.heard


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 2), st.floats(0, 2)), max_size=20))
def test_in_the_end_the_key_is_heard_as_it_is_held(moves: list[tuple[bool, float, float]]) -> None:
    clock = Clock()
    key = TalkKey(clock.later, lambda: None)
    for held, latency_s, pause_s in moves:
        key.move(held, latency_s)
        clock.move(pause_s)
    clock.move(10.0)
    assert key.heard == key.held


def test_the_raw_voice_is_heard_only_where_the_user_chose_it(segment: AudioSegment) -> None:
    clock = Clock()
    assert not switches_of(segment, clock).raw
    assert not switches_of(segment, clock, "push-to-talk").raw
    converts = switches_of(segment, clock, "push-to-convert")
    assert converts.raw
    converts.set("talk", True, 0.1)
    clock.move(0.2)
    assert not converts.raw


def test_push_to_talk_is_on_standby_until_the_key_is_heard(segment: AudioSegment) -> None:
    clock = Clock()
    made = switches_of(segment, clock, "push-to-talk")
    assert made.standby
    made.set("talk", True, 0.1)
    clock.move(0.2)
    assert not made.standby and made.get("talk")


def test_a_talk_key_without_a_mode_says_what_to_set(segment: AudioSegment) -> None:
    with pytest.raises(RvcdError, match=r"talk\.mode is 'off'"):
        switches_of(segment, Clock()).set("talk", True, 0.1)
