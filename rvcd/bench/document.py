"""The bench's findings as one JSON document: stable keys, units in their names. Format 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rvcd.bench.figures import STAGES, Comparison, Figures, Spread, Unmeasured, latency_ms, suggest, verdict
from rvcd.bench.machine import Machine
from rvcd.bench.plan import Case, Mode, Plan
from rvcd.bench.soak import Soaked
from rvcd.bench.tasks import Environment, Way

FORMAT = 1


@dataclass(frozen=True)
class Findings:
    """Everything one call of the bench found. cases: of presets and sweep. The other two: of their modes."""

    plan: Plan
    machine: Machine
    command: str
    cases: tuple[Figures | Unmeasured, ...] = ()
    comparisons: tuple[Comparison | Unmeasured, ...] = ()
    soaked: Soaked | None = None

    @property
    def environment(self) -> Environment | None:
        """What the first child computed with."""
        for one in (*self.cases, *self.comparisons):
            if isinstance(one, Figures):
                return one.environment
            if isinstance(one, Comparison):
                return one.compared.environment
        return None

    @property
    def unmeasured(self) -> int:
        """How many cases could not be measured."""
        return sum(isinstance(one, Unmeasured) for one in (*self.cases, *self.comparisons))

    def suggestion(self) -> tuple[Figures | None, str]:
        """Return the case to use, and a sentence."""
        return suggest(self.cases, f0_method=self.plan.f0_method, busy=bool(self.machine.warning()))


def document(findings: Findings) -> dict[str, Any]:
    """Return what --json prints. Each mode adds its own key to those all have."""
    plan, environment = findings.plan, findings.environment
    common: dict[str, Any] = {
        "format": FORMAT,
        "mode": plan.mode.value,
        "command": findings.command,
        "machine": {**asdict(findings.machine), "torch_version": environment.torch_version if environment else None},
        "models": _models(plan),
        "paced": plan.paced,
        "notes": [*plan.notes, *filter(None, [findings.machine.warning()])],
    }
    if plan.mode is Mode.COMPARE:
        return {**common, "comparisons": [_comparison(one) for one in findings.comparisons]}
    if plan.mode is Mode.SOAK:
        assert findings.soaked is not None
        return {**common, "soak": {**_sizes(plan.cases[0]), **_soak(findings.soaked)}}
    cases = [_case(one, findings.cases) for one in findings.cases]
    if plan.mode is Mode.SWEEP:
        return {**common, "cases": cases}
    best, sentence = findings.suggestion()
    chosen = {"name": best.case.name, "latency_ms": best.latency_ms} if best is not None else {"name": None, "latency_ms": None}
    return {**common, "cases": cases, "suggestion": {**chosen, "sentence": sentence}}


def _models(plan: Plan) -> dict[str, Any]:
    return {
        "content_encoder": plan.encoder or None,
        "voice": plan.voice.path if plan.voice is not None else None,
        "index": plan.index or None,
        "random_content_encoder": not plan.encoder,
        "random_voice": plan.voice is None,
        "f0_method": plan.f0_method,
    }


def _sizes(case: Case) -> dict[str, Any]:
    return {
        "name": case.name,
        **asdict(case.budget),
        "latency_ms": latency_ms(case),
        "context": case.context,
        "voice_rate_hz": case.voice_rate_hz,
        "axes": list(case.axes),
    }


def _case(found: Figures | Unmeasured, others: Sequence[Figures | Unmeasured]) -> dict[str, Any]:
    told = {"level": found.level.value, "sentence": verdict(found, others)}
    if isinstance(found, Unmeasured):
        return {**_sizes(found.case), "verdict": {**told, "headroom": None}, "measured": False}
    environment = found.environment
    return {
        **_sizes(found.case),
        "measured": True,
        "threads": environment.threads,
        "precision": environment.precision,
        "device": environment.device,
        "device_name": environment.device_name,
        "instructions": environment.instructions,
        "convolutions": environment.convolutions,
        "blocks": found.blocks,
        "late_blocks": found.late_blocks,
        "load": found.load,
        "load_mean": found.load_mean,
        "load_p99": found.load_p99,
        "stages": _stages(found.stages),
        "peak_rss_mb": found.peak_rss_mb,
        "final_rss_mb": found.final_rss_mb,
        "gpu_peak_mb": found.gpu_peak_mb,
        "start_up": {**asdict(found.start_up), "total_s": found.start_up.total_s},
        "verdict": {**told, "headroom": found.headroom},
    }


def _stages(spreads: Mapping[str, Spread]) -> dict[str, dict[str, float]]:
    """Return, by stage, its median_ms, p95_ms, p99_ms and max_ms."""
    return {
        stage.removesuffix("_ms"): {f"{name}_ms": value for name, value in asdict(spreads[stage]).items()}
        for stage in STAGES
        if stage in spreads
    }


def _comparison(found: Comparison | Unmeasured) -> dict[str, Any]:
    if isinstance(found, Unmeasured):
        return {**_sizes(found.case), "measured": False, "sentence": f"{found.case.name}: could not be measured: {found.reason}"}

    def side(way: Way, compute_ms_per_s: float) -> dict[str, Any]:
        return {
            "compute_ms_per_s": compute_ms_per_s,
            "block_ms": way.block_ms,
            "blocks": way.blocks,
            "threads": way.threads,
            "precision": way.precision,
            "stages": _stages({stage: Spread.of(times_ms) for stage, times_ms in way.stages_ms.items()}),
        }

    return {
        **_sizes(found.case),
        "measured": True,
        "ours": side(found.compared.ours, found.ours_ms_per_s),
        "recompute": side(found.compared.recompute, found.recompute_ms_per_s),
        "ratio": found.ratio,
        "sentence": found.sentence,
    }


def _soak(soaked: Soaked) -> dict[str, Any]:
    return {
        **asdict(soaked),
        "rss_mb": list(soaked.rss_mb),
        "growth_mb": soaked.growth_mb,
        "slowdown": soaked.slowdown,
        "flat": soaked.flat,
        "sentence": soaked.sentence,
    }
