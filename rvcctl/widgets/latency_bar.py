"""How late the voice is, and where the milliseconds go."""

from __future__ import annotations

from dataclasses import dataclass

from textual import events
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from rvcctl.widgets.compute_bar import MARK, PARTS, ComputeModel, compute_bar, compute_of, compute_text
from rvcctl.widgets.shares import share_cells
from rvcd import protocol

PART_STYLES = {
    name: f"bold $foreground on {colour} 45%"
    for name, colour in (
        ("in", "$foreground-muted"), ("block", "$primary"), ("denoiser", "$secondary"), ("lookahead", "$success"),
        ("deadline", "$warning"), ("out", "$foreground-muted"),
    )
}  # fmt: skip
"""One for each part; the parts are numbered too, so nothing depends on telling the colours apart."""
TALL_ROWS = 7
NO_COMPUTE = ComputeModel()


@dataclass(frozen=True)
class LatencyModel:
    """Total and parts in tenths of a millisecond, in the order the sound takes; computing happens inside the deadline."""

    total_tenths: int = 0
    parts: tuple[tuple[str, int], ...] = ()
    compute: ComputeModel = NO_COMPUTE

    @property
    def deadline_number(self) -> int:
        """The number of the part in which the computing happens."""
        return 1 + [name for name, _ in self.parts].index("deadline")


def latency_of(stats: protocol.Stats) -> LatencyModel:
    """Return the model for a stats message (its milliseconds rounded to tenths)."""
    parts = (
        ("in", stats.latency_device_in_ms),
        ("block", stats.latency_block_ms),
        *([("denoiser", stats.latency_denoise_ms)] if stats.latency_denoise_ms > 0 else []),
        ("lookahead", stats.latency_lookahead_ms),
        ("deadline", stats.latency_deadline_ms),
        ("out", stats.latency_device_out_ms),
    )
    tenths = tuple((name, round(10 * max(0.0, ms))) for name, ms in parts)
    return LatencyModel(round(10 * stats.latency_total_ms), tenths, compute_of(stats))


class LatencyBar(Widget):
    """Total, stacked bar with numbered parts and their names, and the computing inside the deadline. Set `model`."""

    model: reactive[LatencyModel] = reactive(LatencyModel())

    async def on_click(self, event: events.Click) -> None:
        """A click opens the choice of latencies."""
        event.stop()
        await self.run_action("app.choose_latency")

    def render(self) -> Content:
        """Return all rows; the bars are two rows high and the computing is spelled out when there is room."""
        model = self.model
        if not model.parts or not model.total_tenths:
            return Content(" no data yet")
        total_ms = model.total_tenths / 10
        head = Content.assemble(
            " ",
            (f"{total_ms:.1f} ms", "bold $text-primary"),
            ("  in to out", "$foreground-muted"),
            f" · OBS: delay video {round(total_ms)} ms",
        )
        cells = max(1, self.size.width - 2)
        widths = share_cells(tuple(tenths for _, tenths in model.parts), cells)
        tall = self.size.height >= TALL_ROWS
        rows = [head, self._bar(widths, labelled=True)]
        rows += [self._bar(widths, labelled=False)] if tall else []
        rows += self._legend(cells)
        rows += [Content("")] * (self.size.height > TALL_ROWS)
        rows.append(self._computing(cells))
        if tall:
            rows.append(self._spelled_out())
        return Content("\n").join(rows)

    def _bar(self, widths: list[int], *, labelled: bool) -> Content:
        pieces: list[str | tuple[str, str]] = [" "]
        for number, ((name, _), width) in enumerate(zip(self.model.parts, widths, strict=True), start=1):
            if not width:
                continue
            long_label = f"{number} {name}"
            text = long_label if len(long_label) + 1 <= width else str(number)
            pieces.append(((text if labelled else "").ljust(width)[:width], PART_STYLES[name]))
        return Content.assemble(*pieces)

    def _legend(self, cells: int) -> list[Content]:
        """Return the numbered parts with their milliseconds, wrapped to cells."""
        lines: list[list[str | tuple[str, str]]] = [[]]
        used = 0
        for number, (name, tenths) in enumerate(self.model.parts, start=1):
            value = f" {name} {tenths / 10:.1f}"
            length = 1 + len(value) + 2
            if used and used + length - 2 > cells:
                lines.append([])
                used = 0
            lines[-1] += [" " if not used else "  ", (str(number), PART_STYLES[name]), value]
            used += length
        return [Content.assemble(*line) for line in lines]

    def _computing(self, cells: int) -> Content:
        """Return the deadline's number, the bar that spans the deadline, and the p95 in words."""
        compute = self.model.compute
        text = compute_text(compute)
        style = "bold $text-error" if compute.is_late else ""
        bar = compute_bar(compute, max(5, cells - len(text) - 3))
        number = str(self.model.deadline_number)
        return Content.assemble(" ", (number, PART_STYLES["deadline"]), " ", bar, " ", (text, style))

    def _spelled_out(self) -> Content:
        pieces: list[str | tuple[str, str]] = [("   computing: ", "$foreground-muted")]
        for (letter, name, style), tenths in zip(PARTS, self.model.compute.parts, strict=True):
            if tenths:
                pieces += [(letter, style), f" {name} {tenths / 10:.1f}  "]
        pieces.append((f"{MARK} p95 of the blocks", "$foreground-muted"))
        return Content.assemble(*pieces)
