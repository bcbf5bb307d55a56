"""What `rvcd render` shows while it converts many files, and at the end."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rvcd.cli.common import print_table
from rvcd.cli.voice_text import printable
from rvcd.errors import RvcdError

if TYPE_CHECKING:
    from rvcd.rendering.batch import Watcher
    from rvcd.rendering.report import Row

SIGNAL_EXIT = 128


def render_many(
    config: Path | None, instance: str, inputs: Sequence[str], out: Path, wanted: dict[str, Any], *, as_json: bool
) -> None:
    """Convert files into a folder and print the report. Exits with 1 if any failed, and as a signal asks if it was one."""
    if out.exists() and not out.is_dir():
        raise RvcdError(f"{out}: is a file; several inputs, a folder or a pattern are written into a folder")
    from rvcd.config.settings import load_config
    from rvcd.rendering.batch import BatchRequest, Interrupted, run_batch
    from rvcd.rendering.report import HEADINGS, as_json as report_json, summary_line, table_rows  # fmt: skip  # isort: skip

    settings = load_config(config, instance)
    request = BatchRequest(inputs=tuple(inputs), out=out, **wanted)
    signalled = 0
    with watching() as watcher:
        try:
            found = run_batch(settings, request, watcher)
        except Interrupted as ended:
            found, signalled = ended.report, ended.number
    if as_json:
        typer.echo(report_json(found))
    else:
        print_table(HEADINGS, [tuple(printable(cell) for cell in row) for row in table_rows(found)])
    typer.echo(summary_line(found), err=as_json)
    if signalled:
        typer.echo("rvcd: interrupted; the same command with --resume goes on", err=True)
        raise typer.Exit(SIGNAL_EXIT + signalled)
    if not found.all_good:
        raise typer.Exit(1)


@contextlib.contextmanager
def watching() -> Iterator[Watcher]:
    """Give what shows the progress: bars on a terminal, else a line on the standard error for each file that has ended."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Bars(bars)


class _Lines:
    """One line for each file that ends."""

    def __init__(self) -> None:
        self._total, self._ended = 0, 0

    def begins(self, total: int, waiting: int) -> None:
        self._total = total

    def file_begins(self, number: int, source: str) -> None:
        pass

    def file_advances(self, number: int, done: float) -> None:
        pass

    def file_ends(self, number: int, row: Row) -> None:
        self._ended += 1
        self.says(f"{self._ended} of {self._total}: {line_of(row)}")

    def says(self, text: str) -> None:
        typer.echo(printable(text), err=True)


class _Bars:
    """A bar for the whole, by the files' progress, and one for each file that is being converted."""

    def __init__(self, bars: Any) -> None:
        self._bars, self._files = bars, dict[int, Any]()
        self._whole: Any = None
        self._total = 0
        self._ended, self._part = 0, dict[int, float]()

    def begins(self, total: int, waiting: int) -> None:
        self._total = total
        self._whole = self._bars.add_task(self._label(), total=total)

    def file_begins(self, number: int, source: str) -> None:
        if number not in self._files:
            self._files[number] = self._bars.add_task(printable(Path(source).name), total=1.0)

    def file_advances(self, number: int, done: float) -> None:
        self._part[number] = done
        self._bars.update(self._files[number], completed=done)
        self._update()

    def file_ends(self, number: int, row: Row) -> None:
        self._ended += 1
        self._part.pop(number, None)
        if number in self._files:
            self._bars.remove_task(self._files.pop(number))
        if row.error:
            self.says(line_of(row))
        self._update()

    def says(self, text: str) -> None:
        self._bars.console.print(printable(text), markup=False, highlight=False)

    def _update(self) -> None:
        done = self._ended + sum(self._part.values())
        self._bars.update(self._whole, completed=done, description=self._label())

    def _label(self) -> str:
        return f"{self._ended} of {self._total} files"


def line_of(row: Row) -> str:
    """Return one line on how a file ended."""
    made = row.rendered
    if row.error:
        return f"{row.status.value}: {row.error}"
    if made is None:
        return f"{row.status.value}: {row.source}"
    speed = made.duration_s / max(made.seconds, 1e-9)
    return f"{row.status.value}: {row.target} ({made.duration_s:.1f} s, {speed:.1f} x real time)"
