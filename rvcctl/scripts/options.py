"""The options that every command has, and the daemon they point to.

Commands only declare --host, --port and --name; target_of reads them from the context, so that completion finds them too.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Optional

import typer

from rvcctl.client import DaemonClient
from rvcctl.target import Target
from rvcd import protocol
from rvcd.errors import RvcdError
from rvcd.instance import check_name
from rvcd.running import running_daemons


def running_names() -> list[str]:
    """Offer the names of the daemons that run here."""
    return [daemon.name for daemon in running_daemons() if daemon.name]


HostOption = Annotated[Optional[str], typer.Option("--host", help="Where rvcd runs [RVCD_HOST, 127.0.0.1].")]  # noqa: UP045
PortOption = Annotated[Optional[int], typer.Option("--port", help="Its OSC port [RVCD_PORT, 9720].")]  # noqa: UP045
NameOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--name", help="Its name, where several run here [RVCD_NAME].", autocompletion=running_names),
]
"""The parameter is called instance: some commands have an argument `name`."""
NEGATIVE_NUMBERS = {"ignore_unknown_options": True}
"""Lets `rvcctl set pitch -3` through: -3 is a value, not an option."""


def client_of(context: typer.Context) -> DaemonClient:
    """Return a client of the daemon that the options and the environment name. Raises typer.BadParameter."""
    return DaemonClient(target_of(context))


def target_of(context: Any) -> Target:
    """Return what is meant: by the options after the command, else those before it, else the environment, else the default.

    context: of the command; any, because while completing it is click's own. Raises typer.BadParameter for a bad port or name,
    and where a name and an address are given.
    """
    host: str | None = _option(context, "host")
    port: int | None = _option(context, "port")
    name: str | None = _option(context, "instance")
    if name is not None and (host is not None or port is not None):
        raise typer.BadParameter("--name is a daemon of this machine by itself: leave out --host and --port")
    if name is None and host is None and port is None:
        name = os.environ.get("RVCD_NAME") or None
    if name is not None:
        try:
            return Target(name=check_name(name))
        except RvcdError as error:
            raise typer.BadParameter(str(error)) from None
    port = port if port is not None else _port_from_environment()
    if not 1 <= port <= 65535:
        raise typer.BadParameter(f"the port must be 1..65535, not {port}")
    return Target(host or os.environ.get("RVCD_HOST") or protocol.DEFAULT_HOST, port)


def _option(context: Any, key: str) -> Any:
    """Return an option of the command or, where that has none, of the commands before it."""
    while context is not None:
        if (value := context.params.get(key)) is not None:
            return value
        context = context.parent
    return None


def _port_from_environment() -> int:
    text = os.environ.get("RVCD_PORT", "")
    if not text:
        return protocol.DEFAULT_PORT
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"RVCD_PORT must be a port number 1..65535, not '{text}'") from None
