"""Rows that a script writes one by one, so that it goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Results:
    """A file of rows of JSON, each with the mark of the voice and a key; rows of other marks are left alone."""

    def __init__(self, path: Path, mark: str) -> None:
        self._path, self._mark = path, mark
        lines = path.read_text().splitlines() if path.exists() else []
        self._rows = [row for row in map(json.loads, lines) if row["mark"] == mark]

    def __contains__(self, key: str) -> bool:
        return any(row["key"] == key for row in self._rows)

    def add(self, key: str, row: Row) -> None:
        whole = {"mark": self._mark, "key": key, **row}
        self._rows.append(whole)
        with self._path.open("a") as file:
            file.write(json.dumps(whole) + "\n")

    @property
    def rows(self) -> list[Row]:
        return list(self._rows)
