"""`rvcd check`: what would happen if the daemon started now."""

from __future__ import annotations

import json

import typer

from rvcd.cli.checks.finding import Level
from rvcd.cli.common import ConfigOption, JsonOption, coloured, quiet_stderr


def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say whether the configuration, devices and files are in order, and what `rvcd run` would do. Exit code 1: it would fail."""
    from rvcd.audio.device import list_devices
    from rvcd.cli.checks.probes import Probes
    from rvcd.cli.checks.report import run_checks
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
        for finding in findings:
            typer.echo(f"{coloured(finding.level)}  {finding.topic:<8}  {finding.text}")
        typer.echo(f"\n{failures} problem(s): rvcd would not run as configured" if failures else "\nrvcd can run")
    raise typer.Exit(1 if failures else 0)
