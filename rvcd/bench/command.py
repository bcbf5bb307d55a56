"""`rvcd bench` from its options to what it prints. No torch in this process."""

from __future__ import annotations

import contextlib
import enum
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from rvcd.bench import runner
from rvcd.bench.document import Findings, document
from rvcd.bench.figures import Comparison, Figures, Unmeasured, comparison, figures
from rvcd.bench.machine import look_at_machine
from rvcd.bench.plan import BenchRequest, Case, Mode, Plan, make_plan, usable_cores
from rvcd.bench.report import contents, to_markdown, to_terminal
from rvcd.bench.runner import Advance, ChildDied
from rvcd.bench.soak import soak
from rvcd.bench.tasks import SyntheticFiles, SyntheticTask
from rvcd.config.settings import Settings
from rvcd.errors import RvcdError

WIDTH = 80
"""Of what is printed where there is no terminal."""
Result = TypeVar("Result")


class Output(str, enum.Enum):
    """How the findings are printed."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    JSON = "json"


def run_bench(settings: Settings, request: BenchRequest, output: Output, command: str) -> int:
    """Measure, print to stdout, and return the exit code: 1 when something could not be measured. Raises RvcdError."""
    plan = make_plan(settings, request, usable_cores())
    machine = look_at_machine()
    for sentence in (*plan.notes, machine.warning()):
        if sentence:
            print(f"rvcd: {sentence}", file=sys.stderr)
    findings = Findings(plan, machine, command)
    with _progress_bar(len(plan.cases), quiet=output is Output.JSON) as bar:
        findings = measure_all(plan, findings, bar)
    _print(findings, output)
    return 1 if findings.unmeasured else 0


def measure_all(plan: Plan, findings: Findings, bar: Callable[[int, str], Advance]) -> Findings:
    """Measure every case of the plan. bar: gives the progress function of the case of a number and a name."""
    with _synthetic_files(plan, bar(0, "models")) as files:

        def each(what: Callable[[Case, Advance], Result]) -> tuple[Result | Unmeasured, ...]:
            return tuple(_or_reason(what, case, bar(number, case.name)) for number, case in enumerate(plan.cases))

        def one_case(case: Case, progress: Advance) -> Figures:
            return figures(case, runner.measure(plan.task(case, files), progress))

        def one_comparison(case: Case, progress: Advance) -> Comparison:
            return comparison(case, runner.compare(plan.task(case, files), progress))

        if plan.mode is Mode.SOAK:
            case = plan.cases[0]
            return replace(findings, soaked=soak(plan.setup(case, files), plan.soak_minutes, bar(0, case.name)))
        if plan.mode is Mode.COMPARE:
            return replace(findings, comparisons=each(one_comparison))
        return replace(findings, cases=each(one_case))


def _or_reason(what: Callable[[Case, Advance], Result], case: Case, progress: Advance) -> Result | Unmeasured:
    """Measure one case; a child that crashed must not cost the others their figures."""
    try:
        return what(case, progress)
    except ChildDied as error:
        return Unmeasured(case, str(error))


@contextlib.contextmanager
def _synthetic_files(plan: Plan, progress: Advance) -> Iterator[dict[int, SyntheticFiles]]:
    """Give the random weights the plan needs, by the voice's rate; they are removed afterwards."""
    import tempfile

    if not plan.synthetic_rates_hz:
        yield {}
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix="rvcd-bench-", ignore_cleanup_errors=True)
    except OSError as error:
        raise RvcdError(
            f"{tempfile.gettempdir()}: cannot be written ({error.strerror}); set TMPDIR to a folder with room"
        ) from None
    with folder as path:
        yield runner.write_synthetic(SyntheticTask(path, plan.synthetic_rates_hz, plan.synthetic_rmvpe), progress)


@contextlib.contextmanager
def _progress_bar(cases: int, *, quiet: bool) -> Iterator[Callable[[int, str], Advance]]:
    """Draw how far the measurement is on a terminal's stderr; nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda number, name: lambda done, doing: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    # Drawn only when a child reports, twice a second: a bar that moves by itself would take its time from what is measured.
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("starting", total=cases)

        def of_case(number: int, name: str) -> Advance:
            def progress(done: float, doing: str) -> None:
                bar.update(task, completed=number + done, description=f"{name}: {doing}", refresh=True)

            return progress

        yield of_case


def _print(findings: Findings, output: Output) -> None:
    if output is Output.JSON:
        print(json.dumps(document(findings), indent=2))
    elif output is Output.MARKDOWN:
        print(to_markdown(contents(findings)), end="")
    else:
        from rich.console import Console

        to_terminal(contents(findings), Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False))
