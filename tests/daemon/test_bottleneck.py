"""The advice names the stage that is over its share, and never one that is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.daemon.bottleneck import ENOUGH_SHARE, PITCH_SHARE, RETRIEVAL_SHARE, Held, Stages, StageWatch, advice
from rvcd.ipc.worker_stats import WorkerStats


def said(stages: Stages, *, deadline_ms: float = 140.0, f0_method: str = "swift", latency_preset: str = "balanced") -> str:
    return advice(stages, deadline_ms=deadline_ms, f0_method=f0_method, latency_preset=latency_preset)


def test_a_large_index_is_named_with_its_time_and_what_to_set() -> None:
    text = said(Stages(40.0, 5.0, 107.6, 60.0, 213.0))
    assert text == "the voice's index takes 108 of the 140 ms that a block may take: set index_rate 0, or use a smaller index"


@pytest.mark.parametrize("method", ["harvest", "rmvpe", "fcpe"])
def test_a_slow_pitch_method_is_named_with_the_fast_one(method: str) -> None:
    text = said(Stages(40.0, 180.0, 1.0, 60.0, 281.0), f0_method=method)
    assert text == f"the pitch method {method} takes 180 of the 140 ms that a block may take: choose f0_method swift"


def test_the_voice_itself_needs_a_longer_latency_then_another_voice_or_a_gpu() -> None:
    stages = Stages(60.0, 5.0, 1.0, 110.0, 178.0)
    assert said(stages).endswith("the voice takes 178 of the 140 ms that a block may take: choose latency_preset safe")
    assert "a voice of a lower rate (32 kHz), or a GPU" in said(stages, latency_preset="safe")
    assert "content encoder is too much" in said(Stages(110.0, 5.0, 1.0, 60.0, 178.0), latency_preset="safe")


def test_blocks_that_are_quick_and_late_are_not_the_voices_fault() -> None:
    assert "another program holds the processor" in said(Stages(20.0, 5.0, 1.0, 30.0, 57.0))


def test_time_that_another_program_took_is_not_the_voices() -> None:
    text = said(Stages(60.0, 5.0, 1.0, 54.0, 120.0, waited_ms=55.0))
    assert text.startswith("a block takes 65 of the 140 ms that a block may take and waits another 55 for the processor")
    assert "another program holds the processor" in text
    assert "the voice takes 120 of" in said(Stages(60.0, 5.0, 1.0, 54.0, 160.0, waited_ms=40.0))


times = st.floats(0.0, 500.0)


@given(times, times, times, times, times, st.floats(10.0, 1000.0), st.sampled_from(["swift", "rmvpe", "harvest"]))
def test_whoever_is_blamed_is_over_its_share(
    encode: float, pitch: float, retrieval: float, synthesis: float, waited: float, deadline: float, method: str
) -> None:
    total = encode + pitch + retrieval + synthesis + 1.0
    stages = Stages(encode, pitch, retrieval, synthesis, total, min(total, waited))
    text = said(stages, deadline_ms=deadline, f0_method=method)
    assert "\n" not in text
    assert len(text) < 200
    assert ("another program" in text) == (stages.computed_ms <= ENOUGH_SHARE * deadline)
    if "the voice's index takes" in text:
        assert retrieval > RETRIEVAL_SHARE * stages.total_ms
    if "the pitch method" in text:
        assert pitch > PITCH_SHARE * stages.total_ms
        assert method != "swift"


def test_the_usual_times_are_the_medians_and_each_block_counts_once() -> None:
    watch = StageWatch()
    assert watch.usual is None
    for block, total in enumerate([100.0, 100.0, 900.0], start=1):
        for _ in range(block):
            watch.look(WorkerStats(1, blocks=block, encode_ms=30.0, total_ms=total))
    assert watch.usual == Stages(30.0, 0.0, 0.0, 0.0, 100.0)


def test_a_sentence_is_held_until_it_can_be_read_and_goes_at_once() -> None:
    held = Held(hold_s=3.0)
    assert held.show("first", 10.0) == "first"
    assert held.show("second", 12.9) == "first"
    assert held.show("third", 13.0) == "third"
    assert held.show("", 13.1) == ""
    assert held.show("fourth", 13.2) == "fourth"


def test_another_workers_blocks_begin_anew() -> None:
    watch = StageWatch()
    watch.look(WorkerStats(1, blocks=5, total_ms=900.0))
    watch.look(WorkerStats(2, blocks=1, total_ms=10.0))
    assert watch.usual is not None
    assert watch.usual.total_ms == 10.0
