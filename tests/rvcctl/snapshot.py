"""Pictures of the screen as text files that a reviewer can read: the characters, and below them which style each has.

Colours are written as words ('dark green'), so that a shade that another Textual mixes a little differently is no change.
Written anew by RVCD_UPDATE_SNAPSHOTS=1; look at the difference before committing it.
"""

from __future__ import annotations

import colorsys
import difflib
import os
import string
from pathlib import Path

from rich.color import Color
from rich.style import Style
from textual.app import App

FOLDER = Path(__file__).parent / "snapshots"
UPDATE = "RVCD_UPDATE_SNAPSHOTS"
LETTERS = string.ascii_letters + string.digits
HUES = ("red", "yellow", "green", "cyan", "blue", "purple")


def colour_word(color: Color | None) -> str:
    """Return lightness and hue of a colour as words."""
    if color is None or color.triplet is None:
        return "default"
    hue, lightness, saturation = colorsys.rgb_to_hls(*(part / 255 for part in color.triplet))
    shade = "dark" if lightness < 0.3 else "light" if lightness > 0.7 else "middle"
    return f"{shade} {'grey' if saturation < 0.2 else HUES[round(hue * 6) % 6]}"


def style_words(style: Style | None) -> str:
    """Return what tells a style from others."""
    if style is None:
        return "plain"
    attributes = [name for name in ("bold", "dim", "italic", "underline", "reverse", "strike") if getattr(style, name)]
    return " ".join([*attributes, colour_word(style.color), "on", colour_word(style.bgcolor)])


def picture(app: App[None]) -> str:
    """Return the screen's characters, one letter of style for each of them, and what the letters mean."""
    letters: dict[str, str] = {}
    rows, styles = [], []
    for strip in app.screen._compositor.render_strips():
        row = style_row = ""
        for segment in strip:
            letter = letters.setdefault(style_words(segment.style), LETTERS[len(letters)])
            row += segment.text
            style_row += letter * len(segment.text)
        rows.append(row.rstrip())
        styles.append(style_row)
    legend = [f"{letter}  {words}" for words, letter in letters.items()]
    return "\n".join([*rows, "=" * app.size.width, *styles, "=" * app.size.width, *legend, ""])


def check(app: App[None], name: str) -> None:
    """Compare the screen with the stored picture of a name, or store it when asked to by the environment."""
    path, seen = FOLDER / f"{name}.txt", picture(app)
    if os.environ.get(UPDATE):
        path.write_text(seen, "utf-8")
        return
    assert path.exists(), f"there is no picture {path.name} yet: {UPDATE}=1 writes it"
    stored = path.read_text("utf-8")
    difference = "\n".join(difflib.unified_diff(stored.splitlines(), seen.splitlines(), "stored", "seen", lineterm="", n=0))
    assert stored == seen, f"{path.name} differs; if it is meant, {UPDATE}=1 stores the new one:\n{difference}"
