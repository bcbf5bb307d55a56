"""`rvcd eval`: how well a voice converts speech."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rvcd.cli.common import ConfigOption, JsonOption, NameOption, print_table, quiet_stderr
from rvcd.params import BY_NAME


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
    report: Annotated[Path | None, typer.Option(help="Write a page with tables and spectrograms (HTML).")] = None,
    judges: Annotated[
        bool | None,
        typer.Option("--judges/--no-judges", help="Ask the judges; default: if the extra is there.", show_default=False),
    ] = None,
    audio: Annotated[Path | None, typer.Option(help="Write the streamed conversions into this folder.")] = None,
    config: ConfigOption = None,
    instance: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a voice on recorded speech: noise, distortion, pitch; with the extra 'eval' judge it too (docs/eval.md)."""
    from rvcd.config.config_errors import did_you_mean
    from rvcd.config.settings import LATENCY_PRESETS, load_config
    from rvcd.errors import ParamError
    from rvcd.evaluation import measuring
    from rvcd.evaluation.command import EvalRequest, findings_document
    from rvcd.evaluation.command import evaluate as run_evaluation
    from rvcd.evaluation.verdict import HEADINGS, summary_lines, table_rows

    if preset and preset not in LATENCY_PRESETS:
        known = tuple(LATENCY_PRESETS)
        raise ParamError(f"--preset {preset} is unknown{did_you_mean(preset, known)}; it takes {', '.join(known)}")
    semitones = BY_NAME["pitch"]
    try:
        wanted = None if pitch == "auto" else semitones.clamp(float(pitch))
    except ValueError:
        raise ParamError(f"--pitch {pitch}: is no number; it takes {semitones.range_text()}, or auto") from None
    request = EvalRequest(
        folder, voice, index, preset, target=tuple(target or ()), pitch=wanted, chart=chart, report=report, audio=audio,
        judges=judges,
    )  # fmt: skip
    with quiet_stderr():
        found = run_evaluation(load_config(config, instance or ""), request, lambda line: typer.echo(line, err=True))
    if as_json:
        typer.echo(findings_document(found))
    else:
        if found.verdict is not None:
            print_table(HEADINGS, table_rows(found.rows))
            typer.echo("\n" + "\n".join(summary_lines(found.verdict)) + "\n")
        print_table(measuring.HEADINGS, measuring.table_rows(found.measures))
        typer.echo("\n" + "\n".join(measuring.summary_lines(found.measures)))
    if found.failed:
        raise typer.Exit(1)
