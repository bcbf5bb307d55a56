"""Invented measurements, with round numbers."""

from __future__ import annotations

from collections.abc import Sequence

from rvcd.bench.document import Findings
from rvcd.bench.figures import STAGES, Figures, figures
from rvcd.bench.machine import Machine
from rvcd.bench.plan import BenchRequest, Case, Plan, make_plan
from rvcd.bench.tasks import Compared, Environment, Measured, StartUp, Way
from rvcd.config.settings import LatencyBudget, Settings

QUIET = Machine("Acme 9000", 2, 16_000, 0.12, 0.01, "3.11.7", "Linux 6.1")
BUSY = Machine("Acme 9000", 2, 16_000, 1.24, 0.62, "3.11.7", "Linux 6.1")
WAYS = {"fp32 64>64 k3 x2048": "tiles of 6", "fp32 64>64 k7 x2048": "tiles of 6", "fp32 16>16 k3 x2048": "direct"}
ENVIRONMENT = Environment(2, "bf16", "cpu", "", "2.13.0", "avx2", WAYS)
BUDGETS = {
    "low": LatencyBudget(20, 100, 20, 1000),
    "balanced": LatencyBudget(40, 100, 30, 1000),
    "safe": LatencyBudget(200, 120, 160, 1000),
}
"""Presets as they may be one day; tests of sentences must not change with the real ones."""


def a_case(name: str = "balanced", budget: LatencyBudget | None = None) -> Case:
    return Case(name, budget or BUDGETS[name], threads=0)


def a_measurement(totals_ms: Sequence[float], environment: Environment = ENVIRONMENT) -> Measured:
    """Half of each block's time is the decoder's, half the encoder's."""
    stages = {stage: [0.0] * len(totals_ms) for stage in (*STAGES, "something_new_ms")}
    stages["encode_ms"] = stages["decode_ms"] = [total / 2 for total in totals_ms]
    stages["total_ms"] = list(totals_ms)
    return Measured(environment, StartUp(1.5, 1.0, 0.5, 0.25), stages, 1100.0, 1000.0, None)


def figures_of(case: Case, totals_ms: Sequence[float]) -> Figures:
    return figures(case, a_measurement(totals_ms))


def found(name: str, totals_ms: Sequence[float], environment: Environment = ENVIRONMENT) -> Figures:
    return figures(a_case(name), a_measurement(totals_ms, environment))


def a_comparison(environment: Environment = ENVIRONMENT) -> Compared:
    """20 ms for 40 ms of audio against 750 ms for 250 ms: 500 and 3000 ms a second."""
    ours, theirs = a_measurement([20.0] * 10).stages_ms, a_measurement([750.0] * 4).stages_ms
    return Compared(environment, Way(40.0, 2, environment.precision, ours), Way(250.0, 2, "fp32", theirs))


def a_plan(request: BenchRequest | None = None, settings: Settings | None = None) -> Plan:
    return make_plan(settings or Settings(), request or BenchRequest(synthetic=True), cores=2)


def findings(**changes: object) -> Findings:
    cases = (found("low", [26.2] * 100), found("balanced", [18.6] * 100), found("safe", [100.0] * 100))
    fields: dict[str, object] = {"plan": a_plan(), "machine": QUIET, "command": "rvcd bench --synthetic", "cases": cases}
    return Findings(**{**fields, **changes})  # type: ignore[arg-type]
