"""The colours of the screen: a dark, quiet ground, and few colours that each mean one thing."""

from __future__ import annotations

from textual.theme import Theme

RVCD_THEME = Theme(
    name="rvcd",
    primary="#5fb3c4",  # what is yours to move: values, knobs, the note
    secondary="#8d9fd6",
    accent="#d8b26a",  # keys
    success="#7fb77e",  # goes out as it should
    warning="#d8a657",
    error="#e0676f",
    foreground="#d6dbe3",
    background="#12151a",
    surface="#181c22",
    panel="#232932",
    dark=True,
    variables={"footer-key-foreground": "#d8b26a", "footer-background": "#181c22", "footer-description-foreground": "#9aa4b2"},
)
