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
COUNTED: tuple[tuple[str, str, str], ...] = (
    ("late blocks", "late_blocks", "late"),
    ("late samples", "late_samples", "silence"),
    ("expired samples", "expired_samples", "expired"),
    ("skipped blocks", "skipped_blocks", "skipped"),
    ("failed blocks", "failed_blocks", "failed"),
    ("gap samples", "gap_samples", "gap"),
    ("overflow samples", "overflow_samples", "overflow"),
    ("bad input", "bad_input_samples", "bad input"),
    ("bad output", "bad_output_samples", "bad output"),
    ("stale samples", "stale_samples", "stale"),
    ("absent samples", "absent_samples", "absent"),
    ("xruns in", "input_xruns", "xruns in"),
    ("xruns out", "output_xruns", "xruns out"),
    ("worker restarts", "worker_restarts", "restarts"),
)
"""Name in the table, field of Stats, name in the line of losses."""
AS_TIME = frozenset({"late_samples", "expired_samples", "gap_samples", "overflow_samples", "stale_samples", "absent_samples"})
"""Counts of samples that the line of losses shows as seconds of sound."""
REAL_TIME = ("FIFO", "RR", "DEADLINE")
"""Scheduling classes that other programs cannot hold up."""


@dataclass(frozen=True)
class CounterRow:
    """One line: name, value, remark. recent: it grew in the last RECENT_S. since_s: whole seconds since it was seen to grow.

    is_loss: it counts what was lost. Other rows are measured, and shown whatever their value; marked: look at this one.
    short: name and value in the line of losses.
    """

    name: str
    value: str
    remark: str = ""
    marked: bool = False
    recent: bool = False
    since_s: float = math.inf
    is_loss: bool = True
    short: str = ""


class CounterMemory:
    """Remembers when each counter last grew. Times in seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._grew_at_s: dict[str, float] = {}

    def feed(self, stats: protocol.Stats, now_s: float) -> tuple[CounterRow, ...]:
        """Take in the newest counters and return the rows to show. A count that shrank means that the daemon restarted."""
        rows = [self._row(stats, title, name, short, now_s) for title, name, short in COUNTED]
        gap = CounterRow("callback gap", f"{stats.callback_gap_max_ms:.1f}", "ms, last minute", is_loss=False)
        return (*rows, gap, _scheduling_row(stats.scheduling))

    def _row(self, stats: protocol.Stats, title: str, name: str, short: str, now_s: float) -> CounterRow:
        count = int(getattr(stats, name))
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
        amount = sound_text(count / stats.rate_hz) if name in AS_TIME and stats.rate_hz > 0 else str(count)
        return CounterRow(title, str(count), remark, count > 0, since < RECENT_S, since, short=f"{short} {amount}")


def sound_text(seconds: float) -> str:
    """Return a length of sound as people write it: '2 ms', '21.2 s'."""
    return f"{seconds:.1f} s" if seconds >= 1.0 else f"{math.ceil(1000 * seconds)} ms"


def _scheduling_row(scheduling: str) -> CounterRow:
    """Return the row of the device thread's scheduling class; it is marked where any other program may hold the thread up."""
    is_real_time = scheduling.startswith(REAL_TIME)
    remark = "" if not scheduling else "device thread" if is_real_time else "not real-time"
    return CounterRow("scheduling", scheduling or "–", remark, bool(scheduling) and not is_real_time, is_loss=False)


def rows_that_fit(rows: tuple[CounterRow, ...], height: int) -> tuple[tuple[CounterRow, ...], int]:
    """Return (the rows to show, how many are left out): all of them, or first without those that are at zero.

    One row less than the height where some are left out: the last one says so.
    """
    if len(rows) <= height:
        return rows, 0
    needed = [row for row in rows if row.marked or not row.is_loss]
    by_need = [*needed, *(row for row in rows if row not in needed)]
    kept = by_need[: max(0, height - 1)]
    return tuple(row for row in rows if row in kept), len(rows) - len(kept)


class Counters(Widget):
    """One row a counter: a check mark at zero, a dot when it once grew, a warning sign when it grew just now. Set `rows`."""

    rows: reactive[tuple[CounterRow, ...]] = reactive(())

    def render(self) -> Content:
        """Return one line a counter, and where there is not enough room one for all that are at zero."""
        rows, left_out = rows_that_fit(self.rows, self.size.height)
        hides_losses = any(row.marked for row in self.rows if row not in rows)
        lines = []
        for row in rows:
            mark, style = (
                ("▲", "bold $text-error") if row.recent else ("•", "$text-warning") if row.marked else ("✓", "$foreground-muted")
            )
            lines.append(
                Content.assemble((f" {mark} {row.name:<16} {row.value:>8}", style), (f"  {row.remark}", "$foreground-muted"))
            )
        if hides_losses:
            lines.append(Content.styled(f" • {left_out} more in a taller window", "$text-warning"))
        elif left_out:
            lines.append(Content.styled(f" ✓ {left_out} others at 0", "$foreground-muted"))
        return Content("\n").join(lines) if lines else Content(" no data yet")
