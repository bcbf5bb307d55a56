"""`rvcd voice index`: makes a voice's index from recordings."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from rvcd.cli.common import ConfigOption, NameOption, unwound_by_signals
from rvcd.cli.voice_names import find_voices
from rvcd.cli.voice_text import commands_to_use, note, printable
from rvcd.errors import AudioFileError, RvcdError

app = typer.Typer(help="Make a voice's index from recordings.", no_args_is_help=True, rich_markup_mode=None)


@app.command("build")
def build(
    voice: Annotated[str, typer.Argument(metavar="NAME", help="A voice's name, or its .pth file.")],
    recordings: Annotated[
        list[str],
        typer.Argument(
            metavar="RECORDINGS...",
            help="Files, folders and quoted patterns: the voice's speaker alone, minutes of clean speech.",
        ),
    ],
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The same one gives the same index.")] = 0,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace the index that the voice has.")] = False,
    config: ConfigOption = None,
    instance: NameOption = None,
) -> None:
    """Make NAME.index beside a voice from recordings of its speaker, as RVC's training does, and name it in its voice.toml."""
    from rvcd.audio.found_files import find_audio
    from rvcd.config.settings import load_config

    settings = load_config(config, instance or "")
    found = find_voices(settings, voice)
    if len(found) != 1:
        raise RvcdError(f"{voice}: holds {len(found)} voices; name one of their .pth files")
    notes: list[str] = []
    files = find_audio(recordings, notes)
    note(*notes, *(file.problem for file in files if file.problem))
    usable = [file.source for file in files if not file.problem]
    if not usable:
        raise AudioFileError(f"{', '.join(map(printable, recordings))}: there is no recording to make an index of")
    from rvcd.indexing.builder import IndexRequest, build_index

    with unwound_by_signals(), stages() as progress:
        made = build_index(settings, IndexRequest(found[0], usable, seed, force), progress)
    heard, header = made.heard, made.header
    note(*heard.notes)
    of = f" (centres of {made.units:,} units)" if made.units > header.vectors else ""
    typer.echo(
        f"index       {printable(header.path)}: {header.vectors:,} vectors of width {header.width}{of}, {header.lists:,} lists"
    )
    typer.echo(f"heard       {heard.used_s:,.1f} s of sound in {heard.given_s:,.1f} s of {heard.files} of {len(files)} file(s)")
    if made.f0_median_hz:
        typer.echo(f"register    {made.f0_median_hz:g} Hz")
    typer.echo(f"settings    {printable(made.toml_path)}")
    typer.echo(f"use it      {commands_to_use(found[0].name, settings)}")


@contextlib.contextmanager
def stages() -> Iterator[Callable[[str, float], None]]:
    """Give a function that takes a stage's name and what is done of it, 0..1: a bar for each on a terminal, else a line."""
    if not sys.stderr.isatty():
        begun: set[str] = set()

        def say(stage: str, done: float) -> None:
            if stage not in begun:
                begun.add(stage)
                typer.echo(f"{stage} ...", err=True)

        yield say
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(stage: str, done: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=1.0)
            bars.update(tasks[stage], completed=done)

        yield advance
