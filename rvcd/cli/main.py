"""The command `rvcd`. Each command imports what it needs when it is called: all start quickly, none pays for torch unasked."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from rvcd.cli import voice as voice_command
from rvcd.cli.common import ConfigOption, JsonOption, print_table, unwound_by_signals
from rvcd.errors import ConfigError, RvcdError
from rvcd.params import BY_NAME
from rvcd.protocol import F0_METHODS

DEBUG_VARIABLE = "RVCD_DEBUG"
INTERNAL_ERROR = 70
"""Exit code of a fault of rvcd's own (EX_SOFTWARE of sysexits.h); 1: something a user can mend; 2: the command line."""

app = typer.Typer(
    help="rvcd converts a live voice: `rvcd run` starts it, `rvcctl` shows and steers it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(voice_command.app, name="voice")


def _param_option(name: str) -> Any:
    """Return the option for one live parameter, with its range and default from the table."""
    param = BY_NAME[name]
    text = f"{param.doc[0].upper()}{param.doc[1:]} ({param.range_text()}); default: [params] of the configuration."
    return typer.Option(f"--{name.replace('_', '-')}", min=param.low, max=param.high, help=text, show_default=False)


@app.command()
def run(config: ConfigOption = None) -> None:
    """Start the daemon: convert the microphone to the speakers until it is stopped."""
    import asyncio

    asyncio.run(_run(config))


async def _run(config: Path | None) -> None:
    from rvcd.daemon.worker import start_worker

    worker = await start_worker()
    try:
        from rvcd.config.settings import load_config

        settings = load_config(config)
        from rvcd.config import logs
        from rvcd.daemon.main import run as run_daemon

        with quiet_stderr():
            logs.setup(settings.log.level)
            await run_daemon(settings, worker)
    finally:
        await worker.discard()


@app.command()
def render(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Audio file: any format, rate and channel count libsndfile reads.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Audio file to write: .wav, .flac, .ogg, ...")],
    config: ConfigOption = None,
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

    settings = load_config(config)
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
    speed = result.duration_s / max(result.compute_s, 1e-9)
    typer.echo(f"{target}: {result.duration_s:.1f} s, {result.rate_hz} Hz, voice {result.voice} ({speed:.1f} x real time)")


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


@app.command()
def bench(
    config: ConfigOption = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Measure random weights of the published sizes instead of the configured files.")
    ] = False,
    preset: Annotated[
        list[str] | None, typer.Option(help="low, balanced or safe; can be repeated; default: all of them.", show_default=False)
    ] = None,
    block_ms: Annotated[
        int | None, typer.Option(help="ms per block, in steps of 20: measures a free combination.", show_default=False)
    ] = None,
    context_ms: Annotated[int | None, typer.Option(help="ms of the past seen again, in steps of 20.", show_default=False)] = None,
    lookahead_ms: Annotated[int | None, typer.Option(help="ms of lookahead, in steps of 20.", show_default=False)] = None,
    deadline_ms: Annotated[
        int | None, typer.Option(help="ms to compute a block in; default: the preset's share of the block.", show_default=False)
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="CPU threads; 0: measure which number is faster; default: as configured.", show_default=False),
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16; default: as configured.", show_default=False)] = "",
    f0_method: Annotated[str, typer.Option(help=f"{', '.join(F0_METHODS)}; default: as configured.", show_default=False)] = "",
    voice: Annotated[
        str, typer.Option(help="A voice's name, or its .pth file; default: as configured.", show_default=False)
    ] = "",
    index: Annotated[Path | None, typer.Option(help="The voice's .index file; default: the one beside it.")] = None,
    seconds: Annotated[float, typer.Option(help="Seconds of audio to convert for each case, 1..3600.")] = 20.0,
    paced: Annotated[
        bool, typer.Option("--paced/--flat-out", help="Feed blocks at the pace of speech, or as soon as the last one is done.")
    ] = True,
    compare_recompute: Annotated[
        bool, typer.Option("--compare-recompute", help="Measure upstream's way on the same weights, side by side with rvcd's.")
    ] = False,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Vary block, context, threads and the voice's rate, one at a time.")
    ] = False,
    soak: Annotated[
        float | None,
        typer.Option(metavar="MINUTES", help="Stream as fast as it goes and watch memory and block time.", show_default=False),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure which latency preset this machine holds with these voices, stage by stage."""
    from rvcd.config.settings import load_config

    settings = load_config(config)
    from rvcd.bench.command import Output, run_bench
    from rvcd.bench.plan import BenchRequest

    if markdown and as_json:
        raise RvcdError("--markdown and --json are two ways to print; choose one")
    request = BenchRequest(
        synthetic=synthetic, presets=tuple(preset or ()), block_ms=block_ms, context_ms=context_ms, lookahead_ms=lookahead_ms,
        deadline_ms=deadline_ms, threads=threads, precision=precision, f0_method=f0_method, voice=voice, index=str(index or ""),
        seconds=seconds, paced=paced, compare_recompute=compare_recompute, sweep=sweep, soak_minutes=soak,
    )  # fmt: skip
    output = Output.JSON if as_json else Output.MARKDOWN if markdown else Output.TERMINAL
    with unwound_by_signals():
        code = run_bench(settings, request, output, shlex.join(["rvcd", *sys.argv[1:]]))
    raise typer.Exit(code)


@app.command("eval")
def evaluate(
    folder: Annotated[Path, typer.Argument(help="Audio files of speech; NAME.txt beside one says what is said in it.")],
    voice: Annotated[str, typer.Option(help="A voice's name or .pth file; default: the configured one.")] = "",
    index: Annotated[str, typer.Option(help="An index that replaces the voice's own.")] = "",
    target: Annotated[
        list[Path] | None, typer.Option(help="Samples of the voice itself: files or a folder; default: target.* beside it.")
    ] = None,
    pitch: Annotated[str, typer.Option(help="Semitones, or 'auto': each clip to the target's register.")] = "0",
    preset: Annotated[str, typer.Option(help="Latency preset to stream with; default: the configured one.")] = "",
    chart: Annotated[Path | None, typer.Option(help="Write a picture of the findings (PNG).")] = None,
    audio: Annotated[Path | None, typer.Option(help="Write the streamed conversions into this folder.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge a voice on recorded speech: similarity, words, naturalness, pitch. Needs the extra 'eval' (docs/eval.md)."""
    from rvcd.config.config_errors import did_you_mean
    from rvcd.config.settings import LATENCY_PRESETS, load_config
    from rvcd.errors import ParamError
    from rvcd.evaluation.command import HEADINGS, EvalRequest, as_document, summary_lines, table_rows
    from rvcd.evaluation.command import evaluate as run_evaluation

    if preset and preset not in LATENCY_PRESETS:
        known = tuple(LATENCY_PRESETS)
        raise ParamError(f"--preset {preset} is unknown{did_you_mean(preset, known)}; it takes {', '.join(known)}")
    semitones = BY_NAME["pitch"]
    try:
        wanted = None if pitch == "auto" else semitones.clamp(float(pitch))
    except ValueError:
        raise ParamError(f"--pitch {pitch}: is no number; it takes {semitones.range_text()}, or auto") from None
    request = EvalRequest(folder, voice, index, preset, target=tuple(target or ()), pitch=wanted, chart=chart, audio=audio)
    with quiet_stderr():
        verdict, rows = run_evaluation(load_config(config), request, lambda line: typer.echo(line, err=True))
    if as_json:
        typer.echo(as_document(verdict, rows))
        return
    print_table(HEADINGS, table_rows(rows))
    typer.echo("\n" + "\n".join(summary_lines(verdict)))


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say whether the configuration, devices and files are in order, and what `rvcd run` would do. Exit code 1: it would fail."""
    from rvcd.audio.device import list_devices
    from rvcd.cli.checks import Level, Probes, run_checks
    from rvcd.config.settings import load_config
    from rvcd.formats.voice_header import read_voice_spec
    from rvcd.voices.configured import first_voice, scan_voices

    settings = load_config(config)
    probes = Probes(
        list_devices, lambda settings, resumed: first_voice(settings, scan_voices(settings), resumed), read_voice_spec
    )
    with quiet_stderr():
        findings = run_checks(settings, probes)
    failures = sum(finding.level is Level.FAIL for finding in findings)
    if as_json:
        typer.echo(json.dumps([{"level": f.level.value, "topic": f.topic, "text": f.text} for f in findings], indent=2))
    else:
        colours = {Level.OK: typer.colors.GREEN, Level.NOTE: typer.colors.YELLOW, Level.FAIL: typer.colors.RED}
        for finding in findings:
            level = typer.style(f"{finding.level.value:<4}", fg=colours[finding.level])
            typer.echo(f"{level}  {finding.topic:<8}  {finding.text}")
        typer.echo(f"\n{failures} problem(s): rvcd would not run as configured" if failures else "\nrvcd can run")
    raise typer.Exit(1 if failures else 0)


@app.command()
def devices(as_json: JsonOption = False) -> None:
    """List the audio devices that audio.input and audio.output can name."""
    from dataclasses import asdict

    from rvcd.audio.device import list_devices

    with quiet_stderr():
        found = list_devices()
    if as_json:
        typer.echo(json.dumps([asdict(device) for device in found], indent=2))
        return
    if not found:
        typer.echo("no audio device: rvcd would run on the virtual device (audio.backend = 'auto' or 'virtual')")
        return
    rows = [
        (str(d.index), d.name, d.host_api, str(d.max_input_channels), str(d.max_output_channels), str(d.default_rate_hz))
        for d in found
    ]
    print_table(("#", "name", "host API", "inputs", "outputs", "rate Hz"), rows)


@app.command()
def assets(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the model files to download for a real voice, and whether they are in place."""
    from rvcd.config.settings import load_config
    from rvcd.voices.assets import ASSETS, examine

    models = load_config(config).models
    configured = {"content_encoder": models.real_encoder, "rmvpe": models.rmvpe}
    status = {key: examine(key, path, getattr(models.sha256, key)) for key, path in configured.items()}
    rows = []
    for asset in ASSETS:
        found = status[asset.key]
        state = "present" if found.asset == asset and found.usable else "missing"
        rows.append({"name": asset.name, "size_bytes": asset.size_bytes, "sha256": asset.sha256, "key": f"models.{asset.key}",
                     "doc": asset.doc, "state": state})  # fmt: skip
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    print_table(
        ("file", "bytes", "goes to", "what it is", "state"),
        [(str(r["name"]), f"{r['size_bytes']:,}", str(r["key"]), str(r["doc"]), str(r["state"])) for r in rows],
    )
    typer.echo("\nSHA-256:")
    for row in rows:
        typer.echo(f"{row['sha256'] or 'not published':<64}  {row['name']}")
    for found in status.values():
        if found.path is not None:
            typer.echo(f"\nmodels.{found.key} = {found.path}: {found.match.value}")
    typer.echo("\nOne of the two content encoders is needed; rmvpe.pt only for f0_method = 'rmvpe'.")


@app.command("config")
def print_config(
    write: Annotated[
        Path | None, typer.Option(help="Write it to this file instead of printing it; an existing file is kept.")
    ] = None,
) -> None:
    """Print the documented default configuration: every key with its unit, range and default."""
    from rvcd.config.folders import expand_home
    from rvcd.config.settings import DEFAULT_CONFIG

    text = DEFAULT_CONFIG.read_text("utf-8")
    if write is None:
        typer.echo(text, nl=False)
        return
    target = expand_home(write)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise RvcdError(f"{target}: exists already, and is kept; choose another name") from None
    except OSError as error:
        raise RvcdError(f"{target}: cannot be written: {(error.strerror or str(error)).lower()}") from None
    typer.echo(f"wrote {target}")


@app.command()
def osc(
    listed: Annotated[bool, typer.Option("--list", help="Print every address (the default).")] = True,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the OSC addresses: arguments, range, unit, reply, what each does, an example for `oscsend`."""
    from rvcd.osc.verbs import REFERENCE_TITLES, reference_markdown, reference_rows

    if markdown and as_json:
        raise RvcdError("--markdown and --json are two ways to print; choose one")
    if as_json:
        keys = ("address", "arguments", "range", "reply", "doc", "example")
        typer.echo(json.dumps([dict(zip(keys, row, strict=True)) for row in reference_rows()], indent=2))
    elif markdown:
        typer.echo(reference_markdown(), nl=False)
    else:
        print_table(REFERENCE_TITLES, list(reference_rows()))


@app.command()
def version() -> None:
    """Print the version."""
    from rvcd.protocol import PROTOCOL_VERSION

    typer.echo(f"rvcd {installed_version()} (OSC protocol {PROTOCOL_VERSION})")


def installed_version() -> str:
    """Return the version of the installed package, 'unknown' in a source tree that was never installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    try:
        return version_of("rvcd")
    except PackageNotFoundError:
        return "unknown"


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
        with open(kept, "w", buffering=1, errors="backslashreplace", closefd=False) as sys.stderr:
            yield
    finally:
        sys.stderr = usual
        os.dup2(kept, 2)
        os.close(kept)


def main() -> None:
    """Run the command line. What a user can cause is one line on stderr (each problem of a configuration has its own)."""
    try:
        app(prog_name="rvcd")
    except ConfigError as error:
        _complain(f"{error.path} has {len(error.problems)} problem(s):", *(f"  {problem}" for problem in error.problems))
        sys.exit(1)
    except RvcdError as error:
        _complain(f"rvcd: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes stdout once more when it ends
        sys.exit(1)
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        _complain(f"rvcd: internal error: {type(error).__name__}: {error} (a fault in rvcd; {DEBUG_VARIABLE}=1 shows where)")
        sys.exit(INTERNAL_ERROR)


def _complain(*lines: str) -> None:
    with contextlib.suppress(OSError):
        print(*lines, sep="\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
