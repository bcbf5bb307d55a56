"""What would be lost between two updates of the screen: the highest levels, the worst load, the lowest ring fill."""

from __future__ import annotations

from rvcd.protocol import SILENCE_DBFS, Stats

PEAK_FRESH_S = 0.25
"""A peak counts as the present level this long when no newer one came."""
SILENCE = (SILENCE_DBFS, SILENCE_DBFS, SILENCE_DBFS)
"""Input, output, monitor."""


class PeakReader:
    """Fed with every stats message, read at the pace of the screen."""

    def __init__(self) -> None:
        self._seen: Stats | None = None
        self._peaks_dbfs: tuple[float, float, float] | None = None
        self._shown_dbfs = SILENCE
        self._shown_at_s = float("-inf")
        self._load_max = 0.0
        self._fill_min = 1.0

    def feed(self, stats: Stats) -> None:
        """Take in a stats message; the same one again counts once."""
        if stats is self._seen:
            return
        self._seen = stats
        before = self._peaks_dbfs or SILENCE
        newest = (stats.in_peak_dbfs, stats.out_peak_dbfs, stats.monitor_peak_dbfs)
        self._peaks_dbfs = (max(before[0], newest[0]), max(before[1], newest[1]), max(before[2], newest[2]))
        self._load_max = max(self._load_max, stats.load)
        self._fill_min = min(self._fill_min, stats.ring_fill)

    def take_levels(self, now_s: float, *, fresh: bool) -> tuple[float, float, float]:
        """Return (in, out, monitor) dBFS: the highest since the last call, else the newest while fresh; silence for old data."""
        if not fresh:
            return SILENCE
        if self._peaks_dbfs is not None:
            self._shown_dbfs, self._peaks_dbfs, self._shown_at_s = self._peaks_dbfs, None, now_s
        elif now_s - self._shown_at_s > PEAK_FRESH_S:
            self._shown_dbfs = SILENCE
        return self._shown_dbfs

    def take_strain(self, stats: Stats) -> tuple[float, float]:
        """Return (worst load, lowest ring fill) since the last call, as shares."""
        worst, lowest = max(self._load_max, stats.load), min(self._fill_min, stats.ring_fill)
        self._load_max, self._fill_min = 0.0, 1.0
        return worst, lowest
