"""`rvcd bench`: how fast this machine converts."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from rvcd.cli.common import ConfigOption, JsonOption, NameOption, unwound_by_signals
from rvcd.errors import RvcdError
from rvcd.protocol import F0_METHODS


def bench(
    config: ConfigOption = None,
    instance: NameOption = None,
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
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16; default: as configured.", show_default=False)] = "",
    context: Annotated[
        str,
        typer.Option(
            help="remembered, or window: all of --context-ms again for each block; default: as configured.", show_default=False
        ),
    ] = "",
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

    settings = load_config(config, instance or "")
    from rvcd.bench.command import Output, run_bench
    from rvcd.bench.plan import BenchRequest

    if markdown and as_json:
        raise RvcdError("--markdown and --json are two ways to print; choose one")
    request = BenchRequest(
        synthetic=synthetic, presets=tuple(preset or ()), block_ms=block_ms, context_ms=context_ms, lookahead_ms=lookahead_ms,
        deadline_ms=deadline_ms, threads=threads, precision=precision, context=context, f0_method=f0_method, voice=voice,
        index=str(index or ""), seconds=seconds, paced=paced, compare_recompute=compare_recompute, sweep=sweep,
        soak_minutes=soak,
    )  # fmt: skip
    output = Output.JSON if as_json else Output.MARKDOWN if markdown else Output.TERMINAL
    with unwound_by_signals():
        code = run_bench(settings, request, output, shlex.join(["rvcd", *sys.argv[1:]]))
    raise typer.Exit(code)
