"""`rvcd render`: audio files, converted with the engine that runs live."""

from __future__ import annotations

import contextlib
import glob
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from rvcd.cli.common import ConfigOption, NameOption, unwound_by_signals
from rvcd.cli.voice_text import note, printable
from rvcd.errors import ParamError, RvcdError
from rvcd.params import BY_NAME
from rvcd.protocol import F0_METHODS, PITCH_AUTO

STANDARD = "-"
"""Names the standard input and the standard output."""


def _param_option(name: str) -> Any:
    """Return the option for one live parameter, with its range and default from the table."""
    param = BY_NAME[name]
    text = f"{param.doc[0].upper()}{param.doc[1:]} ({param.range_text()}); default: [params] of the configuration."
    if param.choices:
        return typer.Option(f"--{name.replace('_', '-')}", metavar="WORD", help=text, show_default=False)
    return typer.Option(f"--{name.replace('_', '-')}", min=param.low, max=param.high, help=text, show_default=False)


def render(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="IN... OUT",
            help="An audio file and the file to write (.wav, .flac, .ogg, ...); or files, folders and quoted patterns, and the "
            "folder to write into. - is the standard input or output.",
        ),
    ],
    config: ConfigOption = None,
    instance: NameOption = None,
    voice: Annotated[
        str, typer.Option(help="A voice's name, or its .pth file; default: as configured.", show_default=False)
    ] = "",
    index: Annotated[Path | None, typer.Option(help="The voice's .index file; default: the one beside it.")] = None,
    f0_method: Annotated[str, typer.Option(help=f"{', '.join(F0_METHODS)}; default: as configured.", show_default=False)] = "",
    rate_hz: Annotated[int, typer.Option("--rate", help="Hz of OUT; default: the voice's own rate.", show_default=False)] = 0,
    channels: Annotated[
        str,
        typer.Option(
            metavar="1|keep|N",
            help="1: all channels are mixed into one voice. keep: each is a voice. N: each of exactly N.",
        ),
    ] = "1",
    loudness: Annotated[
        float | None,
        typer.Option(
            metavar="LUFS",
            help="Bring each file to this loudness (EBU R 128), for example -16; default: as it comes.",
            show_default=False,
        ),
    ] = None,
    file_format: Annotated[
        str,
        typer.Option(
            "--format",
            help="Of the files in a folder: wav, flac, ogg, ...; of a pipe: wav, s16 or f32; default: wav.",
            show_default=False,
        ),
    ] = "",
    pitch_mode: Annotated[
        str,
        typer.Option(
            metavar="manual|auto",
            help="auto: bring each file's median pitch to the voice's register; --pitch is added. Default: as configured.",
            show_default=False,
        ),
    ] = "",
    input_rate_hz: Annotated[
        int, typer.Option("--input-rate", help="Hz of raw samples on the standard input; default: --rate.", show_default=False)
    ] = 0,
    jobs: Annotated[
        int | None,
        typer.Option(min=0, help="Worker processes; default: as many as cores and memory allow.", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Skip what is finished and unchanged in the output folder.")] = False,
    ray: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Let a Ray cluster do it: HOST:PORT, auto or local.", show_default=False),
    ] = "",
    report: Annotated[
        Path | None, typer.Option(help="Where the JSON report goes; default: rvcd-report.json in the output folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report on many files as JSON instead of a table.")] = False,
    pitch: Annotated[float | None, _param_option("pitch")] = None,
    formant: Annotated[float | None, _param_option("formant")] = None,
    index_rate: Annotated[float | None, _param_option("index_rate")] = None,
    protect: Annotated[float | None, _param_option("protect")] = None,
    rms_mix: Annotated[float | None, _param_option("rms_mix")] = None,
    autotune: Annotated[float | None, _param_option("autotune")] = None,
    autotune_key: Annotated[str, _param_option("autotune_key")] = "",
    autotune_scale: Annotated[str, _param_option("autotune_scale")] = "",
    autotune_time: Annotated[float | None, _param_option("autotune_time")] = None,
    denoise: Annotated[float | None, _param_option("denoise")] = None,
    gate: Annotated[float | None, _param_option("gate")] = None,
    gain_in: Annotated[float | None, _param_option("gain_in")] = None,
    gain_out: Annotated[float | None, _param_option("gain_out")] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace what exists.")] = False,
) -> None:
    """Convert audio files with the same engine that runs live."""
    given = {
        "pitch": pitch, "formant": formant, "index_rate": index_rate, "protect": protect, "rms_mix": rms_mix,
        "autotune": autotune, "autotune_key": _value("autotune_key", autotune_key),
        "autotune_scale": _value("autotune_scale", autotune_scale), "autotune_time": autotune_time,
        "denoise": denoise, "gate": gate, "gain_in": gain_in, "gain_out": gain_out,
    }  # fmt: skip
    if len(paths) < 2:
        raise typer.BadParameter("name what to convert, and then the file or folder to write")
    *inputs, out = paths
    wanted: dict[str, Any] = {
        "voice": voice, "index": str(index or ""), "f0_method": f0_method, "rate_hz": rate_hz,
        "params": {name: value for name, value in given.items() if value is not None}, "channels": channels,
        "loudness_lufs": loudness, "force": force, "pitch_mode": pitch_mode,
    }  # fmt: skip
    file_format = file_format.lower().removeprefix(".")
    only_many = {
        "--jobs": jobs is not None, "--resume": resume, "--report": report is not None, "--ray": ray != "",
        "--json": as_json,
    }  # fmt: skip
    if STANDARD in paths:
        _refuse({f"--pitch-mode {pitch_mode}": pitch_mode == PITCH_AUTO}, "needs the whole, and - is a stream")
        _refuse(only_many, "is for many files, and - is a single stream")
        if len(inputs) > 1 or (out != STANDARD and (out.endswith(os.sep) or os.path.isdir(out))):
            raise ParamError("-: is the standard input or output; with it, name one input and one output that is no folder")
        from rvcd.cli.render_pipe import render_through_pipes

        render_through_pipes(config, instance or "", inputs[0], out, wanted, file_format, input_rate_hz)
        return
    _refuse({"--input-rate": input_rate_hz != 0}, "is for raw samples on the standard input (-); a file says its rate itself")
    if is_batch(inputs, out):
        from rvcd.cli.render_batch import render_many

        many = {"format": file_format or "wav", "jobs": jobs or 0, "resume": resume, "report": report, "ray": ray}
        render_many(config, instance or "", inputs, Path(out), {**wanted, **many}, as_json=as_json)
        return
    _refuse(only_many, f"is for many files, and {out} is one; write into a folder ({out}/) to use it")
    if file_format and Path(out).suffix.lower() != f".{file_format}":
        raise ParamError(f"--format {file_format}: {out} has another extension; the extension of a single file is its format")
    render_one(config, instance or "", Path(inputs[0]), Path(out), wanted)


def _value(name: str, word: str) -> float | None:
    """Return the value of a parameter that has choices; None: it was not given. Raises ParamError."""
    return BY_NAME[name].named(word) if word else None


def _refuse(options: dict[str, bool], why: str) -> None:
    """Raise ParamError for the first option that was used."""
    for option, used in options.items():
        if used:
            raise ParamError(f"{option}: {why}")


def is_batch(inputs: list[str], out: str) -> bool:
    """Return whether a folder is written, not a file: there are several inputs, or one that may be, or OUT is a folder."""
    if len(inputs) > 1 or out.endswith(os.sep) or os.path.isdir(out) or os.path.isdir(inputs[0]):
        return True
    return glob.has_magic(inputs[0]) and not os.path.lexists(inputs[0])


def render_one(config: Path | None, instance: str, source: Path, target: Path, wanted: dict[str, Any]) -> None:
    """Convert one file into another."""
    if target.exists() and not wanted["force"]:
        raise RvcdError(f"{target}: exists already; --force replaces it")
    if not source.is_file():
        raise RvcdError(f"{source}: {'is no audio file' if source.exists() else 'does not exist; check the path'}")
    from rvcd.config.settings import load_config

    settings = load_config(config, instance)
    from rvcd.rendering.file import RenderRequest, render_file

    request = RenderRequest(source=source, target=target, **wanted)
    with unwound_by_signals(), progress_bar(source.name) as advance:
        result = render_file(settings, request, advance)
    note(*result.notes)
    speed = result.duration_s / max(result.compute_s, 1e-9)
    typer.echo(
        f"{printable(target)}: {result.duration_s:.1f} s, {result.rate_hz} Hz, voice {result.voice} ({speed:.1f} x real time)"
    )


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[Callable[[float], None]]:
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
