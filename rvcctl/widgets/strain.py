"""How hard the machine works: load, ring and GPU in one line, the load's last seconds as small columns."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from rvcd import protocol

LABEL = " LOAD"
COLUMNS = " ▁▂▃▄▅▆▇█"
KEPT_COLUMNS = 16
MB_PER_GB = 1024.0


@dataclass(frozen=True)
class StrainModel:
    """Percentages; history: 0..8 eighths of a column, newest last. gpu: text, "" without a GPU."""

    load: int = 0
    load_p95: int = 0
    ring: int = 0
    gpu: str = ""
    history: tuple[int, ...] = ()


def gpu_text(stats: protocol.Stats) -> str:
    """Return utilisation and memory of the GPU, "" where there is none."""
    if stats.gpu_util < 0:
        return ""
    memory = f" · {stats.gpu_memory_mb / MB_PER_GB:.1f} of {stats.gpu_memory_total_mb / MB_PER_GB:.1f} GB"
    return f"{100 * stats.gpu_util:.0f} %" + (memory if stats.gpu_memory_total_mb > 0 else "")


class StrainLine(Widget):
    """Fed by show() at the pace of tables."""

    model: reactive[StrainModel | None] = reactive(None)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._eighths: deque[int] = deque(maxlen=KEPT_COLUMNS)

    def show(self, stats: protocol.Stats, worst_load: float, lowest_fill: float) -> None:
        """Append a column. worst_load, lowest_fill: of the time since the last call, as shares."""
        self._eighths.append(max(1, min(8, round(8 * min(max(worst_load, 0.0), 1.0)))))
        self.model = StrainModel(
            round(100 * worst_load), round(100 * stats.load_p95), round(100 * lowest_fill), gpu_text(stats), tuple(self._eighths)
        )

    def render(self) -> Content:
        """Return the line."""
        model = self.model
        if model is None:
            return Content.assemble((LABEL, "bold"), ("  no data yet", "$foreground-muted"))
        over = model.load > 100
        columns = "".join(COLUMNS[eighths] for eighths in model.history).rjust(KEPT_COLUMNS)
        pieces: list[str | tuple[str, str]] = [
            (f"{LABEL}  ", "bold"),
            (columns, "$text-error" if over else "$text-primary"),
            (f"  {model.load:>3} %", "bold $text-error" if over else "bold"),
            ("  ▲ OVERLOAD" if over else "", "bold $text-error"),
            ("  p95 ", "$foreground-muted"),
            f"{model.load_p95} %",
            ("   RING ", "bold"),
            f"{model.ring} %",
        ]
        if model.gpu:
            pieces += [("   GPU ", "bold"), model.gpu]
        return Content.assemble(*pieces)
