from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.errors import RvcdError
from rvcd.osc.job_queue import Job, JobQueues, Order
from rvcd.osc.session import SupersededError


@dataclass
class Log:
    """What happened to jobs, in order. Each job waits for its gate."""

    begun: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    failed: dict[int, Exception] = field(default_factory=dict)
    gates: dict[int, asyncio.Event] = field(default_factory=dict)

    def job(self, number: int, kind: str, order: Order, work: Callable[[], Awaitable[None]] | None = None) -> Job:
        gate = self.gates[number] = asyncio.Event()

        async def wait() -> None:
            self.begun.append(number)
            await (work() if work is not None else gate.wait())
            self.done.append(number)

        def fail(error: Exception) -> None:
            assert number not in self.failed and number not in self.done, "told once"
            self.failed[number] = error

        return Job(kind, order, wait, fail)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_jobs_of_one_kind_run_in_turn_and_those_of_another_do_not_wait_for_them() -> None:
    async def run() -> None:
        log, queues = Log(), JobQueues()
        for number in (1, 2):
            queues.submit(log.job(number, "presets", Order.IN_TURN))
        queues.submit(log.job(3, "recording", Order.IN_TURN))
        await settle()
        assert log.begun == [1, 3]
        log.gates[3].set()
        log.gates[2].set()
        await settle()
        assert log.done == [3]
        log.gates[1].set()
        await settle()
        assert log.done == [3, 1, 2]

    asyncio.run(run())


def test_jobs_that_run_at_once_begin_in_the_order_in_which_they_came() -> None:
    async def run() -> None:
        log, queues = Log(), JobQueues()
        for number in range(5):
            queues.submit(log.job(number, "voice", Order.AT_ONCE))
        await settle()
        assert log.begun == [0, 1, 2, 3, 4]
        log.gates[4].set()
        await settle()
        assert log.done == [4]
        await queues.close()

    asyncio.run(run())


def test_beyond_the_limit_a_waiting_job_is_refused_and_of_those_at_once_the_oldest_is_given_up() -> None:
    async def run() -> None:
        log, queues = Log(), JobQueues(max_jobs=2)
        for number in (1, 2, 3):
            queues.submit(log.job(number, "presets", Order.IN_TURN))
        for number in (11, 12, 13):
            queues.submit(log.job(number, "voice", Order.AT_ONCE))
        await settle()
        assert set(log.failed) == {3, 11}
        assert "2 such commands wait already" in str(log.failed[3])
        assert isinstance(log.failed[11], SupersededError)
        for gate in log.gates.values():
            gate.set()
        await settle()
        assert sorted(log.done) == [1, 2, 12, 13]
        queues.submit(log.job(4, "presets", Order.IN_TURN))
        log.gates[4].set()
        await settle()
        assert 4 in log.done, "there is room again"

    asyncio.run(run())


def test_a_job_that_never_ends_fails_and_the_next_in_turn_begins() -> None:
    async def run() -> None:
        log, queues = Log(), JobQueues(timeout_s=0.05)
        queues.submit(log.job(1, "presets", Order.IN_TURN))
        second = log.job(2, "presets", Order.IN_TURN)
        log.gates[2].set()
        queues.submit(second)
        while 2 not in log.done:
            await asyncio.sleep(0.01)
        assert str(log.failed[1]) == "no result after 0.05 s"

    asyncio.run(run())


@pytest.mark.parametrize("error", [RvcdError("the disk is full"), ZeroDivisionError("a defect")])
def test_what_a_job_raises_is_told_and_the_next_in_turn_begins(error: Exception) -> None:
    async def run() -> None:
        log, queues = Log(), JobQueues()

        async def work() -> None:
            raise error

        queues.submit(log.job(1, "presets", Order.IN_TURN, work))
        queues.submit(log.job(2, "presets", Order.IN_TURN))
        log.gates[2].set()
        await settle()
        assert log.failed == {1: error}
        assert log.done == [2]

    asyncio.run(run())


def test_closing_ends_every_job_and_refuses_new_ones() -> None:
    async def run() -> None:
        log, queues = Log(), JobQueues()
        for number in (1, 2, 3):
            queues.submit(log.job(number, "presets", Order.IN_TURN))
            queues.submit(log.job(10 + number, "voice", Order.AT_ONCE))
        await settle()
        await queues.close()
        assert log.done == [] and log.failed == {}
        queues.submit(log.job(4, "presets", Order.IN_TURN))
        assert str(log.failed[4]) == "rvcd is stopping"
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


@given(st.lists(st.sampled_from(["in turn a", "in turn b", "at once a", "end one", "let it run"]), max_size=60), st.randoms())
@settings(max_examples=150, deadline=None)
def test_whatever_comes_in_whatever_order_each_job_ends_once_and_those_in_turn_keep_theirs(steps: list[str], rng: object) -> None:
    async def run() -> None:
        log, queues, limit = Log(), JobQueues(max_jobs=4), 4
        kinds: dict[int, str] = {}
        for number, step in enumerate(steps):
            if step == "end one" and log.gates:
                log.gates[rng.choice(list(log.gates))].set()  # type: ignore[attr-defined]
            elif step == "let it run":
                await settle()
                for kind in set(kinds.values()):
                    left = [n for n, k in kinds.items() if k == kind and n not in log.done and n not in log.failed]
                    assert len(left) <= limit
            elif step.startswith(("in turn", "at once")):
                kinds[number] = step
                queues.submit(log.job(number, step, Order.IN_TURN if step.startswith("in turn") else Order.AT_ONCE))
        for gate in log.gates.values():
            gate.set()
        for _ in range(5):
            await settle()
        assert sorted([*log.done, *log.failed]) == sorted(kinds)
        for kind in ("in turn a", "in turn b"):
            order = [number for number in log.begun if kinds[number] == kind]
            assert order == sorted(order)
            assert order == [number for number in log.done if kinds[number] == kind], "the next begins when one has ended"
        newest = max((number for number, kind in kinds.items() if kind == "at once a"), default=None)
        assert newest is None or newest in log.done, "the newest is never given up"
        await queues.close()

    asyncio.run(run())
