"""How late the voice is, and where the milliseconds go."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from rvcd import protocol

PART_STYLES = tuple(
    f"bold $background on {colour}" for colour in ("$primary-lighten-2", "$success", "$warning", "$foreground-muted", "$error")
)
"""One for each part; the parts are numbered too, so nothing depends on telling the colours apart."""


@dataclass(frozen=True)
class LatencyModel:
    """Total and parts in tenths of a millisecond, in the order the sound takes."""

    total_tenths: int = 0
    parts: tuple[tuple[str, int], ...] = ()


def latency_of(stats: protocol.Stats) -> LatencyModel:
    """Return the model for a stats message (its milliseconds rounded to tenths)."""
    parts = (
        ("in", stats.latency_device_in_ms),
        ("block", stats.latency_block_ms),
        ("lookahead", stats.latency_lookahead_ms),
        ("deadline", stats.latency_deadline_ms),
        ("out", stats.latency_device_out_ms),
    )
    return LatencyModel(round(10 * stats.latency_total_ms), tuple((name, round(10 * max(0.0, ms))) for name, ms in parts))


def share_cells(amounts: tuple[int, ...], cells: int) -> list[int]:
    """Return whole cells for each amount, in proportion, at least one for each that is not zero; the sum is cells.

    Largest remainders get what rounding down leaves over. All zero when nothing is to be shared or there is no room.
    """
    wanted = [index for index, amount in enumerate(amounts) if amount > 0]
    widths = [0] * len(amounts)
    if not wanted or cells < len(wanted):
        return widths
    free, total = cells - len(wanted), sum(amounts)
    exact = {index: free * amounts[index] / total for index in wanted}
    for index in wanted:
        widths[index] = 1 + int(exact[index])
    by_remainder = sorted(wanted, key=lambda index: int(exact[index]) - exact[index])
    for index in by_remainder[: cells - sum(widths)]:
        widths[index] += 1
    return widths


class LatencyBar(Widget):
    """Total, stacked bar with numbered parts, and what the numbers stand for. Set `model`."""

    model: reactive[LatencyModel] = reactive(LatencyModel())

    def render(self) -> Content:
        """Return all rows; the bar is two rows high when there is room."""
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
        tall = self.size.height >= 7
        rows = [head, *([Content("")] if tall else []), self._bar(widths, labelled=True)]
        if tall:
            rows += [self._bar(widths, labelled=False), Content("")]
        return Content("\n").join([*rows, *self._legend(cells)])

    def _bar(self, widths: list[int], *, labelled: bool) -> Content:
        pieces: list[str | tuple[str, str]] = [" "]
        for number, ((name, _), width) in enumerate(zip(self.model.parts, widths, strict=True), start=1):
            if not width:
                continue
            long_label = f"{number} {name}"
            text = long_label if len(long_label) + 1 <= width else str(number)
            pieces.append(((text if labelled else "").ljust(width)[:width], PART_STYLES[number - 1]))
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
            lines[-1] += [" " if not used else "  ", (str(number), PART_STYLES[number - 1]), value]
            used += length
        return [Content.assemble(*line) for line in lines]
