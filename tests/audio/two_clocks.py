"""Two simulated devices, each with its own clock: what the resampler between them does, in no time and the same each time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rvcd.ipc._native import ffi, lib

START_NS = 10**15
"""Far from this machine's own clock: nothing may depend on it."""


@dataclass
class Side:
    """One device. ppm: of its clock against true time. jitter_s: the most that a call comes late. late(t): by how much more."""

    rate_hz: float
    period_samples: int
    ppm: Callable[[float], float] = lambda t: 0.0
    jitter_s: float = 0.0
    late_s: Callable[[float], float] = lambda t: 0.0
    lost: Callable[[float], bool] = lambda t: False
    """The period's samples never arrive."""


@dataclass
class Outcome:
    """What was heard, and once a call, by the end of the simulation: true time (s), the true delay (ms) and the loop's drift."""

    samples: NDArray[np.float32]
    time_s: list[float] = field(default_factory=list)
    delay_ms: list[float] = field(default_factory=list)
    drift_ppm: list[float] = field(default_factory=list)
    starved: int = 0
    recentred: int = 0

    def after(self, start_s: float) -> NDArray[np.float64]:
        """The delays from start_s on."""
        return np.array([d for t, d in zip(self.time_s, self.delay_ms, strict=True) if t >= start_s])


class Simulation:
    """Capture and output in the order of their times.

    signal: the sample at a source position (an array in, an array out). keep: whether to return what was heard.
    """

    def __init__(self, capture: Side, output: Side, fill_samples: float, signal: Callable[[Any], Any], *, seed: int = 0) -> None:
        self.capture, self.output, self.fill_samples, self.signal = capture, output, fill_samples, signal
        self._random = np.random.default_rng(seed)

    def run(self, duration_s: float, *, keep: bool = True) -> Outcome:
        drift = lib.rvcd_drift_new(self.capture.rate_hz, self.output.rate_hz, self.fill_samples)
        assert drift != ffi.NULL
        heard: list[NDArray[np.float32]] = []
        outcome = Outcome(np.zeros(0, np.float32))
        figures = ffi.new("rvcd_drift_figures *")
        buffer = np.zeros(self.output.period_samples, np.float32)
        out = ffi.from_buffer("float[]", buffer, require_writable=True)
        true_s = {"capture": 0.0, "output": 0.0021}
        # A queue of calls by the time that they really happen; a side's calls keep their order.
        queue: list[tuple[float, int, str, float]] = [(0.0, 0, "capture", 0.0), (0.0021, 1, "output", 0.0021)]
        last_s = {"capture": 0.0, "output": 0.0}
        position, pushed, order = 0, 0, 2
        captured = (0.0, 0)  # true time, samples that arrived
        while queue:
            happens_s, _, name, due_s = heapq.heappop(queue)
            if due_s > duration_s:
                break
            now_ns = START_NS + int(happens_s * 1e9)
            side = self.capture if name == "capture" else self.output
            count = side.period_samples
            if name == "capture":
                if not side.lost(due_s):
                    block = np.ascontiguousarray(self.signal(np.arange(position, position + count)), np.float32)
                    lib.rvcd_drift_push(drift, ffi.from_buffer("float[]", block), count, now_ns)
                    pushed += count
                position += count
                captured = (due_s, pushed)
            else:
                lib.rvcd_drift_pull(drift, out, count, now_ns)
                lib.rvcd_drift_read(drift, figures)
                outcome.time_s.append(due_s)
                outcome.drift_ppm.append(figures.drift_ppm)
                rate_hz = self.capture.rate_hz * (1.0 + 1e-6 * self.capture.ppm(due_s))
                there = captured[1] + (due_s - captured[0]) * rate_hz
                outcome.delay_ms.append(1000.0 * (there - figures.read_from) / rate_hz)
                if keep:
                    heard.append(buffer.copy())
            true_s[name] += count / (side.rate_hz * (1.0 + 1e-6 * side.ppm(due_s)))
            late_s = side.late_s(true_s[name]) + (side.jitter_s * self._random.random() if side.jitter_s else 0.0)
            last_s[name] = max(last_s[name], true_s[name] + late_s)
            order += 1
            heapq.heappush(queue, (last_s[name], order, name, true_s[name]))
        outcome.starved, outcome.recentred = int(figures.starved), int(figures.recentred)
        outcome.samples = np.concatenate(heard) if heard else outcome.samples
        lib.rvcd_drift_free(drift)
        return outcome
