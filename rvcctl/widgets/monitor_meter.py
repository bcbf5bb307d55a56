"""The monitor's meter: how loud the user hears themselves, and what. Takes no room where there is no monitor."""

from __future__ import annotations

from rvcctl.widgets.level_meter import LevelMeter, dbfs_text
from rvcd import protocol
from rvcd.protocol import MonitorState

WORDS = {"converted": "out", "microphone": "mic"}


def word_of(stats: protocol.Stats) -> str:
    """Return what becomes of the monitor in at most seven characters: waiting, muted, or what is heard."""
    if stats.monitor_state == MonitorState.WAITING:
        return "waiting"
    return "muted" if stats.monitor_mute else WORDS.get(stats.monitor_source, stats.monitor_source[:7])


class MonitorMeter(LevelMeter):
    """As the other meters, with a word in the place of the clip marks. Fed by show_monitor()."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("MON", id=id)
        self._word = ""

    def on_mount(self) -> None:
        """Begin without a monitor."""
        self.set_class(False, "-present")

    def show_monitor(self, stats: protocol.Stats, peak_dbfs: float, now_s: float) -> None:
        """Feed the newest telemetry and peak (dBFS), and the time in seconds."""
        self.set_class(stats.monitor_state != MonitorState.OFF, "-present")
        self._word = word_of(stats)
        self.show(peak_dbfs, 0, now_s)

    def _text(self) -> str:
        state = self.ballistics
        return f" {dbfs_text(state.level_dbfs)}  {dbfs_text(state.held_dbfs)}  {self._word}"
