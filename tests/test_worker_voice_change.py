"""When the worker prepares a voice that is on its way in: only while the next block is not in danger, but not never."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from rvcd.audio.ring import AudioSegment
from rvcd.engine.converter import EngineError
from rvcd.engine.incoming import Step
from rvcd.worker import PATIENCE_BLOCKS, VoiceChange, Worker
from rvcd.worker_protocol import VoiceRequest, receive
from tests.test_worker import GEOMETRY, RATE_HZ, SETUP


class Preparing:
    """A converter with so many steps to prepare, each of a known cost."""

    def __init__(self, *costs_ms: float, broken: bool = False) -> None:
        self.left, self.done, self.broken = list(costs_ms), 0, broken
        self.geometry = GEOMETRY
        self.incoming: object | None = object()

    def step_cost_ms(self, step: Step) -> float:
        return self.left[0]

    def next_step(self) -> Step | None:
        return Step.JOIN if self.left and self.incoming is not None else None

    def prepare(self) -> None:
        if self.broken:
            raise EngineError("the new voice's networks gave NaN or infinite samples")
        self.left.pop(0)
        self.done += 1


@contextmanager
def changing(converter: Preparing, name: str = "Anna") -> Iterator[tuple[Worker, socket.socket]]:
    """A worker without a device: at position 0 a block of 20 ms is awaited, and may then take 20 ms to compute."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, AudioSegment.create(RATE_HZ) as segment:
        worker = Worker(segment, theirs, SETUP)
        voice = SimpleNamespace(spec=SimpleNamespace(speaker_names=("solo",)))
        worker.change = VoiceChange(7, VoiceRequest(name, "x.pth"), SimpleNamespace(voice=voice))  # type: ignore[arg-type]
        yield worker, ours


def bring_in(worker: Worker, converter: Preparing, position: int = 0) -> None:
    worker._bring_in_voice(converter, position)  # type: ignore[arg-type]


def test_steps_that_fit_before_the_next_block_are_done_at_once_and_the_change_is_told() -> None:
    converter = Preparing(10.0, 10.0, 30.0)
    with changing(converter) as (worker, channel):
        bring_in(worker, converter)
        assert converter.done == 3 and worker.change is None
        assert receive(channel) == {"event": "result", "id": 7, "name": "Anna", "error": "", "speakers": ["solo"]}


def test_a_step_that_would_endanger_a_block_waits_for_another_moment_but_not_for_ever() -> None:
    converter = Preparing(10.0, 45.0)
    with changing(converter) as (worker, _):
        for block in range(PATIENCE_BLOCKS):
            bring_in(worker, converter)
            assert converter.done == 1 and worker.change is not None, block
        bring_in(worker, converter)
        assert converter.done == 2 and worker.change is None


def test_once_it_has_waited_long_enough_it_waits_for_nothing_more() -> None:
    converter = Preparing(45.0, 45.0, 45.0)
    with changing(converter) as (worker, _):
        for _ in range(PATIENCE_BLOCKS + 1):
            bring_in(worker, converter)
        assert converter.done == 3 and worker.change is None


def test_there_is_less_time_where_blocks_usually_take_long() -> None:
    converter = Preparing(30.0)
    with changing(converter) as (worker, _):
        worker.counters.loads.extend([0.8] * 50)  # 16 of 20 ms: 4 are to spare, and 20 until the next block is here
        bring_in(worker, converter)
        assert converter.done == 0
        converter.left[0] = 23.0
        bring_in(worker, converter)
        assert converter.done == 1


@pytest.mark.parametrize("position", [0, -GEOMETRY.block_samples])
def test_a_block_that_is_here_already_leaves_only_what_its_deadline_leaves(position: int) -> None:
    converter = Preparing(25.0)
    with changing(converter) as (worker, _):
        bring_in(worker, converter, position)
        assert converter.done == (position == 0)


def test_a_voice_that_cannot_be_prepared_is_told_and_the_old_one_goes_on() -> None:
    converter = Preparing(1.0, broken=True)
    with changing(converter) as (worker, channel):
        bring_in(worker, converter)
        assert converter.incoming is None and worker.change is None and worker.live is None
        answer = receive(channel)
        assert answer is not None and "Anna: the new voice's networks gave NaN" in answer["error"]
