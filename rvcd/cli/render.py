"""`rvcd render`: an audio file, converted with the engine that runs live."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from rvcd.cli.common import ConfigOption, NameOption, unwound_by_signals
from rvcd.cli.voice_text import note, printable
from rvcd.errors import RvcdError
from rvcd.params import BY_NAME
from rvcd.protocol import F0_METHODS


def _param_option(name: str) -> Any:
    """Return the option for one live parameter, with its range and default from the table."""
    param = BY_NAME[name]
    text = f"{param.doc[0].upper()}{param.doc[1:]} ({param.range_text()}); default: [params] of the configuration."
    return typer.Option(f"--{name.replace('_', '-')}", min=param.low, max=param.high, help=text, show_default=False)


def render(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Audio file: any format, rate and channel count libsndfile reads.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Audio file to write: .wav, .flac, .ogg, ...")],
    config: ConfigOption = None,
    instance: NameOption = None,
    voice: Annotated[
        str, typer.Option(help="A voice's name, or its .pth file; default: as configured.", show_default=False)
    ] = "",
    index: Annotated[Path | None, typer.Option(help="The voice's .index file; default: the one beside it.")] = None,
    f0_method: Annotated[str, typer.Option(help=f"{', '.join(F0_METHODS)}; default: as configured.", show_default=False)] = "",
    rate_hz: Annotated[int, typer.Option("--rate", help="Hz of OUT; default: the voice's own rate.", show_default=False)] = 0,
    pitch: Annotated[float | None, _param_option("pitch")] = None,
    formant: Annotated[float | None, _param_option("formant")] = None,
    index_rate: Annotated[float | None, _param_option("index_rate")] = None,
    protect: Annotated[float | None, _param_option("protect")] = None,
    rms_mix: Annotated[float | None, _param_option("rms_mix")] = None,
    gate: Annotated[float | None, _param_option("gate")] = None,
    gain_in: Annotated[float | None, _param_option("gain_in")] = None,
    gain_out: Annotated[float | None, _param_option("gain_out")] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace OUT if it exists.")] = False,
) -> None:
    """Convert an audio file with the same engine that runs live."""
    given = {
        "pitch": pitch, "formant": formant, "index_rate": index_rate, "protect": protect, "rms_mix": rms_mix, "gate": gate,
        "gain_in": gain_in, "gain_out": gain_out,
    }  # fmt: skip
    if target.is_dir():
        raise RvcdError(f"{target}: is a folder; name a file in it")
    if target.exists() and not force:
        raise RvcdError(f"{target}: exists already; --force replaces it")
    if not source.is_file():
        raise RvcdError(f"{source}: {'is no audio file' if source.exists() else 'does not exist; check the path'}")
    from rvcd.config.settings import load_config

    settings = load_config(config, instance or "")
    from rvcd.rendering.file import RenderRequest, render_file

    request = RenderRequest(
        source=source,
        target=target,
        voice=voice,
        index=str(index or ""),
        f0_method=f0_method,
        rate_hz=rate_hz,
        params={name: value for name, value in given.items() if value is not None},
        force=force,
    )
    with unwound_by_signals(), _progress(source.name) as advance:
        result = render_file(settings, request, advance)
    note(*result.notes)
    speed = result.duration_s / max(result.compute_s, 1e-9)
    typer.echo(
        f"{printable(target)}: {result.duration_s:.1f} s, {result.rate_hz} Hz, voice {result.voice} ({speed:.1f} x real time)"
    )


@contextlib.contextmanager
def _progress(label: str) -> Iterator[Callable[[float], None]]:
    """Give a function that takes what is done, 0..1, and draws a progress bar on a terminal (nothing elsewhere)."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=1.0)
        yield lambda done: bar.update(task, completed=done)
