"""The bench's findings for people: tables for a terminal of 80 columns, or Markdown. No torch; rich only where it draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from rvcd.bench.document import Findings
from rvcd.bench.figures import STAGES, Comparison, Figures, Level, Spread, Unmeasured, latency_ms, verdict
from rvcd.bench.plan import Case, Mode, Plan
from rvcd.bench.soak import FIFTHS, Soaked
from rvcd.bench.tasks import Compared, Environment, Way
from rvcd.geometry import SYNTHESIS_TAIL_MS
from rvcd.protocol import CONTEXTS

if TYPE_CHECKING:
    from rich.console import Console

COLOURS = {Level.HOLDS: "green", Level.MOSTLY: "yellow", Level.FAILS: "red", Level.UNMEASURED: "red"}
TOTAL_ROW = list(STAGES).index("total_ms")
SIDE_STAGES = ("encode_ms", "pitch_ms", "retrieval_ms", "prior_ms", "decode_ms", "resample_ms", "other_ms", "total_ms")
AXES: Mapping[str, str] = {"block": "block", "context": "context", "threads": "threads", "rate": "rate"}


@dataclass(frozen=True)
class Sheet:
    """One table: the first column is text, the others are numbers. strong: the row that sums up (its number, or None)."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: int | None = None


@dataclass(frozen=True)
class Line:
    """One sentence. style: a colour of rich's, "" for none."""

    text: str
    style: str = ""


def contents(findings: Findings) -> list[Sheet | Line]:
    """Return what there is to read, in order."""
    parts: list[Sheet | Line] = [Line(_headline(findings))]
    if warning := findings.machine.warning():
        parts.append(Line(warning, "yellow"))
    if findings.plan.mode is Mode.COMPARE:
        parts += _comparisons(findings)
    elif findings.plan.mode is Mode.SOAK:
        parts += _soak(findings)
    elif findings.plan.mode is Mode.SWEEP:
        parts += _sweep(findings)
    else:
        parts += _presets(findings)
    return parts


def to_terminal(parts: Sequence[Sheet | Line], console: Console) -> None:
    """Print to a terminal or, plainly, to a file."""
    from rich.table import Table
    from rich.text import Text

    for part in parts:
        if isinstance(part, Line):
            console.print(Text(part.text, style=part.style))
            continue
        table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1))
        for number, heading in enumerate(part.headings):
            table.add_column(heading, justify="right" if number else "left", no_wrap=True)
        for number, row in enumerate(part.rows):
            table.add_row(*(Text(cell) for cell in row), style="bold" if number == part.strong else "")
        console.print()
        console.print(Text(part.title, style="bold"))
        console.print(table)
        console.print()


def to_markdown(parts: Sequence[Sheet | Line]) -> str:
    """Return the same as Markdown."""
    blocks = []
    for part in parts:
        if isinstance(part, Line):
            blocks.append(part.text)
            continue
        lines = [
            f"| {' | '.join(part.headings)} |",
            f"|{'|'.join('--:' if number else '---' for number in range(len(part.headings)))}|",
        ]
        lines += [f"| {' | '.join(row)} |" for row in part.rows]
        blocks.append("\n".join(lines) if not part.title else f"**{part.title}**\n\n" + "\n".join(lines))
    return "\n\n".join(blocks) + "\n"


# ---- what all modes say first


def _headline(findings: Findings) -> str:
    machine, plan, environment = findings.machine, findings.plan, findings.environment
    torch = f"; torch {environment.torch_version}" if environment else ""
    gpu = f"; {environment.device_name}" if environment and environment.device_name else ""
    cores = f"{machine.cores} core{'s' * (machine.cores != 1)}"
    return f"{machine.cpu_model}, {cores}, {machine.memory_mb / 1000:.0f} GB{gpu}{torch}\n{_models(plan)}; F0 {plan.f0_method}"


def _models(plan: Plan) -> str:
    if plan.encoder or plan.voice is not None:
        encoder = plan.encoder or "random weights as content encoder"
        return f"{plan.voice.path if plan.voice else 'random weights as voice'}, {encoder}"
    return "random weights of the published sizes"


# ---- presets


def _presets(findings: Findings) -> Iterator[Sheet | Line]:
    for found in findings.cases:
        if isinstance(found, Figures):
            yield Sheet(_sizes(found.case), ("ms a block", "median", "p95", "p99", "max"), _stage_rows(found.stages), TOTAL_ROW)
            yield Line(_conditions(found, paced=findings.plan.paced), "dim")
    measured = [found for found in findings.cases if isinstance(found, Figures)]
    if len(measured) > 1:
        yield _summary(measured)
    else:
        yield Line("")
    for found in findings.cases:
        yield Line(verdict(found, findings.cases), COLOURS[found.level])
    yield Line(findings.suggestion()[1], "bold")


def _sizes(case: Case) -> str:
    budget = case.budget
    parts = f"block {budget.block_ms} + lookahead {budget.lookahead_ms} + {SYNTHESIS_TAIL_MS:.0f} + deadline {budget.deadline_ms}"
    way = "" if case.context == CONTEXTS[0] else f", {case.context}"
    return f"{case.name}: {parts} = {latency_ms(case):.0f} ms; context {budget.context_ms} ms{way}"


def _stage_rows(stages: Mapping[str, Spread]) -> tuple[tuple[str, ...], ...]:
    return tuple((STAGES[key], *(f"{value:.1f}" for value in _four(stages[key]))) for key in STAGES)


def _four(spread: Spread) -> tuple[float, float, float, float]:
    return spread.median, spread.p95, spread.p99, spread.max


def _conditions(found: Figures, *, paced: bool) -> str:
    used, start = found.environment, found.start_up
    pace = "at the pace of speech" if paced else "without a pause"
    gpu = ""
    if found.gpu_peak_mb is not None:
        gpu = f", {found.gpu_peak_mb:.0f} MB on the GPU\nstages show when work was handed to the GPU; the total is exact"
    return (
        f"{found.blocks} blocks {pace}, {used.threads} thread{'s' * (used.threads != 1)}, {used.precision}, {used.device}\n"
        f"{_kernels(used)}\n"
        f"memory: {found.peak_rss_mb:.0f} MB at most, {found.final_rss_mb:.0f} MB at the end{gpu}\n"
        f"start-up: {start.total_s:.1f} s to the first converted block (imports {start.imports_s:.1f}, loading "
        f"{start.loading_s:.1f},\nwarm-up {start.warm_up_s:.1f}, the block itself {start.first_block_s:.1f})"
    )


def _kernels(used: Environment) -> str:
    """Say with which instructions the kernels run, and how the decoder's convolutions are computed."""
    if not used.convolutions:
        return f"kernels: {used.instructions}"
    count = Counter(used.convolutions.values())
    return f"kernels: {used.instructions}; shapes of convolutions: " + ", ".join(f"{n} {way}" for way, n in sorted(count.items()))


def _summary(measured: Sequence[Figures]) -> Sheet:
    rows = tuple(
        (
            found.case.name, f"{found.latency_ms:.0f} ms", f"{found.load:.2f}", f"{found.total.median:.1f}",
            f"{found.total.p99:.1f}", f"{found.case.budget.deadline_ms}", f"{found.late_blocks}/{found.blocks}",
            f"{found.peak_rss_mb:.0f} MB", f"{found.start_up.total_s:.1f} s",
        )
        for found in measured
    )  # fmt: skip
    return Sheet("compared", ("", "latency", "load", "median", "p99", "deadline", "late", "memory", "start"), rows)


# ---- the other modes


def _sweep(findings: Findings) -> Iterator[Sheet | Line]:
    rows = []
    for axis, label in AXES.items():
        on_axis = [one for one in findings.cases if axis in one.case.axes]
        for found in sorted(on_axis, key=lambda one: _order(one.case)):
            case = found.case
            budget = case.budget
            sizes = (f"{budget.block_ms} ms", f"{budget.context_ms} ms", f"{case.threads}", f"{case.voice_rate_hz / 1000:g} kHz")
            if isinstance(found, Figures):
                total = found.total
                figures = (f"{found.load:.2f}", f"{total.median:.1f} ms", f"{total.p99:.1f} ms", f"{found.peak_rss_mb:.0f} MB")
            else:
                figures = ("-", "-", "-", "-")
            rows.append((case.context if axis == "context" else label, *sizes, *figures))
    headings = ("varied", "block", "context", "threads", "voice", "load", "median", "p99", "memory")
    yield Sheet("load against block, context, threads and rate", headings, tuple(rows))
    for one in findings.cases:
        if isinstance(one, Unmeasured):
            yield Line(verdict(one, findings.cases), COLOURS[Level.UNMEASURED])
    used = findings.environment
    if used is not None:
        yield Line("remembered, window: engine.context, with contexts of different lengths", "dim")
        yield Line(f"{used.precision}, {used.device}; load: the median block / its length", "dim")


def _order(case: Case) -> tuple[int | str, ...]:
    return (*astuple(case.budget), case.context, case.threads, case.voice_rate_hz)


def _comparisons(findings: Findings) -> Iterator[Sheet | Line]:
    for found in findings.comparisons:
        if isinstance(found, Unmeasured):
            yield Line(f"{found.case.name}: could not be measured: {found.reason}", COLOURS[Level.UNMEASURED])
            continue
        ours, theirs = found.compared.ours, found.compared.recompute
        rows = tuple((STAGES[stage], *_side_by_side(found.compared, stage)) for stage in SIDE_STAGES)
        title = f"{found.case.name}: blocks of {ours.block_ms:.0f} ms against upstream's {theirs.block_ms:.0f} ms"
        yield Sheet(title, ("ms a second of audio, median", "rvcd", "upstream's way", "ratio"), rows, strong=len(rows) - 1)
        yield Line(f"{_used('rvcd', ours)}; {_used('upstream', theirs)}", "dim")
    yield Line("")
    for found in findings.comparisons:
        if isinstance(found, Comparison):
            yield Line(found.sentence, "bold")


def _used(name: str, way: Way) -> str:
    return f"{name}: {way.blocks} blocks, {way.precision}, {way.threads} thread{'s' * (way.threads != 1)}"


def _side_by_side(compared: Compared, stage: str) -> tuple[str, str, str]:
    ours, theirs = (1000 * Spread.of(way.stages_ms[stage]).median / way.block_ms for way in (compared.ours, compared.recompute))
    # Below a tenth of a millisecond a ratio compares two nothings.
    return f"{ours:.1f}", f"{theirs:.1f}", f"{theirs / ours:.1f}" if min(ours, theirs) >= 0.1 else ""


def _soak(findings: Findings) -> Iterator[Sheet | Line]:
    soaked = findings.soaked
    assert isinstance(soaked, Soaked)
    yield Line(_sizes(findings.plan.cases[0]))
    marks = tuple(f"{100 * (number + 1) // FIFTHS} %" for number in range(FIFTHS))
    yield Sheet("the worker's memory", ("after", *marks), (("MB", *(f"{mb:.1f}" for mb in soaked.rss_mb)),))
    yield Line(f"memory: {soaked.growth_mb:+.1f} MB from the first mark to the last")
    yield Line(
        f"a block of {soaked.block_ms:.0f} ms: {soaked.first_ms:.1f} ms in the first fifth, "
        f"{soaked.last_ms:.1f} ms in the last ({100 * soaked.slowdown:+.1f} %; medians)"
    )
    yield Line(f"{soaked.blocks} blocks, {soaked.late_blocks} late, {soaked.failed_blocks} failed, {soaked.stalls} stalls")
    yield Line(soaked.sentence, "green" if soaked.flat else "red")
