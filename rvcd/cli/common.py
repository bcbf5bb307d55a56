"""What the commands of `rvcd` share: common options, tables, a clean end."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file; otherwise $RVCD_CONFIG, the user's, /etc's, the built-in default."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def print_table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns: drawn by rich on a terminal, separated by tabs elsewhere, so that `cut` works."""
    if not sys.stdout.isatty():
        for row in (headings, *rows):
            typer.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


@contextlib.contextmanager
def unwound_by_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the program as Ctrl-C does, so that no unfinished file stays behind."""

    def unwind(number: int, _: object) -> None:
        sys.exit(128 + number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    # A signal that is ignored, as nohup does, stays ignored.
    replaced = {n: signal.signal(n, unwind) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
