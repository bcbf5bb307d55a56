"""Large letters made of half blocks: what a note name needs, and nothing else."""

from __future__ import annotations

_GLYPHS: dict[str, tuple[str, ...]] = {
    "A": (".##.", "#..#", "####", "#..#", "#..#"),
    "B": ("###.", "#..#", "###.", "#..#", "###."),
    "C": (".###", "#...", "#...", "#...", ".###"),
    "D": ("###.", "#..#", "#..#", "#..#", "###."),
    "E": ("####", "#...", "###.", "#...", "####"),
    "F": ("####", "#...", "###.", "#...", "#..."),
    "G": (".###", "#...", "#.##", "#..#", ".###"),
    "#": (".#.#.", "#####", ".#.#.", "#####", ".#.#."),
    "-": ("....", "....", "####", "....", "...."),
    "0": (".##.", "#..#", "#..#", "#..#", ".##."),
    "1": (".#.", "##.", ".#.", ".#.", "###"),
    "2": ("###.", "...#", ".##.", "#...", "####"),
    "3": ("###.", "...#", ".##.", "...#", "###."),
    "4": ("#..#", "#..#", "####", "...#", "...#"),
    "5": ("####", "#...", "###.", "...#", "###."),
    "6": (".##.", "#...", "###.", "#..#", ".##."),
    "7": ("####", "...#", "..#.", ".#..", ".#.."),
    "8": (".##.", "#..#", ".##.", "#..#", ".##."),
    "9": (".##.", "#..#", ".###", "...#", ".##."),
}
_HALVES = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
GLYPH_PIXELS = 5


def big_text(text: str, scale: int = 1) -> list[str]:
    """Return text as rows of half blocks of one width; scale 1 is 3 rows high, scale 2 is 5. Unknown characters are blank."""
    pixels = [""] * (GLYPH_PIXELS * scale)
    for char in text:
        glyph = _GLYPHS.get(char, ("..",) * GLYPH_PIXELS)
        for y in range(GLYPH_PIXELS * scale):
            pixels[y] += "".join(dot * scale for dot in glyph[y // scale]) + "." * scale
    width = len(pixels[0])
    pixels += ["." * width] * (len(pixels) % 2)
    return [
        "".join(_HALVES[(upper == "#", lower == "#")] for upper, lower in zip(pixels[y], pixels[y + 1], strict=True))
        for y in range(0, len(pixels), 2)
    ]
