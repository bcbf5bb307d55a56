"""The engine in full: every loss with its age, and the last minutes of load, ring and GPU."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from rvcctl.widgets.counters import CounterRow, Counters
from rvcctl.widgets.history import History
from rvcctl.widgets.strain import gpu_text
from rvcd import protocol


class EnginePage(Horizontal, can_focus=True):
    """Counters on the left, histories on the right. Fed by show() at the pace of tables."""

    def compose(self) -> ComposeResult:
        """Lay out both halves; the GPU's history appears with its first value."""
        yield Counters(id="counters")
        with Vertical(id="histories"):
            yield History("load", over=True, id="load")
            yield History("ring fill", over=False, id="fill")
            gpu = History("GPU", over=False, id="gpu")
            gpu.display = False
            yield gpu

    def show(self, stats: protocol.Stats, rows: tuple[CounterRow, ...], worst_load: float, lowest_fill: float) -> None:
        """Show the counters' rows and append a column: the highest load and the lowest fill (shares) since the last call."""
        self.query_one(Counters).rows = rows
        over = "  ▲ OVERLOAD" if worst_load > 1.0 else ""
        self.query_one("#load", History).show(worst_load, f"{100 * stats.load:.0f} %  p95 {100 * stats.load_p95:.0f} %{over}")
        self.query_one("#fill", History).show(lowest_fill, f"{100 * stats.ring_fill:.0f} %")
        gpu = self.query_one("#gpu", History)
        gpu.display = stats.gpu_util >= 0
        if gpu.display:
            gpu.show(stats.gpu_util, gpu_text(stats))
