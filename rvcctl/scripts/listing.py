"""`rvcctl list`: which daemons run on this machine, and how they are."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated

import typer

from rvcctl.client import DaemonClient
from rvcctl.reading import clean_text
from rvcctl.scripts.asking import ask_stats
from rvcctl.scripts.writing import NOTHING, say
from rvcctl.target import Target
from rvcd.errors import RvcdError
from rvcd.running import RunningDaemon, running_daemons

PATIENCE_S = 1.5
HEADINGS = ("name", "pid", "port", "state", "voice")


def list_daemons(
    as_json: Annotated[bool, typer.Option("--json", help="The list as one JSON array on one line.")] = False,
) -> None:
    """List the daemons that run on this machine: name, process, OSC port, state, voice."""
    entries = asyncio.run(_ask_all(running_daemons()))
    if as_json:
        say(json.dumps(entries))
        return
    if not entries:
        print("rvcctl: no rvcd runs here", file=sys.stderr, flush=True)
        return
    rows = [HEADINGS, *(tuple(_cell(entry, key) for key in HEADINGS) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


Entry = dict[str, str | int | bool]
"""name ("" without one), pid, host, port (0: it does not listen yet), answers, state and voice ("" where it does not answer)."""


async def _ask_all(daemons: list[RunningDaemon]) -> list[Entry]:
    return list(await asyncio.gather(*(_ask(daemon) for daemon in daemons)))


async def _ask(daemon: RunningDaemon) -> Entry:
    entry: Entry = {"name": daemon.name, "pid": daemon.pid, "host": daemon.host, "port": daemon.port}
    client = DaemonClient(Target(daemon.host, daemon.port))
    values: dict[str, str | int | float] = {}
    if daemon.port:
        try:
            await client.open()
            values = await asyncio.wait_for(ask_stats(client, with_levels=False), PATIENCE_S)
        except (RvcdError, asyncio.TimeoutError):
            pass
        finally:
            client.close()
    return {
        **entry,
        "answers": bool(values),
        "state": clean_text(values.get("state", "")),
        "voice": clean_text(values.get("voice", "")),
    }


def _cell(entry: Entry, key: str) -> str:
    if key == "state" and not entry["answers"]:
        return "no answer" if entry["port"] else "starting"
    return str(entry[key] or NOTHING)
