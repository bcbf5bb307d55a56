"""The keys that must work on whatever page lies over the screen."""

from __future__ import annotations

from textual.binding import Binding

SAFETY_KEYS = (
    Binding("b", "app.flip('/bypass')", show=False),
    Binding("m", "app.flip('/mute')", show=False),
    Binding("space", "app.panic", show=False),
    Binding("c", "app.clear_panic", show=False),
)
