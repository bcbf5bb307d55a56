"""`rvcd config`: the documented default configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rvcd.cli.common import NameOption
from rvcd.errors import RvcdError


def print_config(
    write: Annotated[
        Path | None, typer.Option(help="Write it to this file instead of printing it; an existing file is kept.")
    ] = None,
    instance: NameOption = None,
) -> None:
    """Print the documented default configuration: every key with its unit, range and default.

    With --name it is that daemon's: its port is free, its microphone, recordings and file are its own.
    """
    from rvcd.config.folders import expand_home
    from rvcd.config.settings import DEFAULT_CONFIG

    text = DEFAULT_CONFIG.read_text("utf-8")
    if instance:
        text = for_name(text, instance)
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


def for_name(text: str, name: str) -> str:
    """Return the documented configuration with what holds for a daemon of that name: no port is set, and the defaults are its."""
    from rvcd.instance import full_name

    for unnamed, named in (
        ("~/.config/rvcd/rvcd.toml (`rvcd config --write ~/.config/rvcd/rvcd.toml`)", f"~/.config/rvcd/{full_name(name)}.toml"),
        ("`rvcd check` says", f"`rvcd check --name {name}` says"),
        ("auto: called rvcd |", f"auto: called rvcd {name} |"),
        (
            "port = 9720                 # UDP port, 1..65535",
            f"#port = 9721                # UDP port, 1..65535; unset: a free one, `rvcctl --name {name}` finds it",
        ),
        ('"" = ~/Music/rvcd, for', f'"" = ~/Music/rvcd/{name}, for'),
    ):
        text = text.replace(unnamed, named)
    return text
