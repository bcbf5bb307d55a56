"""What `rvcd check` and `rvcd voice check` find."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Level(str, enum.Enum):
    """How much a finding matters. FAIL: the daemon would not start, or would stay silent."""

    OK = "ok"
    NOTE = "note"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    level: Level
    topic: str
    text: str
