"""Work beside the converter's thread: nobody else's lock holds it up, and no thread outlives its converter."""

from __future__ import annotations

import concurrent.futures.thread
import gc
import threading
from functools import partial

import pytest

from rvcd.engine.side_thread import SideThread
from tests.engine.test_converter import PLAIN, RATE_HZ, make
from tests.support import FakePitch, speech_like

LONG_ENOUGH_S = 60.0
"""Nothing here takes more than milliseconds; what does not end in this time stands still for ever."""


def threads_named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def fail(reason: str) -> None:
    raise ValueError(reason)


def converter_with_a_spare_core(pitch: FakePitch | None = None):
    converter = make(pitch=pitch)
    converter._has_spare_core = lambda: True
    return converter


def test_work_runs_on_another_thread_and_is_done_once_it_was_waited_for():
    aside, seen = SideThread("aside"), []
    for number in range(100):
        aside.begin(lambda number=number: seen.append((number, threading.current_thread().name)))
        aside.wait()
        assert seen[-1] == (number, "aside")


def test_what_the_work_raised_is_raised_by_the_wait_and_the_thread_goes_on():
    aside, seen = SideThread("aside"), []
    aside.begin(partial(fail, "no pitch today"))
    with pytest.raises(ValueError, match="no pitch today"):
        aside.wait()
    aside.wait()
    aside.begin(lambda: seen.append(1))
    aside.wait()
    assert seen == [1]


def test_work_that_was_not_waited_for_is_not_forgotten_silently():
    aside = SideThread("aside")
    aside.begin(lambda: None)
    with pytest.raises(RuntimeError, match="aside has not been waited for"):
        aside.begin(lambda: None)


@pytest.mark.parametrize("raises", [False, True])
def test_the_thread_ends_when_its_owner_is_dropped_even_while_it_works(raises):
    aside, begun, go_on = SideThread("short-lived"), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(LONG_ENOUGH_S)
        if raises:
            raise ValueError

    aside.begin(work)
    assert begun.wait(LONG_ENOUGH_S)
    (thread,) = threads_named("short-lived")
    del aside
    go_on.set()
    thread.join(LONG_ENOUGH_S)
    assert not thread.is_alive()


def test_converters_that_are_thrown_away_leave_no_thread_behind():
    audio = speech_like(RATE_HZ, 0.3)
    before = set(threads_named("pitch"))
    for _ in range(5):
        converter = converter_with_a_spare_core()
        converter.process(audio[: converter.geometry.block_samples], PLAIN)
    started = set(threads_named("pitch")) - before
    assert started, "the pitch was estimated beside the encoder"
    del converter
    gc.collect()
    for thread in started:
        thread.join(LONG_ENOUGH_S)
        assert not thread.is_alive()


def test_blocks_are_converted_while_somebody_holds_the_lock_of_all_executors():
    converter, converted = converter_with_a_spare_core(), threading.Event()

    def convert() -> None:
        for start in range(0, 10 * converter.geometry.block_samples, converter.geometry.block_samples):
            converter.process(speech_like(RATE_HZ, 1.0)[start:][: converter.geometry.block_samples], PLAIN)
        converted.set()

    with concurrent.futures.thread._global_shutdown_lock:
        threading.Thread(target=convert, daemon=True).start()
        assert converted.wait(LONG_ENOUGH_S)


def test_a_pitch_method_that_fails_fails_its_block_only():
    class Failing(FakePitch):
        fails = False

        def estimate(self, audio_16k):
            return fail("no pitch today") if self.fails else super().estimate(audio_16k)

    method = Failing()
    converter = converter_with_a_spare_core(method)
    size, audio = converter.geometry.block_samples, speech_like(RATE_HZ, 1.5) + 0.05
    for number in range(20):
        block = audio[number * size :][:size]
        method.fails = number == 10
        if method.fails:
            with pytest.raises(ValueError, match="no pitch today"):
                converter.process(block, PLAIN)
            converter.recover()
        else:
            heard = converter.process(block, PLAIN)
    assert heard.f0_hz == 200.0
