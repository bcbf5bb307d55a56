"""When the loop prepares a voice that is on its way in: only while the next block is not in danger, but not never."""

from __future__ import annotations

from types import SimpleNamespace

from rvcd.worker.voice_change import PATIENCE_BLOCKS, VoiceChange
from tests.worker.stream import SwitchOfSteps


def go_on(change: VoiceChange, switch: SwitchOfSteps, spare_ms: float) -> str | None:
    return change.go_on(SimpleNamespace(switch=switch), lambda: spare_ms)  # type: ignore[arg-type]


def new_change() -> VoiceChange:
    return VoiceChange(object())  # type: ignore[arg-type]


def test_steps_that_fit_before_the_next_block_are_done_at_once() -> None:
    switch = SwitchOfSteps(10.0, 10.0, 30.0)
    assert go_on(new_change(), switch, 40.0) == "" and switch.done == 3


def test_a_step_that_would_endanger_a_block_waits_for_another_moment_but_not_for_ever() -> None:
    change, switch = new_change(), SwitchOfSteps(10.0, 45.0)
    for _ in range(PATIENCE_BLOCKS):
        assert go_on(change, switch, 40.0) is None and switch.done == 1
    assert go_on(change, switch, 40.0) == "" and switch.done == 2


def test_once_it_has_waited_long_enough_it_waits_for_nothing_more() -> None:
    change, switch = new_change(), SwitchOfSteps(45.0, 45.0, 45.0)
    for _ in range(PATIENCE_BLOCKS):
        assert go_on(change, switch, 40.0) is None
    assert go_on(change, switch, 40.0) == "" and switch.done == 3


def test_a_voice_that_cannot_be_prepared_is_given_up_and_says_why() -> None:
    switch = SwitchOfSteps(1.0, broken=True)
    assert "NaN or infinite" in str(go_on(new_change(), switch, 40.0)) and switch.cancelled
