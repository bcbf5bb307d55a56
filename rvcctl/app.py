"""The screen. It shows a DaemonView and sends what keys and mouse ask for; quitting it never touches the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer

from rvcctl import messages
from rvcctl.client import ClientLike
from rvcctl.dashboard import PAGES, Dashboard
from rvcctl.peaks import PeakReader
from rvcctl.steering import Steering
from rvcctl.theme import RVCD_THEME
from rvcctl.view import Done, Failure
from rvcctl.widgets.choice_screen import ChoiceScreen
from rvcctl.widgets.help_screen import HelpScreen
from rvcctl.widgets.name_screen import NameScreen
from rvcd import protocol
from rvcd.params import BY_NAME, PARAMS

SCREEN_HZ = 10.0
NOTE_HZ = 5.0
TABLE_HZ = 2.0
SLOTS_ON_KEYS = 9
LATENCY_WORDS = {
    "low": "the shortest delay, for a GPU",
    "balanced": "the default",
    "safe": "the longest delay, for a slow machine",
}
MONITOR_WORDS = {
    "converted": "monitor: what goes out",
    "microphone": "monitor: your own voice",
}
F0_WORDS = {
    "swift": "fast and steady, the default",
    "rmvpe": "a network, good with noise; needs models.rmvpe",
    "fcpe": "a network; an extra to install",
    "harvest": "slow, smooth; not for short blocks",
    "dio": "fast, rough",
    "pm": "Praat's; an extra to install",
    "yin": "fast, plain",
}


class RvcctlApp(App[None]):
    """One daemon on one screen.

    client: fills the view that is shown. clock: seconds, the same as the client's. refresh_hz: how often the screen
    is brought up to date, however many messages arrive; 0 leaves it to show_levels() and show_tables() (tests).
    """

    TITLE = "rvcctl"
    CSS_PATH = "rvcctl.tcss"
    AUTO_FOCUS = "#params"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (118, "-wide")]  # noqa: RUF012  # Textual declares it as an instance variable
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-roomy"), (36, "-high"), (44, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("b", "flip('/bypass')", "bypass"),
        Binding("m", "flip('/mute')", "mute"),
        Binding("space", "panic", "PANIC"),
        Binding("c", "clear_panic", "clear"),
        Binding("left_square_bracket", "pitch(-1)", "pitch−", key_display="["),
        Binding("right_square_bracket", "pitch(1)", "pitch+", key_display="]"),
        Binding("a", "pitch_mode", "auto pitch", show=False),
        Binding("r", "flip('/record')", "record"),
        Binding("t", "talk", "talk", show=False),
        *(Binding(str(slot), f"slot({slot})", f"voice {slot}", show=False) for slot in range(1, SLOTS_ON_KEYS + 1)),
        *(Binding(page.key, f"page('{page.name}')", page.name, show=False) for page in PAGES),
        Binding("h", "monitor", "monitor", show=False),
        Binding("o", "monitor_source", "monitor's source", show=False),
        Binding("d", "choose_latency", "latency", show=False),
        Binding("f", "choose_f0_method", "pitch method", show=False),
        Binding("k", "choose_speaker", "speaker", show=False),
        Binding("ctrl+s", "save_preset", "save", show=False),
        Binding("x", "clear_clips", "clips"),
        Binding("question_mark", "help", "help", key_display="?"),
    ]

    def __init__(self, client: ClientLike, *, clock: Callable[[], float] = time.monotonic, refresh_hz: float = SCREEN_HZ) -> None:
        super().__init__()
        self._client = client
        self._clock = clock
        self._refresh_hz = refresh_hz
        self._steering = Steering(client, clock)
        self._peaks = PeakReader()

    def compose(self) -> ComposeResult:
        """The dashboard, and the keys below it."""
        yield Dashboard(id="dashboard")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Start listening to the daemon and the two clocks of the screen."""
        self.register_theme(RVCD_THEME)
        self.theme = RVCD_THEME.name
        self.run_worker(self._client.run(self), name="daemon", exit_on_error=True)
        if self._refresh_hz > 0:
            self.set_interval(1.0 / self._refresh_hz, self.show_levels)
            self.set_interval(1.0 / NOTE_HZ, self.show_note)
            self.set_interval(1.0 / TABLE_HZ, self.show_tables)
        self.show_levels()
        self.show_note()
        self.show_tables()

    # ---- what the client says

    def on_view_changed(self) -> None:
        """Note what would be lost between two updates of the screen."""
        if self._client.view.stats is not None:
            self._peaks.feed(self._client.view.stats)

    def on_failed(self, failure: Failure) -> None:
        """Pass a refusal on to the screen, unless a newer request took the place of this one: what it did is seen."""
        if failure.reason != protocol.SUPERSEDED:
            self.post_message(messages.CommandRefused(failure))

    def on_done(self, done: Done) -> None:
        """Pass on what was done."""
        self.post_message(messages.CommandDone(done))

    def show_levels(self) -> None:
        """Bring everything that moves fast up to date; widgets redraw only what changed."""
        view, now_s = self._client.view, self._clock()
        values = tuple(self._steering.value(param) for param in PARAMS)
        self._dashboard.show_fast(view, values, self._peaks.take_levels(now_s, fresh=view.connected(now_s)), now_s)

    def show_note(self) -> None:
        """Bring the note up to date."""
        self._dashboard.show_note(self._client.view, self._clock())

    def show_tables(self) -> None:
        """Bring counters and histories up to date."""
        view, now_s = self._client.view, self._clock()
        if view.stats is not None and view.connected(now_s):
            worst_load, lowest_fill = self._peaks.take_strain(view.stats)
            self._dashboard.show_slow(view.stats, worst_load, lowest_fill, now_s)

    # ---- what widgets say

    def on_command_refused(self, message: messages.CommandRefused) -> None:
        """Show the daemon's reason."""
        self.notify(message.failure.reason, title=f"{message.failure.command} failed", severity="error", markup=False)

    def on_command_done(self, message: messages.CommandDone) -> None:
        """Say what cannot be seen elsewhere."""
        done = message.done
        text = {"/preset/save": "saved preset", "/preset/delete": "deleted preset"}.get(done.command)
        if text:
            self.notify(f"{text} '{done.subject}'", markup=False, timeout=3)

    def on_clip_clear_requested(self, _message: messages.ClipClearRequested) -> None:
        """Clear both meters."""
        self.action_clear_clips()

    def on_page_chosen(self, message: messages.PageChosen) -> None:
        """Show the page."""
        self.action_page(message.page)

    def on_param_moved(self, message: messages.ParamMoved) -> None:
        """Change a parameter by so much."""
        if self._reachable() and self._steering.nudge(message.param, message.change) is None:
            self.notify(f"{message.param.name} is not known yet", severity="warning")
        self.show_levels()

    def on_param_placed(self, message: messages.ParamPlaced) -> None:
        """Give a parameter a value."""
        if self._reachable():
            self._steering.place(message.param, message.value)
        self.show_levels()

    def on_voice_picked(self, message: messages.VoicePicked) -> None:
        """Switch to the voice."""
        if self._reachable():
            self._steering.load_voice(message.name)

    def on_preset_picked(self, message: messages.PresetPicked) -> None:
        """Recall the preset."""
        if self._reachable():
            self._steering.recall_preset(message.name)

    def on_preset_unwanted(self, message: messages.PresetUnwanted) -> None:
        """Delete the preset when the user says so once more."""

        def answered(index: int | None) -> None:
            if index == 1 and self._reachable():
                self._steering.delete_preset(message.name)

        self.push_screen(ChoiceScreen(f"delete preset '{message.name}'?", (("keep it", ""), ("delete it", ""))), answered)

    # ---- what keys do

    def action_flip(self, switch: str) -> None:
        """Turn bypass, mute or record over."""
        if self._reachable():
            self._steering.toggle(switch)

    def action_talk(self) -> None:
        """Turn talk over: a terminal does not tell when a key is released."""
        stats = self._client.view.stats
        if self._reachable() and stats is not None:
            if stats.talk_mode == "off":
                self.notify("talk.mode is 'off' in the daemon's configuration: t does nothing", severity="warning")
            else:
                self._steering.toggle("/talk")

    def action_monitor(self) -> None:
        """Turn the monitor on or off; said, because a low screen has no meter for it."""
        if (stats := self._monitored()) is not None:
            self._steering.toggle("/monitor/mute")
            self.notify("monitor: on" if stats.monitor_mute else "monitor: muted", timeout=2)

    def action_monitor_source(self) -> None:
        """Let the monitor give the other of its two sources."""
        if (stats := self._monitored()) is not None:
            names = protocol.MONITOR_SOURCES
            other = names[names[0] == stats.monitor_source]
            self._steering.choose_monitor_source(other)
            self.notify(MONITOR_WORDS[other], timeout=2)

    def action_pitch_mode(self) -> None:
        """Let auto transpose, or the user alone. The daemon says why where it cannot."""
        if self._reachable() and (stats := self._client.view.stats) is not None:
            auto = stats.pitch_mode != protocol.PITCH_AUTO
            self._steering.choose_pitch_mode(protocol.PITCH_AUTO if auto else protocol.PITCH_MANUAL)

    def _monitored(self) -> protocol.Stats | None:
        """Return the telemetry where there is a monitor, and say so where there is none."""
        stats = self._client.view.stats
        if not self._reachable() or stats is None:
            return None
        if stats.monitor_state == protocol.MonitorState.OFF:
            self.notify("there is no monitor: set audio.monitor.device in the daemon's configuration", severity="warning")
            return None
        return stats

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
        self.on_param_moved(messages.ParamMoved(BY_NAME["pitch"], float(semitones)))

    def action_slot(self, slot: int) -> None:
        """Switch to the voice in a slot."""
        if self._reachable():
            self._steering.load_slot(slot)

    def action_page(self, name: str) -> None:
        """Bring a page to the screen and give it the keys."""
        self._dashboard.choose(name)

    def action_focus_next(self) -> None:
        """Tab: the next page; in a box that lies over the screen, its next part."""
        self._step_page(1)

    def action_focus_previous(self) -> None:
        """Shift+tab."""
        self._step_page(-1)

    def action_choose_latency(self) -> None:
        """Choose another latency from a box."""
        names, stats = protocol.LATENCY_PRESET_NAMES, self._client.view.stats
        self._choose(
            "latency · a short silence while it changes",
            tuple((name, LATENCY_WORDS.get(name, "")) for name in names),
            _index(names, stats.latency_preset if stats else ""),
            lambda index: self._steering.choose_latency(names[index]),
        )

    def action_choose_f0_method(self) -> None:
        """Choose another way to track the pitch from a box."""
        names, stats = protocol.F0_METHODS, self._client.view.stats
        self._choose(
            "how the pitch is tracked",
            tuple((name, F0_WORDS.get(name, "")) for name in names),
            _index(names, stats.f0_method if stats else ""),
            lambda index: self._steering.choose_f0_method(names[index]),
        )

    def action_choose_speaker(self) -> None:
        """Choose another speaker of the live voice from a box."""
        stats = self._client.view.stats
        if stats is not None and stats.speakers <= 1:
            self.notify("the live voice has one speaker", severity="warning")
            return
        speakers = min(stats.speakers, MAX_SPEAKERS) if stats is not None else 1
        self._choose(
            f"speaker of {stats.voice if stats else '?'}",
            tuple((f"speaker {number}", "") for number in range(speakers)),
            stats.speaker if stats and 0 <= stats.speaker < speakers else None,
            self._steering.choose_speaker,
        )

    def action_save_preset(self) -> None:
        """Ask for a name and keep the parameters under it."""
        if not self._reachable():
            return
        view = self._client.view

        def entered(name: str | None) -> None:
            if name and self._reachable():
                self._steering.save_preset(name)

        taken = tuple(entry.name for entry in view.presets or ())
        self.push_screen(NameScreen("save the parameters as a preset", view.stats.preset if view.stats else "", taken), entered)

    def action_clear_clips(self) -> None:
        """Forget the clips that were seen."""
        self._dashboard.clear_clips()

    def action_help(self) -> None:
        """Open the help page."""
        self.push_screen(HelpScreen())

    def _choose(self, title: str, options: tuple[tuple[str, str], ...], present: int | None, send: Callable[[int], None]) -> None:
        """Open a box of options and send what is chosen."""
        if not self._reachable():
            return

        def chosen(index: int | None) -> None:
            if index is not None and self._reachable():
                send(index)

        self.push_screen(ChoiceScreen(title, options, present), chosen)

    def _step_page(self, pages: int) -> None:
        if self.screen is self._base:
            self._dashboard.step(pages)
        elif pages > 0:
            super().action_focus_next()
        else:
            super().action_focus_previous()

    def _reachable(self) -> bool:
        """Tell whether a daemon is there, and say so when it is not."""
        view = self._client.view
        if view.connected(self._clock()):
            return True
        self.notify(f"no daemon at {view.target}: the key did nothing", severity="warning", markup=False)
        return False

    @property
    def _base(self) -> Screen[object]:
        """The screen below any page that lies over it: it goes on living under the help."""
        return self.screen_stack[0]

    @property
    def _dashboard(self) -> Dashboard:
        return self._base.query_one(Dashboard)


MAX_SPEAKERS = 999
"""More are not offered: the number comes from the network."""


def _index(names: tuple[str, ...], name: str) -> int | None:
    return names.index(name) if name in names else None
