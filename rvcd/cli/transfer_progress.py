"""How a transfer is shown: a bar on a terminal, a line at the beginning and at each wait elsewhere. Goes to stderr."""

from __future__ import annotations

import sys
from types import TracebackType

import typer


class ShownProgress:
    """A rvcd.transfer.download.Progress for people. Used as a context manager."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

        self._bars: Progress | None = None
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
            )
            self._bars = Progress(*columns, console=Console(stderr=True))
        self._tasks: dict[str, object] = {}

    def __enter__(self) -> ShownProgress:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()

    def at(self, name: str, done_bytes: int, size_bytes: int | None) -> None:
        if self._bars is not None:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=size_bytes)
            self._bars.update(self._tasks[name], completed=done_bytes, total=size_bytes)  # type: ignore[arg-type]
        elif name not in self._tasks:
            self._tasks[name] = name
            size = f"{size_bytes / 1e6:,.1f} MB" if size_bytes is not None else "a file of unknown size"
            typer.echo(f"getting {name}, {size}", err=True)

    def waiting(self, name: str, reason: str, pause_s: float) -> None:
        text = f"{name}: {reason}; trying again in {pause_s:g} s"
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False)
        else:
            typer.echo(text, err=True)
