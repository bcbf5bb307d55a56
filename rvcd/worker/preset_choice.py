"""Which latency preset a machine holds with a voice: measured before anything is heard, in about two seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rvcd.engine.converter import Converter
from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import Choice
from rvcd.worker.waiting_time import WaitingTime

LIMIT_S = 2.0
"""Nothing more is begun after so long."""
MOST_BLOCKS, LEAST_BLOCKS, EACH_S = 12, 4, 0.8
USUAL_QUANTILE = 0.8
COMFORTABLE_SHARE = 0.7
"""A block that usually takes up to so much of its deadline is in time beside a browser too. Never a choppy start: the rest of
the deadline is for what the measurement did not see."""
DISTURBED_SHARE = 0.15
"""Of the measured time. More of it spent waiting for the processor is another program's doing."""

Clock = Callable[[], float]


@dataclass
class PresetMeasurement:
    """fresh: makes a warm converter for a geometry. running: the one that is there, of the preset `name`."""

    geometries: Mapping[str, StreamGeometry]
    name: str
    running: Converter
    fresh: Callable[[StreamGeometry], Converter]
    clock: Clock = time.perf_counter

    def __post_init__(self) -> None:
        self.converters: dict[str, Converter] = {self.name: self.running}
        """Of the presets that were measured."""
        self._shares: dict[str, float] = {}
        self._usual_ms: dict[str, float] = {}
        self._spent_ms = self._waited_ms = 0.0

    def choose(self, names: Sequence[str]) -> Choice:
        """Return the quickest preset that is held comfortably, the slowest if none is. names: the quickest first."""
        began, waiting = self.clock(), WaitingTime()
        try:
            waiting.look()
            latency = self._chosen(names, lambda: self.clock() - began < LIMIT_S, waiting)
        finally:
            waiting.close()
        shares = {name: self._shares[name] for name in names if name in self._shares}
        return Choice(latency, shares, self._waited_ms <= DISTURBED_SHARE * self._spent_ms)

    def _chosen(self, names: Sequence[str], has_time: Callable[[], bool], waiting: WaitingTime) -> str:
        here = names.index(self.name)
        if self._is_comfortable(self.name, waiting):
            quicker = [name for name in names[:here] if has_time() and not self._is_hopeless(name)]
            return next((name for name in quicker if has_time() and self._is_comfortable(name, waiting)), self.name)
        for name in names[here + 1 :]:
            if not has_time() or self._is_comfortable(name, waiting):
                return name
        return names[-1]

    def _is_hopeless(self, name: str) -> bool:
        """Say whether even a block that costs no more for each of its frames would take too long."""
        known, wanted = self.geometries[self.name], self.geometries[name]
        least_ms = self._usual_ms[self.name] * wanted.block_frames / known.block_frames
        return least_ms > COMFORTABLE_SHARE * wanted.ms(wanted.deadline_samples)

    def _is_comfortable(self, name: str, waiting: WaitingTime) -> bool:
        geometry = self.geometries[name]
        if name not in self.converters:
            self.converters[name] = self.fresh(geometry)
        waiting.look()
        self._usual_ms[name] = self._usual(self.converters[name], waiting)
        self._shares[name] = self._usual_ms[name] / geometry.ms(geometry.deadline_samples)
        return self._shares[name] <= COMFORTABLE_SHARE

    def _usual(self, converter: Converter, waiting: WaitingTime) -> float:
        """Return what a block usually takes, in milliseconds. Computes every block: the gate is off."""
        gate_off = replace(converter.applied, gate=-90.0)
        noise = (0.1 * np.random.default_rng(2).standard_normal(converter.geometry.block_samples)).astype(np.float32)
        spent_ms: list[float] = []
        until = self.clock() + EACH_S
        # The first blocks of a stream are not the usual ones: less past, and nothing decoded.
        for _ in range(-(-converter.geometry.lookahead_samples // converter.geometry.block_samples) + 1):
            converter.process(noise, gate_off)
        while len(spent_ms) < LEAST_BLOCKS or (len(spent_ms) < MOST_BLOCKS and self.clock() < until):
            spent_ms.append(converter.process(noise, gate_off).timings.total_ms)
            self._waited_ms += waiting.look()
        converter.reset()
        self._spent_ms += sum(spent_ms)
        return float(np.quantile(spent_ms, USUAL_QUANTILE))
