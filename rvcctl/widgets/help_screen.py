"""What the keys do and what the words mean."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from rvcctl.widgets.safety_keys import SAFETY_KEYS

KEYS: tuple[tuple[str, str], ...] = (
    ("b  m", "bypass: your own voice goes out · mute: silence"),
    ("space", "PANIC: silence at once; it stays until c"),
    ("c", "clear the panic"),
    ("[  ]  a", "pitch one semitone down, up · auto (by register)"),
    ("1-9", "the voice in this slot"),
    ("r", "record on, off"),
    ("t", "talk on, off (a terminal cannot see a key let go)"),
    ("h  o", "the monitor on, off · what goes out, or your own voice"),
    ("p  v  s  e  l", "pages: params (p: more), voices, presets, engine, log"),
    ("up  down", "choose a row; enter or a click takes the voice or preset"),
    ("left  right", "less, more; shift: a lot, ctrl: a little; or the mouse"),
    ("0  backspace", "the parameter back to its default"),
    ("ctrl+s  delete", "save the parameters as a preset · delete a preset"),
    ("d  f  k", "choose latency, pitch method (f0), speaker"),
    ("x", "clear the clip marks (or click a meter)"),
    ("?  esc", "this page"),
    ("ctrl+p", "more commands, other colours"),
    ("ctrl+q", "leave; the daemon goes on"),
)
WORDS: tuple[tuple[str, str], ...] = (
    ("load", "time to compute a block / its length; 100 % is too late"),
    ("p95", "one block in twenty takes longer than this"),
    ("u  f  v", "computing inside the deadline: units, F0, voice"),
    ("ring", "converted sound that waits for the speaker"),
    ("late", "blocks that missed their deadline: silence, no added delay"),
    ("expired", "converted samples that came too late and were dropped"),
    ("gap  overflow", "converted samples that were never written, or had no room"),
    ("bad", "samples that were no number: taken as silence"),
    ("scheduling", "of the device's thread: FIFO is real-time, OTHER is not"),
    ("xruns", "times the sound card's buffer ran empty or over"),
)
KEY_CELLS = 15


class HelpScreen(ModalScreen[None]):
    """A page over the screen; the keys that steer the daemon work here too."""

    AUTO_FOCUS = "*"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark", "dismiss", "close"), *SAFETY_KEYS]

    def compose(self) -> ComposeResult:
        """Lay out the two tables in one box, which scrolls where it is too long."""
        rows: list[Content] = []
        for title, table in (("Keys", KEYS), ("Words", WORDS)):
            rows += [Content("")] * bool(rows) + [Content.styled(title, "bold")]
            rows += [Content.assemble((f"  {key:<{KEY_CELLS}}", "bold $accent"), text) for key, text in table]
        with VerticalScroll(id="help", classes="box") as box:
            box.border_title = "rvcctl"
            box.border_subtitle = "up, down: more · esc closes"
            yield Static(Content("\n").join(rows))
