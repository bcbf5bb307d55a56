"""Is anything dropping? One line that says so, from the same counters as the table on the engine page."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from rvcctl.widgets.counters import CounterRow

LABEL = " LOST"


class LossLine(Widget):
    """A check mark while nothing was ever lost; else what was, how often, and how long ago. Set `rows`."""

    rows: reactive[tuple[CounterRow, ...]] = reactive(())

    def render(self) -> Content:
        """Return the line; what happened last comes first, so that it is not what is cut off."""
        if not self.rows:
            return Content.assemble((LABEL, "bold"), ("  no data yet", "$foreground-muted"))
        lost = sorted((row for row in self.rows if row.is_loss and row.marked), key=lambda row: row.since_s)
        if not lost:
            return Content.assemble((LABEL, "bold"), ("  ✓ ", "$text-success"), "nothing lost: no late block, no xrun")
        pieces: list[tuple[str, str]] = [(LABEL, "bold")]
        for row in lost:
            sign, style = ("▲", "bold $text-error") if row.recent else ("•", "$text-warning")
            pieces += [(f"  {sign} {row.short}", style), (f" ({row.remark})", "$foreground-muted")]
        return Content.assemble(*pieces)
