"""When the loop prepares a voice that is on its way in: only while the next block is not in danger, but not never."""

from __future__ import annotations

from types import SimpleNamespace

from rvcd.engine.converter import EngineError
from rvcd.worker.voice_change import PATIENCE_BLOCKS, VoiceChange


class Switch:
    """A voice switch with so many steps, each of a known cost."""

    def __init__(self, *costs_ms: float, broken: bool = False) -> None:
        self.left, self.done, self.broken, self.cancelled = list(costs_ms), 0, broken, False

    def next_step(self) -> str | None:
        return "join" if self.left else None

    def step_cost_ms(self, step: str) -> float:
        return self.left[0]

    def prepare(self) -> None:
        if self.broken:
            raise EngineError("the new voice's networks gave NaN or infinite samples")
        self.left.pop(0)
        self.done += 1

    def cancel(self) -> None:
        self.cancelled = True


def go_on(change: VoiceChange, switch: Switch, spare_ms: float) -> str | None:
    return change.go_on(SimpleNamespace(switch=switch), lambda: spare_ms)  # type: ignore[arg-type]


def new_change() -> VoiceChange:
    return VoiceChange(object())  # type: ignore[arg-type]


def test_steps_that_fit_before_the_next_block_are_done_at_once() -> None:
    switch = Switch(10.0, 10.0, 30.0)
    assert go_on(new_change(), switch, 40.0) == "" and switch.done == 3


def test_a_step_that_would_endanger_a_block_waits_for_another_moment_but_not_for_ever() -> None:
    change, switch = new_change(), Switch(10.0, 45.0)
    for _ in range(PATIENCE_BLOCKS):
        assert go_on(change, switch, 40.0) is None and switch.done == 1
    assert go_on(change, switch, 40.0) == "" and switch.done == 2


def test_once_it_has_waited_long_enough_it_waits_for_nothing_more() -> None:
    change, switch = new_change(), Switch(45.0, 45.0, 45.0)
    for _ in range(PATIENCE_BLOCKS):
        assert go_on(change, switch, 40.0) is None
    assert go_on(change, switch, 40.0) == "" and switch.done == 3


def test_a_voice_that_cannot_be_prepared_is_given_up_and_says_why() -> None:
    switch = Switch(1.0, broken=True)
    assert "NaN or infinite" in str(go_on(new_change(), switch, 40.0)) and switch.cancelled
