"""Which preset is chosen by what blocks take, with converters whose blocks take what they are told, on a clock of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rvcd.config.settings import LATENCY_PRESETS
from rvcd.geometry import StreamGeometry
from rvcd.params import Snapshot
from rvcd.worker import preset_choice
from rvcd.worker.preset_choice import LIMIT_S, PresetMeasurement

NAMES = ("low", "balanced", "safe")
GEOMETRIES = {
    name: StreamGeometry.from_ms(
        rate_hz=16000, block_ms=budget.block_ms, lookahead_ms=budget.lookahead_ms, deadline_ms=budget.deadline_ms,
        context_ms=budget.context_ms,
    )
    for name, budget in LATENCY_PRESETS.items()
}  # fmt: skip


@dataclass
class World:
    """block_ms: what a block of each preset takes. build_s: what making a converter takes. waited_ms: of each block."""

    block_ms: dict[str, float]
    build_s: float = 0.0
    waited_ms: float = 0.0
    now_s: float = 0.0
    made: list[str] = field(default_factory=list)
    resets: int = 0

    def converter(self, geometry: StreamGeometry) -> Any:
        name = next(name for name, known in GEOMETRIES.items() if known == geometry)
        self.now_s += self.build_s
        self.made.append(name)

        def process(block: Any, snapshot: Snapshot) -> Any:
            assert snapshot.gate == -90.0
            assert block.shape == (geometry.block_samples,) and np.abs(block).max() > 0.1
            self.now_s += self.block_ms[name] / 1000
            return SimpleNamespace(timings=SimpleNamespace(total_ms=self.block_ms[name]))

        def reset() -> None:
            self.resets += 1

        return SimpleNamespace(geometry=geometry, applied=Snapshot(), process=process, reset=reset)


class Waiting:
    def __init__(self, world: World) -> None:
        self.look = lambda: world.waited_ms
        self.close = lambda: None


def measured(world: World, monkeypatch: pytest.MonkeyPatch, name: str = "balanced") -> PresetMeasurement:
    monkeypatch.setattr(preset_choice, "WaitingTime", lambda: Waiting(world))
    running = world.converter(GEOMETRIES[name])
    world.made.clear()
    return PresetMeasurement(GEOMETRIES, name, running, world.converter, lambda: world.now_s)


@pytest.mark.parametrize(
    ("low", "balanced", "safe", "chosen"),
    [
        (15.0, 40.0, 50.0, "low"),
        (22.0, 40.0, 50.0, "balanced"),
        (40.0, 90.0, 100.0, "balanced"),
        (60.0, 110.0, 110.0, "safe"),
        (60.0, 150.0, 150.0, "safe"),
    ],
)
def test_the_quickest_preset_that_is_held_comfortably_is_chosen(low, balanced, safe, chosen, monkeypatch) -> None:
    world = World({"low": low, "balanced": balanced, "safe": safe})
    choice = measured(world, monkeypatch).choose(NAMES)
    assert choice.latency == chosen
    assert choice.sure
    assert choice.shares["balanced"] == pytest.approx(balanced / 140)
    assert world.resets == len(choice.shares)


def test_a_preset_that_cannot_be_held_is_not_even_built(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({"low": 30.0, "balanced": 90.0, "safe": 120.0})
    choice = measured(world, monkeypatch).choose(NAMES)
    assert (choice.latency, world.made, list(choice.shares)) == ("balanced", [], ["balanced"])


def test_a_machine_on_which_measuring_takes_long_gets_the_slowest_preset_unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({"low": 600.0, "balanced": 700.0, "safe": 800.0})
    choice = measured(world, monkeypatch).choose(NAMES)
    assert (choice.latency, world.made) == ("safe", [])
    assert world.now_s < 3 * LIMIT_S


def test_nothing_quicker_is_tried_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({"low": 10.0, "balanced": 40.0, "safe": 50.0}, build_s=3.0)
    measurement = measured(world, monkeypatch)
    measurement.clock = iter([0.0, *np.arange(0, 90, 0.1)]).__next__
    assert measurement.choose(NAMES).latency in ("low", "balanced")
    world = World({"low": 10.0, "balanced": 40.0, "safe": 50.0})
    measurement = measured(world, monkeypatch)
    measurement.clock = iter(np.arange(0, 900, LIMIT_S)).__next__
    assert measurement.choose(NAMES).latency == "balanced" and world.made == []


def test_a_choice_beside_a_busy_program_is_not_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({"low": 15.0, "balanced": 40.0, "safe": 50.0}, waited_ms=20.0)
    assert not measured(world, monkeypatch).choose(NAMES).sure


def test_one_slow_block_of_many_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({"low": 15.0, "balanced": 40.0, "safe": 50.0})
    measurement, calls = measured(world, monkeypatch), 0
    process = measurement.running.process

    def stalled_once(block: Any, snapshot: Snapshot) -> Any:
        nonlocal calls
        calls += 1
        made = process(block, snapshot)
        return SimpleNamespace(timings=SimpleNamespace(total_ms=900.0)) if calls == 6 else made

    measurement.running.process = stalled_once  # type: ignore[assignment,method-assign]
    assert measurement.choose(NAMES).latency == "low"
