"""`rvcd render` with - for the standard input or output: samples there, and everything else on the standard error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, BinaryIO, cast

import typer

from rvcd import standard_streams
from rvcd.cli.common import unwound_by_signals
from rvcd.cli.render import STANDARD, progress_bar
from rvcd.cli.voice_text import note, printable
from rvcd.errors import RvcdError


def render_through_pipes(
    config: Path | None, instance: str, source: str, target: str, wanted: dict[str, Any], sample_format: str, input_rate_hz: int
) -> None:
    """Convert from or to a standard stream until the input ends. A reader that leaves ends it without a word."""
    if source == STANDARD and sys.stdin.isatty():
        raise RvcdError("-: the standard input is a terminal; pipe audio into it, for example: ffmpeg -i in.mp3 -f wav - | ...")
    if target == STANDARD and sys.stdout.isatty():
        raise RvcdError("-: the standard output is a terminal; pipe it into a program, or name a file")
    if source != STANDARD and not Path(source).is_file():
        raise RvcdError(f"{source}: {'is no audio file' if Path(source).exists() else 'does not exist; check the path'}")
    from rvcd.config.settings import load_config

    settings = load_config(config, instance)
    from rvcd.rendering.file import RenderRequest
    from rvcd.rendering.pipe import PipeRequest, render_pipe

    request = PipeRequest(RenderRequest(source=Path(source), target=Path(target), **wanted), sample_format, input_rate_hz)
    output: list[BinaryIO] = [standard_streams.take_output()] if target == STANDARD else []
    with unwound_by_signals(), progress_bar("standard input" if source == STANDARD else Path(source).name) as advance:
        result = render_pipe(settings, request, cast(Any, sys.stdin.buffer), lambda: output[0], advance)
    note(*result.notes)
    speed = result.duration_s / max(result.compute_s, 1e-9)
    kind = f"WAV of {result.format}" if result.header else result.format if target != STANDARD else f"raw {result.format}"
    typer.echo(
        f"{printable(target)}: {result.duration_s:.1f} s, {kind}, {result.rate_hz} Hz, {result.channels} channel(s), "
        f"voice {result.voice} ({speed:.1f} x real time)",
        err=True,
    )
