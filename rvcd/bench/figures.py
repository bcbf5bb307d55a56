"""From milliseconds to a verdict: percentiles, late blocks, whether a case holds, which one to use. Pure functions."""

from __future__ import annotations

import enum
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rvcd.bench.plan import Case
from rvcd.bench.tasks import Compared, Environment, Measured, StartUp
from rvcd.config.settings import LATENCY_PRESETS
from rvcd.geometry import SYNTHESIS_TAIL_MS

STAGES: Mapping[str, str] = {
    "encode_ms": "content encoder",
    "pitch_ms": "F0, waited for",
    "retrieval_ms": "retrieval",
    "prior_ms": "enc_p and flow",
    "decode_ms": "decoder",
    "resample_ms": "resampling",
    "other_ms": "the rest",
    "total_ms": "total",
    "pitch_own_ms": "F0, its own time",
}
"""The stages of engine.stopwatch.Timings as people read them. The total is the sum of those before it; F0 may run beside them."""
RARELY = 0.01
"""Late blocks up to this share are what a p99 within the deadline allows."""
MOSTLY = 0.05
"""Beyond this share of late blocks nobody would call it working."""


@dataclass(frozen=True)
class Spread:
    """How a series lies. Percentiles interpolate between the two nearest values."""

    median: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """values: at least one."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0], values[0])
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        return cls(statistics.median(values), cuts[94], cuts[98], max(values))


class Level(str, enum.Enum):
    """How a case does live."""

    HOLDS = "holds"
    MOSTLY = "holds mostly"
    FAILS = "does not hold"
    UNMEASURED = "not measured"


@dataclass(frozen=True)
class Figures:
    """One measured case.

    load: the median block's computing time / its length; a stall from outside shows in load_mean (over all blocks) and as late
    blocks. headroom: 1 - p99 / deadline, negative beyond it. late_blocks: those of blocks that would have missed their deadline
    live, the ones delayed by the block before included.
    """

    case: Case
    environment: Environment
    start_up: StartUp
    stages: Mapping[str, Spread]
    blocks: int
    late_blocks: int
    load: float
    load_mean: float
    headroom: float
    peak_rss_mb: float
    final_rss_mb: float
    gpu_peak_mb: float | None

    @property
    def total(self) -> Spread:
        return self.stages["total_ms"]

    @property
    def load_p99(self) -> float:
        return self.total.p99 / self.case.budget.block_ms

    @property
    def latency_ms(self) -> float:
        return latency_ms(self.case)

    @property
    def level(self) -> Level:
        late = self.late_blocks / self.blocks
        if self.load >= 1 or late > MOSTLY:
            return Level.FAILS
        return Level.HOLDS if self.headroom >= 0 and late <= RARELY else Level.MOSTLY


@dataclass(frozen=True)
class Unmeasured:
    """A case whose child died. reason: a sentence's beginning, without its full stop."""

    case: Case
    reason: str

    level = Level.UNMEASURED


def latency_ms(case: Case) -> float:
    """Return the stream's constant latency without the device's buffers."""
    budget = case.budget
    return budget.block_ms + budget.lookahead_ms + SYNTHESIS_TAIL_MS + budget.deadline_ms


def figures(case: Case, measured: Measured) -> Figures:
    """Sum up one case."""
    totals_ms, budget = measured.stages_ms["total_ms"], case.budget
    spreads = {stage: Spread.of(measured.stages_ms[stage]) for stage in STAGES}
    return Figures(
        case=case,
        environment=measured.environment,
        start_up=measured.start_up,
        stages=spreads,
        blocks=len(totals_ms),
        late_blocks=count_late(totals_ms, budget.block_ms, budget.deadline_ms),
        load=spreads["total_ms"].median / budget.block_ms,
        load_mean=statistics.fmean(totals_ms) / budget.block_ms,
        headroom=1 - spreads["total_ms"].p99 / budget.deadline_ms,
        peak_rss_mb=measured.peak_rss_mb,
        final_rss_mb=measured.final_rss_mb,
        gpu_peak_mb=measured.gpu_peak_mb,
    )


def count_late(totals_ms: Sequence[float], block_ms: float, deadline_ms: float) -> int:
    """Return how many blocks would end after their deadline if a microphone gave one each block_ms.

    A block waits for the one before it. One that would start when all of it is late already is skipped, as the worker does:
    it costs nothing.
    """
    late, free_at_ms = 0, 0.0
    for number, total_ms in enumerate(totals_ms):
        spoken_ms = number * block_ms
        starts_ms = max(spoken_ms, free_at_ms)
        if starts_ms >= spoken_ms + deadline_ms + block_ms:
            late += 1
            continue
        free_at_ms = starts_ms + total_ms
        late += free_at_ms > spoken_ms + deadline_ms
    return late


# ---- verdicts


def verdict(found: Figures | Unmeasured, others: Sequence[Figures | Unmeasured]) -> str:
    """Return one sentence about a case: does it hold, by how much, what else to try. others: all cases measured with it."""
    name = found.case.name
    if isinstance(found, Unmeasured):
        return f"{name}: could not be measured: {found.reason}"
    late = f"{found.late_blocks} of {found.blocks} blocks {'is' if found.late_blocks == 1 else 'are'} late"
    if found.level is Level.HOLDS:
        return f"{name}: holds with {100 * found.headroom:.0f} % headroom" + (f"; {late}" if found.late_blocks else "")
    if found.level is Level.MOSTLY and found.late_blocks == 0:
        return f"{name}: holds without headroom: p99 is {found.total.p99:.0f} ms, the deadline {found.case.budget.deadline_ms} ms"
    if found.level is Level.MOSTLY:
        return f"{name}: holds mostly: {late}"
    if found.load >= 1:
        reason = f"load {found.load:.2f}"
    else:
        reason = f"{late}: p99 is {found.total.p99:.0f} ms, the deadline {found.case.budget.deadline_ms} ms"
    return f"{name}: does not hold: {reason}{_try_instead(found, others)}"


def _try_instead(found: Figures, others: Sequence[Figures | Unmeasured]) -> str:
    """Name the quickest case that holds, else a preset with longer blocks that was not measured."""
    better = _quickest(other for other in others if isinstance(other, Figures) and other.level is Level.HOLDS)
    if better is not None:
        return f"; try {better.case.name}"
    measured = {other.case.name for other in others}
    slower = [
        name for name, preset in LATENCY_PRESETS.items() if preset.block_ms > found.case.budget.block_ms and name not in measured
    ]
    return f"; try {slower[0]}" if slower else ""


def _quickest(candidates: Iterable[Figures]) -> Figures | None:
    return min(candidates, key=lambda found: found.latency_ms, default=None)


def suggest(found: Sequence[Figures | Unmeasured], *, f0_method: str, busy: bool) -> tuple[Figures | None, str]:
    """Return the case with the lowest latency that holds, and a sentence about it, or about what to do when none does."""
    measured = [one for one in found if isinstance(one, Figures)]
    if not measured:
        return None, "Nothing could be measured."
    best = _quickest(one for one in measured if one.level is Level.HOLDS)
    if best is not None:
        total = f"{best.latency_ms:.0f} ms from microphone to voice, plus the device's own buffers"
        return best, f"Suggestion: {best.case.name}: {total}. Set {settings_for(best.case)}."
    nearly = _quickest(one for one in measured if one.level is Level.MOSTLY)
    none = "It does not hold here" if len(found) == 1 else "None of these holds here"
    if nearly is not None:
        none = f"Nothing holds surely here; {nearly.case.name} does mostly ({settings_for(nearly.case)})"
    return None, f"{none}. What helps: {', '.join(_remedies(measured, f0_method=f0_method, busy=busy))}."


def _remedies(measured: Sequence[Figures], *, f0_method: str, busy: bool) -> list[str]:
    remedies = ["closing the programs that use the processor"] if busy else []
    if f0_method != "swift":
        remedies.append("f0_method swift")
    if any(one.case.context == "window" for one in measured):
        remedies.append("engine.context remembered")
    if any(one.environment.precision == "fp32" and one.environment.instructions == "baseline" for one in measured):
        remedies.append("precision bf16 where the processor multiplies it")
    longest_ms = max(one.case.budget.block_ms for one in measured)
    if longest_ms < LATENCY_PRESETS["safe"].block_ms:
        remedies.append("longer blocks (--preset safe)")
    elif longest_ms < 2 * LATENCY_PRESETS["safe"].block_ms:
        remedies.append(f"longer blocks (--block-ms {2 * LATENCY_PRESETS['safe'].block_ms})")
    if all(one.environment.device == "cpu" for one in measured):
        remedies.append("a GPU")
    return remedies


def settings_for(case: Case) -> str:
    """Return the configuration of a case: a preset's name, or its lengths."""
    if LATENCY_PRESETS.get(case.name) == case.budget:
        return f"latency.preset = '{case.name}'"
    budget = case.budget
    lengths = {name: getattr(budget, name) for name in ("block_ms", "lookahead_ms", "deadline_ms", "context_ms")}
    return "[latency] " + ", ".join(f"{name} = {value}" for name, value in lengths.items())


# ---- against upstream's way


@dataclass(frozen=True)
class Comparison:
    """Computing time for one second of audio, both ways, from the median block. ratio: how many times less ours is."""

    case: Case
    compared: Compared
    ours_ms_per_s: float
    recompute_ms_per_s: float

    @property
    def ratio(self) -> float:
        return self.recompute_ms_per_s / self.ours_ms_per_s

    @property
    def sentence(self) -> str:
        times = f"{self.ratio:.1f} times less" if self.ratio >= 1 else f"{1 / self.ratio:.1f} times more"
        return f"{self.case.name}: {times} computing than upstream's way, side by side"


def comparison(case: Case, compared: Compared) -> Comparison:
    """Sum up one comparison."""
    per_s = [1000 * statistics.median(way.stages_ms["total_ms"]) / way.block_ms for way in (compared.ours, compared.recompute)]
    return Comparison(case, compared, *per_s)
