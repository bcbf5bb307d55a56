"""`rvcd osc`: the reference of the OSC addresses."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from rvcd.cli.common import JsonOption, print_table
from rvcd.errors import RvcdError


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
