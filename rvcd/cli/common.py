"""What the commands of `rvcd` share: common options, tables, levels in colour, a quiet stderr, a clean end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from rvcd import standard_streams
from rvcd.cli.checks.finding import Level
from rvcd.instance import check_name

DEBUG_VARIABLE = "RVCD_DEBUG"
"""Set: tracebacks of rvcd's own faults and the chatter of the sound libraries are shown."""

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file; otherwise $RVCD_CONFIG, the user's, /etc's, the built-in default."),
]


def checked_name(name: str | None) -> str | None:
    """Refuse "", too: a script's empty variable must not turn one daemon into another."""
    return name if name is None else check_name(name)


NameOption = Annotated[
    str | None,
    typer.Option("--name", help="Name of the daemon, where several run: letters, digits, - and _.", callback=checked_name),
]
"""None: the daemon without a name."""
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
COLOURS = {Level.OK: typer.colors.GREEN, Level.NOTE: typer.colors.YELLOW, Level.FAIL: typer.colors.RED}


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


def coloured(level: Level) -> str:
    """Return the level's word in its colour, four columns wide."""
    return typer.style(f"{level.value:<4}", fg=COLOURS[level])


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


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep the chatter of ALSA, JACK and PortAudio off stderr, where sys.stderr still leads. RVCD_DEBUG=1 shows it.

    They write to descriptor 2; when a sound server dies, PortAudio writes 40 MB/s of the same line until it is stopped.
    """
    if os.environ.get(DEBUG_VARIABLE):
        yield
        return
    sys.stderr.flush()
    kept, usual = os.dup(2), sys.stderr
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        with standard_streams.complaints(kept) as sys.stderr:
            yield
    finally:
        sys.stderr = usual
        os.dup2(kept, 2)
        os.close(kept)
