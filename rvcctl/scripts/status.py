"""`rvcctl status`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from rvcctl.client import converse
from rvcctl.scripts.asking import ask_stats
from rvcctl.scripts.options import HostOption, NameOption, PortOption, client_of
from rvcctl.scripts.writing import say, status_lines


def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
    host: HostOption = None,
    port: PortOption = None,
    instance: NameOption = None,
) -> None:
    """Print everything that the daemon measures, and its switches."""
    values = converse(client_of(context), ask_stats)
    say(json.dumps(values) if as_json else "\n".join(status_lines(values)))
