"""Where the computing time of a block goes, inside the deadline: its parts, and how near the slow blocks come to it."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content

from rvcctl.widgets.shares import share_cells
from rvcd import protocol

PARTS: tuple[tuple[str, str, str], ...] = (
    ("u", "units", "bold $foreground on $primary 60%"),
    ("f", "F0", "bold $foreground on $secondary 45%"),
    ("i", "index", "bold $foreground on $secondary 25%"),
    ("v", "voice", "bold $foreground on $primary 25%"),
)
"""Letter, name and style; the letter stands in the bar, so nothing depends on telling the colours apart."""
INDEX_SHARE = 0.1
"""The part of the computing time from which on the index is shown apart from the voice."""
MARK = "┃"
"""Where the slowest twentieth of the blocks begins."""


@dataclass(frozen=True)
class ComputeModel:
    """Tenths of a millisecond. parts: of PARTS, of the newest block. p95: of the last blocks' whole computing time."""

    parts: tuple[int, ...] = (0,) * len(PARTS)
    p95: int = 0
    deadline: int = 0

    @property
    def is_late(self) -> bool:
        """Whether the slow blocks miss the deadline."""
        return self.p95 > self.deadline


def compute_of(stats: protocol.Stats) -> ComputeModel:
    """Return the model for a stats message."""
    index_ms, voice_ms = stats.retrieval_ms, stats.synthesis_ms
    if index_ms < INDEX_SHARE * (stats.encode_ms + stats.pitch_ms + index_ms + voice_ms):
        index_ms, voice_ms = 0.0, voice_ms + index_ms  # too little to be seen by itself
    parts = tuple(round(10 * max(0.0, ms)) for ms in (stats.encode_ms, stats.pitch_ms, index_ms, voice_ms))
    p95_ms = max(0.0, stats.load_p95 * stats.latency_block_ms)
    return ComputeModel(parts, round(10 * p95_ms), round(10 * max(0.0, stats.latency_deadline_ms)))


def compute_text(model: ComputeModel) -> str:
    """Return the p95 against the deadline in words."""
    late = "▲ LATE " if model.is_late else ""
    return f"{late}p95 {model.p95 / 10:.0f} of {model.deadline / 10:.0f} ms"


def compute_bar(model: ComputeModel, cells: int) -> Content:
    """Return a bar that spans the deadline: the parts, the time to spare, and a mark at the p95."""
    used = sum(model.parts)
    spare = max(0, model.deadline - used)
    widths = share_cells((*model.parts, spare), cells)
    pieces: list[tuple[str, str]] = []
    before = ""
    for (letter, name, style), tenths, width in zip(PARTS, model.parts, widths, strict=False):
        lead = " " if before else ""  # a letter that fills its part must not read as the first of the next name
        texts = (f"{lead}{name} {tenths / 10:.1f}", lead + name, letter[:width])
        gap = letter != PARTS[-1][0]  # before the next part; the last one ends at dots
        text = next(text for text in texts if len(text) + gap <= width or text == letter[:width])
        pieces.append((text.ljust(width), style))
        before = text if text and len(text) == width else "" if width else before
    track = ["·"] * widths[-1]
    mark = round(model.p95 / model.deadline * cells) - 1 if model.deadline else -1
    first_spare = cells - widths[-1]
    if first_spare <= mark < cells:
        track[mark - first_spare] = MARK
    pieces.append(("".join(track), "$foreground-muted"))
    return Content.assemble(*[piece for piece in pieces if piece[0]])
