"""`rvcd mic`: the microphone that OBS, Discord and browsers list as "rvcd"."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from rvcd.cli.common import ConfigOption, JsonOption, NameOption
from rvcd.errors import AudioDeviceError

if TYPE_CHECKING:
    from rvcd.audio.microphone import MicrophoneName

app = typer.Typer(
    help='The microphone that other programs list as "rvcd".',
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def install(config: ConfigOption = None, instance: NameOption = None) -> None:
    """Make the microphone now and at each start of PipeWire, also while rvcd does not run."""
    from rvcd.audio import microphone

    name = _name(config, instance)
    target = microphone.ensure(name)
    typer.echo(f"{target.server.value} has the microphone {name.label!r}: choose it in OBS, Discord or the browser")
    if target.server is microphone.SoundServer.PIPEWIRE:
        typer.echo(f"PipeWire makes it at its start: {microphone.write_config(name)}")
    else:
        named = f" --name {instance}" if instance else ""
        typer.echo(f"PulseAudio keeps it until it ends; `rvcd run{named}` makes it again")


@app.command()
def remove(config: ConfigOption = None, instance: NameOption = None) -> None:
    """Remove the microphone, and what lets PipeWire make it at its start."""
    from rvcd.audio import microphone

    name = _name(config, instance)
    file = microphone.remove_config(name)
    if file is not None:
        typer.echo(f"deleted {file}")
    try:
        there = microphone.remove(name)
    except AudioDeviceError:
        if file is None:
            raise
        return
    typer.echo(f"the microphone {name.label!r} is removed" if there else f"there was no microphone {name.label!r}")


@app.command()
def status(config: ConfigOption = None, instance: NameOption = None, as_json: JsonOption = False) -> None:
    """Say whether the microphone is there; exit code 1 if not."""
    from rvcd.audio import microphone

    name = _name(config, instance)
    found = microphone.status(name)
    server = found.server.value if found.server else ""
    if as_json:
        document = {
            "name": name.label, "node": name.node, "server": server, "present": found.present, "listeners": found.listeners,
            "config_file": str(found.config_file or ""), "problem": found.problem,
        }  # fmt: skip
        typer.echo(json.dumps(document, indent=2))
    elif found.problem:
        typer.echo(found.problem)
    elif found.present:
        heard = f", heard by {found.listeners}" if found.server is microphone.SoundServer.PIPEWIRE else ""
        kept = f"; made at each start by {found.config_file}" if found.config_file else ""
        typer.echo(f"{server} has the microphone {name.label!r} ({name.node}){heard}{kept}")
    else:
        named = f" --name {instance}" if instance else ""
        typer.echo(f"{server} has no microphone {name.label!r}: `rvcd run{named}` or `rvcd mic install{named}` makes it")
    if not found.present:
        raise typer.Exit(1)


def _name(config: ConfigOption, instance: NameOption) -> MicrophoneName:
    from rvcd.audio.microphone import microphone_name
    from rvcd.config.settings import load_config

    setting = load_config(config, instance or "").audio.virtual_microphone
    return microphone_name("auto" if setting == "off" else setting, instance or "")
