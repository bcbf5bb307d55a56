"""What lies where on the screen, and which part of the view each widget shows."""

from __future__ import annotations

from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.markup import escape
from textual.widget import Widget

from rvcctl.view import DaemonView
from rvcctl.widgets.counters import CounterMemory
from rvcctl.widgets.engine_page import EnginePage
from rvcctl.widgets.entry_list import PresetList, VoiceList
from rvcctl.widgets.fault_line import FaultLine, said_of
from rvcctl.widgets.latency_bar import LatencyBar, latency_of
from rvcctl.widgets.level_meter import LevelMeter
from rvcctl.widgets.level_scale import LevelScale
from rvcctl.widgets.log_tail import LogTail
from rvcctl.widgets.losses import LossLine
from rvcctl.widgets.monitor_meter import MonitorMeter
from rvcctl.widgets.note_display import NoteDisplay
from rvcctl.widgets.page_bar import PageBar
from rvcctl.widgets.param_table import ParamTable, pitch_word
from rvcctl.widgets.state_banner import StateBanner, banner_of
from rvcctl.widgets.strain import StrainLine
from rvcd import protocol


@dataclass(frozen=True)
class Page:
    """One page of the lower part. group: pages of one group share a row where the screen is wide."""

    name: str
    key: str
    group: str


PAGES: tuple[Page, ...] = (
    Page("params", "p", "steer"),
    Page("voices", "v", "steer"),
    Page("presets", "s", "steer"),
    Page("engine", "e", "watch"),
    Page("log", "l", "watch"),
)
GROUPS = ("steer", "watch")


def page_of(name: str) -> Page:
    """Return the page of a name."""
    return next(page for page in PAGES if page.name == name)


class Dashboard(Vertical):
    """State, levels, note and latency, always; below them the pages.

    A low terminal shows one group of pages and a narrow one a single page of each group; a large one shows them all.
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._losses = CounterMemory()
        self._titles: dict[str, str] = {}
        self._chosen = {"steer": "params", "watch": "engine"}
        self._group = "steer"

    def compose(self) -> ComposeResult:
        """Lay out everything but the row of keys."""
        yield StateBanner(id="banner")
        yield FaultLine(id="fault")
        with Vertical(id="body"):
            with Vertical(id="levels"):
                yield LevelMeter("IN", id="in")
                yield LevelMeter("OUT", id="out")
                yield MonitorMeter(id="monitor")
                yield LevelScale()
                yield LossLine(id="lost")
                yield StrainLine(id="strain")
            with Horizontal(id="middle"):
                yield NoteDisplay(id="note")
                yield LatencyBar(id="latency")
            for group in GROUPS:
                own = [page for page in PAGES if page.group == group]
                with Vertical(id=group, classes="group"):
                    yield PageBar(tuple((page.key, page.name) for page in PAGES), classes="bar -alone")
                    yield PageBar(tuple((page.key, page.name) for page in own), classes="bar -stacked")
                    with Horizontal(classes="pages"):
                        for page in own:
                            widget = _make(page.name)
                            widget.border_title = f" [b $accent]{page.key}[/] {page.name} "
                            yield widget

    def on_mount(self) -> None:
        """Begin with the parameters."""
        self._show_pages()

    def choose(self, name: str) -> None:
        """Bring a page to the screen and give it the keys; where the parameters have them, their next group."""
        table = self.query_one(ParamTable)
        if name == table.id and table.has_focus:
            table.action_page(1)
        self._note_page(name)
        self.screen.set_focus(self.query_one(f"#{name}"))

    def step(self, pages: int) -> None:
        """Walk to the next page or the one before."""
        names = [page.name for page in PAGES]
        present = names.index(self._chosen[self._group])
        self.choose(names[(present + pages) % len(names)])

    def on_descendant_focus(self) -> None:
        """Remember the page that a click gave the keys to."""
        focused = self.screen.focused
        if focused is not None and focused.id in {page.name for page in PAGES}:
            self._note_page(focused.id)

    def _note_page(self, name: str) -> None:
        self._group = page_of(name).group
        self._chosen[self._group] = name
        self._show_pages()

    def _show_pages(self) -> None:
        for group in GROUPS:
            self.query_one(f"#{group}").set_class(group == self._group, "-chosen")
        for page in PAGES:
            self.query_one(f"#{page.name}").set_class(self._chosen[page.group] == page.name, "-chosen")
        for bar in self.query(PageBar).results(PageBar):
            shown = self._chosen.values() if bar.has_class("-stacked") else (self._chosen[self._group],)
            bar.shown = frozenset(shown)

    def show_fast(
        self, view: DaemonView, values: tuple[float | None, ...], peaks_dbfs: tuple[float, float, float], now_s: float
    ) -> None:
        """Bring everything that moves or answers a key up to date. values: of PARAMS. peaks_dbfs: input, output, monitor."""
        connected, stats = view.connected(now_s), view.stats
        self.query_one(StateBanner).model = banner_of(
            stats,
            connected=connected,
            age_s=view.age_s(now_s),
            target=view.target,
            trouble=view.trouble,
            name=view.name,
        )
        self.query_one(FaultLine).said = said_of(stats if connected else None)
        self.query_one("#body").set_class(not connected, "-stale")
        has_monitor = stats is not None and stats.monitor_state != protocol.MonitorState.OFF
        self.query_one(ParamTable).show(values, with_desk=has_monitor, pitch_word=pitch_word(stats))
        self.query_one(VoiceList).show(view.voices, stats.voice if stats else "", stats.loading if stats else "")
        self.query_one(PresetList).show(view.presets, stats.preset if stats else "")
        self.query_one(LogTail).show(view.log)
        if stats is None:
            return
        self.query_one("#in", LevelMeter).show(peaks_dbfs[0], stats.in_clips, now_s)
        self.query_one("#out", LevelMeter).show(peaks_dbfs[1], stats.out_clips, now_s)
        self.query_one(MonitorMeter).show_monitor(stats, peaks_dbfs[2], now_s)
        self._title(self.query_one(NoteDisplay), "note", "f", stats.f0_method)
        self._title(self.query_one(LatencyBar), "latency", "d", stats.latency_preset)

    def _title(self, widget: Widget, name: str, key: str, choice: str) -> None:
        """Set a panel's title with what was chosen, only when that changes: setting it redraws the whole panel."""
        if self._titles.get(name) != choice:
            self._titles[name] = choice
            widget.border_title = f" {name} · [b $accent]{key}[/] {escape(choice) or '–'} "

    def show_note(self, view: DaemonView, now_s: float) -> None:
        """Bring the note up to date: it is drawn in large letters, so less often than the levels."""
        if view.stats is not None:
            self.query_one(NoteDisplay).show(view.stats.f0_hz if view.connected(now_s) else 0.0, now_s)

    def show_slow(self, stats: protocol.Stats, worst_load: float, lowest_fill: float, now_s: float) -> None:
        """Bring latency, losses and histories up to date. worst_load, lowest_fill: since the last call, as shares."""
        rows = self._losses.feed(stats, now_s)
        self.query_one(LatencyBar).model = latency_of(stats)
        self.query_one(LossLine).rows = rows
        self.query_one(StrainLine).show(stats, worst_load, lowest_fill)
        self.query_one(EnginePage).show(stats, rows, worst_load, lowest_fill)

    def clear_clips(self) -> None:
        """Forget the clips that were seen."""
        for meter in self.query(LevelMeter).results(LevelMeter):
            meter.clear_clips()


def _make(page: str) -> Widget:
    kinds: dict[str, type[Widget]] = {
        "params": ParamTable, "voices": VoiceList, "presets": PresetList, "engine": EnginePage, "log": LogTail,
    }  # fmt: skip
    return kinds[page](id=page, classes="page")
