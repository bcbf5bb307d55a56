"""The audio loop: each sample at its place or silent, whatever fails or takes too long."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from rvcd.ipc.segment import AudioSegment
from rvcd.ipc.worker_stats import WorkerStats
from rvcd.params import PARAMS, Snapshot
from rvcd.worker.loop import EXIT_TOO_MANY_FAILURES, AudioLoop
from rvcd.worker.voice_change import VoiceChange
from tests.worker.stream import BLOCK, GEOMETRY, HANG_S, RATE_HZ, DelayingConverter, SwitchOfSteps, driven, wait_until


def test_output_sample_n_is_input_sample_n_minus_the_latency() -> None:
    with driven(DelayingConverter()) as stream:
        stream.play_along(60)
        same, silent = stream.account(GEOMETRY.latency_samples + 300)
        assert same == len(stream.heard) - GEOMETRY.latency_samples - 300 and silent == 0
        assert stream.loop.stats.late_blocks == stream.loop.stats.failed_blocks == 0


def test_after_an_overload_the_latency_is_what_it_was_before() -> None:
    go_on = threading.Event()
    converter = DelayingConverter(lambda number: go_on.wait(HANG_S) if number == 20 else None)  # type: ignore[arg-type,return-value]
    with driven(converter) as stream:
        stream.play_along(19)
        stream.play(12)  # the loop is stuck in one block meanwhile
        go_on.set()
        stream.catch_up()
        stats = stream.loop.stats
        assert stats.late_blocks >= 8 and stats.expired_samples >= 8 * BLOCK and converter.absorbed >= 8
        assert stream.segment.counters().late_samples >= 8 * BLOCK
        stream.play_along(40)
        settled = len(stream.heard) - 30 * BLOCK
        assert stream.account(settled) == (30 * BLOCK, 0)


def test_a_hanging_loops_silence_is_counted() -> None:
    stuck, go_on = threading.Event(), threading.Event()

    def hang(number: int) -> None:
        if number == 10:
            stuck.set()
            go_on.wait(HANG_S)

    with driven(DelayingConverter(hang)) as stream:
        stream.play_along(9)
        stream.play()
        assert stuck.wait(HANG_S)
        stream.play(49)
        counters = stream.segment.counters()
        assert counters.late_samples == 48 * BLOCK and counters.late_events == 1
        go_on.set()


def test_a_block_that_raises_is_silent_and_counted_and_the_next_one_is_heard() -> None:
    def fail(number: int) -> None:
        if number in (20, 21):
            raise RuntimeError("a network failed")

    converter = DelayingConverter(fail)
    with driven(converter) as stream:
        stream.play_along(60)
        assert stream.loop.stats.failed_blocks == 2 and converter.recovered == 2
        assert stream.lines == [("error", "block failed (1 in a row): RuntimeError: a network failed")]
        first = 19 * BLOCK + 2 * BLOCK  # block 20 is heard a block and a deadline after its start
        assert not stream.heard[first + 300 : first + 2 * BLOCK].any()
        assert stream.account(first + 2 * BLOCK + 300)[1] == 0


def test_a_late_block_that_raises_is_counted_and_the_loop_goes_on() -> None:
    go_on = threading.Event()
    converter = DelayingConverter(lambda number: go_on.wait(HANG_S) if number == 20 else None)  # type: ignore[arg-type,return-value]

    def fail_once() -> None:
        if converter.absorbed == 1:
            raise RuntimeError("no context")

    converter.absorbing = fail_once
    with driven(converter) as stream:
        stream.play_along(19)
        stream.play(12)
        go_on.set()
        stream.play_along(10)
        assert stream.loop.stats.failed_blocks == 1 and converter.recovered == 1 and stream.exit_status is None
    assert stream.exit_status == 0


def test_ten_failures_in_a_row_end_the_worker() -> None:
    def fail(number: int) -> None:
        if number > 5:
            raise RuntimeError("broken")

    with driven(DelayingConverter(fail)) as stream:
        stream.play_along(15)
        stream.thread.join(HANG_S)
        assert stream.exit_status == EXIT_TOO_MANY_FAILURES and stream.loop.stats.failed_blocks == 10
        assert not stream.segment.worker_ready()


def test_parameters_reach_the_converter_with_the_next_block() -> None:
    converter = DelayingConverter()
    with driven(converter) as stream:
        stream.play_along(3)
        stream.segment.publish_params([7.0, *[param.default for param in PARAMS][1:]])
        stream.play_along()
        assert converter.seen[-1] == Snapshot(pitch=7.0) and converter.seen[-2] == Snapshot()


def test_telemetry_is_published_and_known_by_its_generation() -> None:
    with driven(DelayingConverter()) as stream:
        stream.play_along(30)
        stats = WorkerStats.from_values(stream.segment.read_worker_stats(), 1)
        assert stats.blocks == 30 and stats.f0_hz == pytest.approx(100.0) and stats.voiced == 1.0 and stats.heartbeat_ns > 0
        assert WorkerStats.from_values(stream.segment.read_worker_stats(), 2) == WorkerStats(generation=2.0)


def test_figures_of_nobody_are_zeros() -> None:
    assert WorkerStats.from_values((), 0) == WorkerStats()


def test_without_a_voice_it_follows_the_device_and_takes_one_when_it_comes() -> None:
    with driven(None) as stream:
        stream.play_along(5)
        converter = DelayingConverter()
        stream.loop.call(lambda: stream.loop.use(converter))  # type: ignore[arg-type]
        stream.play_along(30)
        assert converter.number == 30 and stream.account(len(stream.heard) - 20 * BLOCK) == (20 * BLOCK, 0)


def test_a_flush_resets_the_converter_between_two_blocks_while_a_load_goes_on() -> None:
    """A load is on another thread, so a panic's flush never waits for it."""
    converter = DelayingConverter()
    with driven(converter) as stream:
        stream.play_along(3)
        stream.loop.submit(stream.loop.flush)
        stream.loop_is_idle()
        assert converter.resets == 1


def test_an_errand_that_raises_does_so_where_it_was_asked_for_and_the_loop_goes_on() -> None:
    def fail() -> None:
        raise KeyError("pitch")

    with driven(DelayingConverter()) as stream:
        with pytest.raises(KeyError, match="pitch"):
            stream.loop.call(fail)
        stream.play_along(3)
        assert stream.loop.stats.blocks == 3


def test_other_sizes_begin_now_and_the_time_before_is_silence_not_loss() -> None:
    with driven(DelayingConverter()) as stream:
        stream.play_along(10)
        stream.loop.call(lambda: stream.loop.resize(GEOMETRY, None))
        stream.loop.call(lambda: stream.loop.use(DelayingConverter()))  # type: ignore[arg-type]
        before = stream.segment.counters()
        stream.play_along(30)
        after = stream.segment.counters()
        assert (after.late_samples, after.gap_samples) == (before.late_samples, before.gap_samples)
        assert stream.account(len(stream.heard) - 20 * BLOCK) == (20 * BLOCK, 0)


def test_a_voice_on_its_way_is_prepared_between_blocks_and_its_end_is_told() -> None:
    converter = DelayingConverter()
    converter.switch = SwitchOfSteps(0.1, 0.1)  # type: ignore[assignment]
    with driven(converter) as stream:
        change = VoiceChange(object())  # type: ignore[arg-type]
        stream.loop.call(lambda: stream.loop.begin_change(change))
        assert not change.ended.is_set()
        stream.play_along(40)
        assert change.ended.is_set() and change.error == "" and converter.switch.done == 2


def test_a_voice_that_is_not_wanted_any_more_is_given_up() -> None:
    converter = DelayingConverter()
    converter.switch = SwitchOfSteps(1e9)  # type: ignore[assignment]
    with driven(converter) as stream:
        change = VoiceChange(object())  # type: ignore[arg-type]
        stream.loop.call(lambda: stream.loop.begin_change(change))
        stream.loop.call(lambda: stream.loop.cancel_change("another voice is wanted"))
        assert change.ended.is_set() and change.error == "another voice is wanted" and converter.switch.cancelled == 1


@pytest.fixture
def resting_loop() -> AudioLoop:
    """At position 0 a block of 20 ms is awaited, and may then take 20 ms to compute."""
    segment = AudioSegment.create(RATE_HZ)
    return AudioLoop(segment, GEOMETRY, 1, lambda level, text: None)


def test_the_time_to_spare_reaches_until_the_next_block_must_be_begun(resting_loop: AudioLoop) -> None:
    assert resting_loop._spare_ms() == 40.0


def test_there_is_less_time_where_blocks_usually_take_long(resting_loop: AudioLoop) -> None:
    resting_loop._loads.extend([0.8] * 50)  # 16 of 20 ms: 4 are to spare, and 20 until the next block is here
    assert resting_loop._spare_ms() == pytest.approx(24.0)


def test_a_block_that_is_here_already_leaves_only_what_its_deadline_leaves(resting_loop: AudioLoop) -> None:
    resting_loop._position = -BLOCK
    assert resting_loop._spare_ms() == 20.0
    resting_loop.segment.close()


def test_loading_goes_on_while_the_loop_waits_and_not_while_it_computes() -> None:
    computing, go_on = threading.Event(), threading.Event()

    def compute(number: int) -> None:
        if number == 2:
            computing.set()
            go_on.wait(HANG_S)

    with driven(DelayingConverter(compute)) as stream:
        stream.play_along()
        wait_until(stream.loop.idle._idle.is_set)
        stream.play()
        assert computing.wait(HANG_S)
        assert not stream.loop.idle._idle.is_set()
        go_on.set()
        stream.catch_up()
        wait_until(stream.loop.idle._idle.is_set)
    assert np.isfinite(stream.heard).all()
