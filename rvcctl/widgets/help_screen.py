"""What the keys do and what the words mean."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

KEYS: tuple[tuple[str, str], ...] = (
    ("b", "bypass: your own voice goes out, not the converted one"),
    ("m", "mute: nothing goes out"),
    ("space", "PANIC: silence at once; it stays until c"),
    ("c", "clear the panic"),
    ("[  ]", "pitch one semitone down, up"),
    ("x", "clear the clip marks (or click a meter)"),
    ("?  esc", "this page"),
    ("ctrl+q", "leave; the daemon goes on"),
)
WORDS: tuple[tuple[str, str], ...] = (
    ("load", "time to compute a block / its length; 100 % is too late"),
    ("ring fill", "converted sound that waits for the speaker"),
    ("late", "blocks that missed their deadline: silence, no added delay"),
    ("expired", "converted samples that came too late and were dropped"),
    ("xruns", "times the sound card's buffer ran empty or over"),
)


class HelpScreen(ModalScreen[None]):
    """A page over the screen; the keys that steer the daemon work here too."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark", "dismiss", "close"),
        Binding("b", "app.flip('/bypass')", show=False),
        Binding("m", "app.flip('/mute')", show=False),
        Binding("space", "app.panic", show=False),
        Binding("c", "app.clear_panic", show=False),
    ]

    def compose(self) -> ComposeResult:
        """Lay out the two tables in one box."""
        rows: list[Content] = []
        for title, table in (("Keys", KEYS), ("Words", WORDS)):
            rows += [Content("")] * bool(rows) + [Content.styled(title, "bold")]
            rows += [Content.assemble((f"  {key:<10}", "bold $text-primary"), text) for key, text in table]
        box = Static(Content("\n").join(rows), id="help")
        box.border_title = "rvcctl"
        yield box
