"""Is anything dropping? Every kind of loss, counted since the daemon started, with the time since the last one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from rvcctl.widgets.state_banner import age_text
from rvcd import protocol

RECENT_S = 10.0
COUNTED: tuple[tuple[str, str], ...] = (
    ("late blocks", "late_blocks"),
    ("expired samples", "expired_samples"),
    ("failed blocks", "failed_blocks"),
    ("xruns in", "input_xruns"),
    ("xruns out", "output_xruns"),
    ("worker restarts", "worker_restarts"),
)


@dataclass(frozen=True)
class CounterRow:
    """One line: name, value, remark. recent: it grew in the last RECENT_S. since_s: whole seconds since it was seen to grow."""

    name: str
    value: str
    remark: str = ""
    nonzero: bool = False
    recent: bool = False
    since_s: float = math.inf


class CounterMemory:
    """Remembers when each counter last grew. Times in seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._grew_at_s: dict[str, float] = {}

    def feed(self, stats: protocol.Stats, now_s: float) -> tuple[CounterRow, ...]:
        """Take in the newest counters and return the rows to show. A count that shrank means that the daemon restarted."""
        rows = [self._row(title, name, int(getattr(stats, name)), now_s) for title, name in COUNTED]
        gap = CounterRow("callback gap max", f"{stats.callback_gap_max_ms:.1f}", "ms")
        return (*rows, gap)

    def _row(self, title: str, name: str, count: int, now_s: float) -> CounterRow:
        before = self._seen.get(name)
        if before is not None and count > before:
            self._grew_at_s[name] = now_s
        elif before is not None and count < before:
            self._grew_at_s.pop(name, None)
        self._seen[name] = count
        grew_at_s = self._grew_at_s.get(name)
        since_s = None if grew_at_s is None else now_s - grew_at_s
        remark = (
            "" if not count else "earlier" if since_s is None else "just now" if since_s < 1.0 else f"{age_text(since_s)} ago"
        )
        since = math.inf if since_s is None else math.floor(since_s)
        return CounterRow(title, str(count), remark, count > 0, since < RECENT_S, since)


class Counters(Widget):
    """One row a counter: a check mark at zero, a dot when it once grew, a warning sign when it grew just now. Set `rows`."""

    rows: reactive[tuple[CounterRow, ...]] = reactive(())

    def render(self) -> Content:
        """Return one line a counter."""
        lines = []
        for row in self.rows:
            mark, style = (
                ("▲", "bold $text-error") if row.recent else ("•", "$text-warning") if row.nonzero else ("✓", "$foreground-muted")
            )
            lines.append(
                Content.assemble((f" {mark} {row.name:<16} {row.value:>8}", style), (f"  {row.remark}", "$foreground-muted"))
            )
        return Content("\n").join(lines) if lines else Content(" no data yet")
