"""What the log says of the audio system's queues, and that it says it seldom."""

from __future__ import annotations

from dataclasses import fields

from rvcd.audio.queue_watch import SAY_AGAIN_S, QueueWatch
from rvcd.ipc.segment import CallbackCounters

NONE = CallbackCounters(**{field.name: 0 for field in fields(CallbackCounters)})


def stale(samples: int) -> CallbackCounters:
    return CallbackCounters(**{**{field.name: 0 for field in fields(CallbackCounters)}, "stale_samples": samples})


def test_a_settled_latency_is_said_once_and_again_when_it_is_another_one() -> None:
    watch = QueueWatch()
    assert watch.look(0.0, NONE, 48000, 0.0) == []
    ((level, text),) = watch.look(1.0, NONE, 48000, 73.1)
    assert level == "info" and "73.1 ms" in text
    assert watch.look(2.0, NONE, 48000, 73.1) == []
    assert len(watch.look(3.0, NONE, 48000, 93.0)) == 1


def test_what_was_dropped_is_said_and_not_at_every_stall() -> None:
    watch = QueueWatch()
    assert watch.look(0.0, stale(100), 48000, 0.0) == []
    ((level, text),) = watch.look(1.0, stale(100 + 19200), 48000, 0.0)
    assert level == "warning" and text.startswith("400 ms of the microphone")
    assert watch.look(2.0, stale(100 + 2 * 19200), 48000, 0.0) == []
    ((_, later),) = watch.look(2.0 + SAY_AGAIN_S, stale(100 + 3 * 19200), 48000, 0.0)
    assert later.startswith("800 ms")


def test_a_few_milliseconds_are_left_to_the_counters() -> None:
    watch = QueueWatch()
    assert watch.look(0.0, NONE, 48000, 0.0) == watch.look(1.0, stale(480), 48000, 0.0) == []
