"""The screen. It shows a DaemonView and sends what keys ask for; quitting it never touches the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Static

from rvcctl.client import ClientLike
from rvcctl.messages import ClipClearRequested, CommandRefused
from rvcctl.steering import Steering
from rvcctl.view import Failure
from rvcctl.widgets.counters import Counters
from rvcctl.widgets.help_screen import HelpScreen
from rvcctl.widgets.history import History
from rvcctl.widgets.latency_bar import LatencyBar, latency_of
from rvcctl.widgets.level_meter import LevelMeter
from rvcctl.widgets.level_scale import LevelScale
from rvcctl.widgets.note_display import NoteDisplay
from rvcctl.widgets.params_line import ParamsLine
from rvcctl.widgets.state_banner import StateBanner, banner_of
from rvcd import protocol

SCREEN_HZ = 12.0
TABLE_HZ = 2.0
PEAK_FRESH_S = 0.25
"""A peak counts as the present level this long when no newer one came."""


class RvcctlApp(App[None]):
    """One daemon on one screen.

    client: fills the view that is shown. clock: seconds, the same as the client's. refresh_hz: how often the screen
    is brought up to date, however many messages arrive; 0 leaves it to show_levels() and show_tables() (tests).
    """

    TITLE = "rvcctl"
    CSS_PATH = "rvcctl.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012  # Textual declares it as an instance variable
    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("b", "flip('/bypass')", "bypass"),
        Binding("m", "flip('/mute')", "mute"),
        Binding("space", "panic", "PANIC"),
        Binding("c", "clear_panic", "clear"),
        Binding("left_square_bracket", "pitch(-1)", "pitch−", key_display="["),
        Binding("right_square_bracket", "pitch(1)", "pitch+", key_display="]"),
        Binding("x", "clear_clips", "clips"),
        Binding("question_mark", "help", "help", key_display="?"),
    ]

    def __init__(self, client: ClientLike, *, clock: Callable[[], float] = time.monotonic, refresh_hz: float = SCREEN_HZ) -> None:
        super().__init__()
        self._client = client
        self._clock = clock
        self._refresh_hz = refresh_hz
        self._steering = Steering(client, clock)
        self._stats_seen: protocol.Stats | None = None
        self._peaks_dbfs: tuple[float, float] | None = None
        self._peaks_shown = (protocol.SILENCE_DBFS, protocol.SILENCE_DBFS)
        self._peaks_at_s = float("-inf")
        self._load_max = 0.0
        self._fill_min = 1.0

    def compose(self) -> ComposeResult:
        """Banner, levels, note and latency, engine and losses, parameters, keys."""
        yield StateBanner(id="banner")
        with Vertical(id="body"):
            with Vertical(id="levels", classes="panel") as levels:
                levels.border_title = "levels"
                yield LevelMeter("IN", id="in")
                yield LevelMeter("OUT", id="out")
                yield LevelScale()
            with Horizontal(id="middle"):
                note = NoteDisplay(id="note")
                note.border_title = "note"
                note.add_class("panel")
                yield note
                latency = LatencyBar(id="latency")
                latency.border_title = "latency"
                latency.add_class("panel")
                yield latency
            with Horizontal(id="bottom"):
                with Vertical(id="engine", classes="panel") as engine:
                    engine.border_title = "engine"
                    yield History("load", over=True, id="load")
                    yield History("ring fill", over=False, id="fill")
                    yield Static("", id="compute")
                counters = Counters(id="counters")
                counters.border_title = "losses"
                counters.add_class("panel")
                yield counters
            yield ParamsLine(id="params")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Start listening to the daemon and the two clocks of the screen."""
        self.run_worker(self._client.run(self), name="daemon", exit_on_error=True)
        if self._refresh_hz > 0:
            self.set_interval(1.0 / self._refresh_hz, self.show_levels)
            self.set_interval(1.0 / TABLE_HZ, self.show_tables)
        self.show_levels()
        self.show_tables()

    def on_view_changed(self) -> None:
        """Note what would be lost between two updates of the screen: the highest peak, the worst load, the lowest fill."""
        stats = self._client.view.stats
        if stats is None or stats is self._stats_seen:
            return
        self._stats_seen = stats
        before = self._peaks_dbfs or (protocol.SILENCE_DBFS, protocol.SILENCE_DBFS)
        self._peaks_dbfs = (max(before[0], stats.in_peak_dbfs), max(before[1], stats.out_peak_dbfs))
        self._load_max = max(self._load_max, stats.load)
        self._fill_min = min(self._fill_min, stats.ring_fill)

    def on_failed(self, failure: Failure) -> None:
        """Pass a refusal on to the screen."""
        self.post_message(CommandRefused(failure))

    def on_command_refused(self, message: CommandRefused) -> None:
        """Show the daemon's reason."""
        self.notify(message.failure.reason, title=f"{message.failure.command} failed", severity="error", markup=False)

    def on_clip_clear_requested(self, _message: ClipClearRequested) -> None:
        """Clear both meters."""
        self.action_clear_clips()

    def show_levels(self) -> None:
        """Bring everything that moves fast up to date; widgets redraw only what changed."""
        view, now_s = self._client.view, self._clock()
        connected = view.connected(now_s)
        stats = view.stats
        banner = self._base.query_one(StateBanner)
        banner.model = banner_of(stats, connected=connected, age_s=view.age_s(now_s), target=view.target, trouble=view.trouble)
        self._base.query_one("#body").set_class(not connected, "-stale")
        self._base.query_one(ParamsLine).values = tuple(view.numbers.items())
        if stats is None:
            return
        peaks = self._take_peaks(now_s) if connected else (protocol.SILENCE_DBFS, protocol.SILENCE_DBFS)
        self._base.query_one("#in", LevelMeter).show(peaks[0], stats.in_clips, now_s)
        self._base.query_one("#out", LevelMeter).show(peaks[1], stats.out_clips, now_s)
        note = self._base.query_one(NoteDisplay)
        note.show(stats.f0_hz if connected else 0.0, now_s)
        _subtitle(note, f"f0 {stats.f0_method}" if stats.f0_method else "")
        self._base.query_one(LatencyBar).model = latency_of(stats)

    def show_tables(self) -> None:
        """Bring counters and histories up to date."""
        view, now_s = self._client.view, self._clock()
        stats = view.stats
        if stats is None or not view.connected(now_s):
            return
        counters = self._base.query_one(Counters)
        counters.show(stats, now_s)
        _subtitle(counters, f"{stats.blocks} blocks")
        load, fill = max(self._load_max, stats.load), min(self._fill_min, stats.ring_fill)
        self._load_max, self._fill_min = 0.0, 1.0
        over = "  OVERLOAD" if load > 1.0 else ""
        self._base.query_one("#load", History).show(load, f"{stats.load:.0%}  p95 {stats.load_p95:.0%}{over}")
        self._base.query_one("#fill", History).show(fill, f"{stats.ring_fill:.0%}")
        self._base.query_one("#compute", Static).update(
            f" units {stats.encode_ms:.1f}  f0 {stats.pitch_ms:.1f}  voice {stats.synthesis_ms:.1f} ms"
        )

    def action_flip(self, switch: str) -> None:
        """Turn bypass or mute over."""
        if self._reachable():
            self._steering.toggle(switch)

    def action_panic(self) -> None:
        """Silence at once; sent even when nobody seems to be there."""
        self._reachable()
        self._steering.panic()

    def action_clear_panic(self) -> None:
        """End the panic."""
        if self._reachable():
            self._steering.clear_panic()

    def action_pitch(self, semitones: int) -> None:
        """Move the pitch."""
        if self._reachable() and self._steering.nudge("/pitch", float(semitones)) is None:
            self.notify("the daemon has not told its pitch yet", severity="warning")

    def action_clear_clips(self) -> None:
        """Forget the clips that were seen."""
        for meter in self._base.query(LevelMeter):
            meter.clear_clips()

    def action_help(self) -> None:
        """Open the help page."""
        self.push_screen(HelpScreen())

    def _reachable(self) -> bool:
        """Tell whether a daemon is there, and say so when it is not."""
        view = self._client.view
        if view.connected(self._clock()):
            return True
        self.notify(f"no daemon at {view.target}: the key did nothing", severity="warning", markup=False)
        return False

    def _take_peaks(self, now_s: float) -> tuple[float, float]:
        """Return (in, out) dBFS to show now: the highest since the last update, else the newest while it is fresh."""
        if self._peaks_dbfs is not None:
            self._peaks_shown, self._peaks_dbfs, self._peaks_at_s = self._peaks_dbfs, None, now_s
        elif now_s - self._peaks_at_s > PEAK_FRESH_S:
            self._peaks_shown = (protocol.SILENCE_DBFS, protocol.SILENCE_DBFS)
        return self._peaks_shown

    @property
    def _base(self) -> Screen[object]:
        """The screen below any page that lies over it: it goes on living under the help."""
        return self.screen_stack[0]


def _subtitle(widget: Widget, text: str) -> None:
    """Set a panel's lower title only when it changes: setting it redraws the whole border."""
    if widget.border_subtitle != text:
        widget.border_subtitle = text
