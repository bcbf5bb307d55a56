"""What is pushed to subscribers, made from protocol.Stats: one value an address, and one /stats with everything."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rvcd.config.logs import one_printable_line
from rvcd.protocol import SILENCE_DBFS, MonitorState, Stats, note_of, stats_to_args

MAX_FAULT = 300
"""Characters of the sentence: it may name a file, and a datagram has an end."""
Message = tuple[str, tuple[str | int | float, ...]]
"""(address below /rvc, arguments)."""


def meter_messages(stats: Stats) -> list[Message]:
    """Return the single-value messages of group 'meters' (dBFS, ms, Hz, cents, counts, 0..1)."""
    note, cents = note_of(stats.f0_hz)
    return [
        ("/meter/in/peak", (float(stats.in_peak_dbfs),)),
        ("/meter/out/peak", (float(stats.out_peak_dbfs),)),
        *([("/meter/monitor/peak", (float(stats.monitor_peak_dbfs),))] if stats.monitor_state != MonitorState.OFF else []),
        ("/latency/total", (float(stats.latency_total_ms),)),
        ("/f0/hz", (float(stats.f0_hz),)),
        ("/f0/note", (note,)),
        ("/f0/cents", (float(cents),)),
        ("/xruns", (int(stats.input_xruns) + int(stats.output_xruns),)),
        ("/buffer/fill", (float(stats.ring_fill),)),
        ("/load", (float(stats.load),)),
        *([("/gpu/util", (float(stats.gpu_util),))] if stats.gpu_util >= 0 else []),
    ]


def stats_message(stats: Stats) -> Message:
    """Return the one message of group 'stats': the fields of Stats in order."""
    names = ("fault", "advice", "hint", "monitor_problem")
    sentences = {name: one_printable_line(getattr(stats, name), MAX_FAULT) for name in names}
    return "/stats", stats_to_args(replace(stats, **sentences))  # type: ignore[arg-type]  # all are text


@dataclass
class PeakHold:
    """The highest levels (dBFS) since a target was last sent to, so that a slow meter misses no peak."""

    in_dbfs: float = SILENCE_DBFS
    out_dbfs: float = SILENCE_DBFS
    monitor_dbfs: float = SILENCE_DBFS

    def add(self, stats: Stats) -> None:
        """Take in one reading."""
        self.in_dbfs = max(self.in_dbfs, stats.in_peak_dbfs)
        self.out_dbfs = max(self.out_dbfs, stats.out_peak_dbfs)
        self.monitor_dbfs = max(self.monitor_dbfs, stats.monitor_peak_dbfs)

    def take(self, stats: Stats) -> Stats:
        """Return stats with the held peaks and start anew."""
        held = replace(stats, in_peak_dbfs=self.in_dbfs, out_peak_dbfs=self.out_dbfs, monitor_peak_dbfs=self.monitor_dbfs)
        self.in_dbfs = self.out_dbfs = self.monitor_dbfs = SILENCE_DBFS
        return held
