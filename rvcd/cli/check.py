"""`rvcd check`: what would happen if the daemon started now."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from rvcd.cli.checks.finding import Level
from rvcd.cli.common import ConfigOption, JsonOption, NameOption, coloured, quiet_stderr

QuickOption = Annotated[
    bool, typer.Option("--quick", help="Look at sizes and headers alone: load nothing, hash nothing, open no device.")
]


def check(
    config: ConfigOption = None, instance: NameOption = None, as_json: JsonOption = False, quick: QuickOption = False
) -> None:
    """Say whether the configuration, devices and files are in order, and what `rvcd run` would do. Exit code 1: it would fail.

    Loads the models and the voice and opens the device, as the daemon would.
    """
    from rvcd.audio.configured import open_once
    from rvcd.audio.portaudio_devices import list_devices
    from rvcd.cli.checks.probes import Probes
    from rvcd.cli.checks.report import run_checks
    from rvcd.cli.checks.trial import trial_findings
    from rvcd.config.settings import load_config
    from rvcd.formats.voice_header import read_voice_spec
    from rvcd.voices.configured import first_voice, scan_voices

    settings = load_config(config, instance or "")
    probes = Probes(
        list_devices,
        None if quick else open_once,
        lambda settings, resumed: first_voice(settings, scan_voices(settings), resumed),
        read_voice_spec,
        None if quick else trial_findings,
        hashes=not quick,
    )
    with quiet_stderr(), _waiting("" if quick else "reading, loading and trying; this takes some seconds"):
        findings = run_checks(settings, probes)
    failures = sum(finding.level is Level.FAIL for finding in findings)
    if as_json:
        typer.echo(json.dumps([{"level": f.level.value, "topic": f.topic, "text": f.text} for f in findings], indent=2))
    else:
        for finding in findings:
            typer.echo(f"{coloured(finding.level)}  {finding.topic:<8}  {finding.text}")
        typer.echo(f"\n{failures} problem(s): rvcd would not run as configured" if failures else "\nrvcd can run")
    raise typer.Exit(1 if failures else 0)


@contextlib.contextmanager
def _waiting(text: str) -> Iterator[None]:
    """Show a line while there is nothing to show yet, on a terminal only."""
    shown = bool(text) and sys.stderr.isatty()
    if shown:
        print(text, end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print("\r" + " " * len(text) + "\r", end="", file=sys.stderr, flush=True)
