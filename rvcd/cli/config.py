"""`rvcd config`: the documented default configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rvcd.errors import RvcdError


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
