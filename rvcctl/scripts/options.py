"""The options that every command has, and the daemon they point to.

Commands only declare --host and --port; target_of reads them from the context, so that completion finds them too.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Optional

import typer

from rvcctl.client import DaemonClient
from rvcd import protocol

HostOption = Annotated[Optional[str], typer.Option("--host", help="Where rvcd runs [RVCD_HOST, 127.0.0.1].")]  # noqa: UP045
PortOption = Annotated[Optional[int], typer.Option("--port", help="Its OSC port [RVCD_PORT, 9720].")]  # noqa: UP045
NEGATIVE_NUMBERS = {"ignore_unknown_options": True}
"""Lets `rvcctl set pitch -3` through: -3 is a value, not an option."""


def client_of(context: typer.Context) -> DaemonClient:
    """Return a client of the daemon that the options and the environment name. Raises typer.BadParameter."""
    return DaemonClient(*target_of(context))


def target_of(context: Any) -> tuple[str, int]:
    """Return (host, port): from the options after the command, else those before it, else the environment, else the default.

    context: of the command; any, because while completing it is click's own. Raises typer.BadParameter for a bad port.
    """
    host: str | None = None
    port: int | None = None
    while context is not None:
        host = host or context.params.get("host")
        port = port if port is not None else context.params.get("port")
        context = context.parent
    port = port if port is not None else _port_from_environment()
    if not 1 <= port <= 65535:
        raise typer.BadParameter(f"the port must be 1..65535, not {port}")
    return host or os.environ.get("RVCD_HOST") or protocol.DEFAULT_HOST, port


def _port_from_environment() -> int:
    text = os.environ.get("RVCD_PORT", "")
    if not text:
        return protocol.DEFAULT_PORT
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"RVCD_PORT must be a port number 1..65535, not '{text}'") from None
