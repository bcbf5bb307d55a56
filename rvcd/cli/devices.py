"""`rvcd devices`: the audio devices of this machine."""

from __future__ import annotations

import json

import typer

from rvcd.cli.common import JsonOption, print_table, quiet_stderr


def devices(as_json: JsonOption = False) -> None:
    """List the audio devices that audio.input and audio.output can name."""
    from dataclasses import asdict

    from rvcd.audio.portaudio_devices import list_devices

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
