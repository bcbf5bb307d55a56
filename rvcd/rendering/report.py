"""What a batch reports at its end: a row for each file, sums, as JSON and as a table."""

from __future__ import annotations

import enum
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from rvcd.errors import RvcdError
from rvcd.rendering.messages import Rendered

FORMAT = 1


class Status(str, enum.Enum):
    """How a file ended."""

    DONE = "done"
    SKIPPED = "skipped"
    """It was finished before, and nothing has changed since."""
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """The batch was ended before it was done."""


class Row(Struct, frozen=True):
    """One file. target "": it has none. error: why it failed, in one sentence. rendered: also of what was skipped."""

    source: str
    target: str
    status: Status
    error: str = ""
    rendered: Rendered | None = None


class BatchReport(Struct, frozen=True):
    """All of a batch. seconds: by the clock, from the start of the first worker. jobs: worker processes there were."""

    rows: tuple[Row, ...]
    seconds: float
    jobs: int
    voice: str
    settings_hash: str
    notes: tuple[str, ...] = ()

    def count(self, status: Status) -> int:
        """Return how many files ended so."""
        return sum(row.status is status for row in self.rows)

    @property
    def done_s(self) -> float:
        """Seconds of audio that this run has made."""
        return sum(row.rendered.duration_s for row in self.rows if row.rendered and row.status is Status.DONE)

    @property
    def all_good(self) -> bool:
        """Whether every file is there."""
        return all(row.status in (Status.DONE, Status.SKIPPED) for row in self.rows)


HEADINGS = ("file", "status", "s", "speed", "peak", "clipped", "loudness", "remark")


def table_rows(report: BatchReport) -> list[tuple[str, ...]]:
    """Return the rows under HEADINGS. speed: times real time of one worker. clipped: samples of the source, and of the target."""
    return [_table_row(row) for row in report.rows]


def _table_row(row: Row) -> tuple[str, ...]:
    made = row.rendered
    reason = row.error.removeprefix(f"{row.source}: ")
    if made is None:
        return row.source, row.status.value, "-", "-", "-", "-", "-", reason
    return (
        row.source, row.status.value, f"{made.duration_s:.1f}", f"{made.duration_s / max(made.seconds, 1e-9):.1f} x",
        _db(made.made.peak_dbfs, "dBFS"), f"{made.source.clipped_samples}, {made.made.clipped_samples}",
        _db(made.made.loudness_lufs, "LUFS"), reason or "; ".join(made.notes),
    )  # fmt: skip


def _db(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.1f} {unit}"


def summary_line(report: BatchReport) -> str:
    """Return the sums in one line."""
    counts = [f"{report.count(status)} {status.value}" for status in Status if report.count(status) or status is Status.DONE]
    speed = f" ({report.done_s / report.seconds:.1f} x real time)" if report.done_s and report.seconds > 0 else ""
    jobs = f", {report.jobs} worker(s)" if report.jobs else ""
    return f"{', '.join(counts)}: {report.done_s:.1f} s of audio in {report.seconds:.1f} s{speed}{jobs}, voice {report.voice}"


def as_json(report: BatchReport) -> str:
    """Return the report as JSON; what is not known is null. In ASCII: the name of a file need not be text."""
    rows = [_json_row(row) for row in report.rows]
    document = {
        "format": FORMAT,
        "voice": report.voice,
        "settings": report.settings_hash,
        "jobs": report.jobs,
        "seconds": round(report.seconds, 3),
        "audio_s": round(report.done_s, 3),
        "speed": round(report.done_s / report.seconds, 3) if report.seconds > 0 else None,
        **{status.value: report.count(status) for status in Status},
        "notes": list(report.notes),
        "files": rows,
    }
    return json.dumps(document, indent=2)


def _json_row(row: Row) -> dict[str, Any]:
    made = row.rendered
    fields: dict[str, Any] = {"source": row.source, "target": row.target, "status": row.status.value, "error": row.error or None}
    if made is not None:
        fields |= {
            "duration_s": round(made.duration_s, 4), "seconds": round(made.seconds, 3), "compute_s": round(made.compute_s, 3),
            "speed": round(made.duration_s / max(made.seconds, 1e-9), 3), "rate_hz": made.rate_hz, "channels": made.channels,
            **{f"source_{name}": value for name, value in _rounded(made.source).items()}, **_rounded(made.made),
            "notes": list(made.notes),
        }  # fmt: skip
    return fields


def _rounded(levels: Struct) -> dict[str, Any]:
    found = msgspec.to_builtins(levels)
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in found.items()}


def write_report(report: BatchReport, path: Path) -> None:
    """Write the JSON, whole or not at all. Raises RvcdError."""
    name = ""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            os.fchmod(descriptor, 0o666 & ~_umask())
            file.write(as_json(report) + "\n")
        os.replace(name, path)
    except OSError as error:
        if name:
            Path(name).unlink(missing_ok=True)
        raise RvcdError(f"{path}: the report cannot be written: {(error.strerror or str(error)).lower()}") from None


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
