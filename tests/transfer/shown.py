"""Progress as tests look at it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Noted:
    """seen: (name, bytes there, size). waits: (reason, pause)."""

    seen: list[tuple[str, int, int | None]] = field(default_factory=list)
    waits: list[tuple[str, float]] = field(default_factory=list)

    def at(self, name: str, done_bytes: int, size_bytes: int | None) -> None:
        self.seen.append((name, done_bytes, size_bytes))

    def waiting(self, name: str, reason: str, pause_s: float) -> None:
        self.waits.append((reason, pause_s))
