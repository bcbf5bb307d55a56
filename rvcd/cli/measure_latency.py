"""`rvcd measure-latency`: what the delay really is, against what is published."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from rvcd.cli.common import ConfigOption, JsonOption, NameOption, quiet_stderr, unwound_by_signals
from rvcd.errors import DaemonUnreachableError
from rvcd.instance import client_name, shown_name
from rvcd.running import find_daemon

if TYPE_CHECKING:
    from rvcd.config.settings import Settings

NO_DAEMON, OFF_BY_MORE = 3, 4
"""Exit codes beside the usual ones."""
MIN_DBFS, MAX_DBFS = -60.0, -6.0


def measure_latency(
    config: ConfigOption = None,
    instance: NameOption = None,
    host: Annotated[str, typer.Option(help="Where rvcd runs; default: osc.host.", show_default=False)] = "",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Its OSC port; default: osc.port.", show_default=False)
    ] = None,
    cable: Annotated[
        bool, typer.Option("--cable", help="Without a daemon: round a cable from the configured output to its input.")
    ] = False,
    times: Annotated[int, typer.Option(min=1, max=100, help="How many chirps.")] = 5,
    level: Annotated[float, typer.Option(min=MIN_DBFS, max=MAX_DBFS, help="Peak of the chirp, dBFS.")] = -30.0,
    client: Annotated[
        str, typer.Option(help="Name of rvcd's client on JACK and PipeWire; default: rvcd, or rvcd-NAME.", show_default=False)
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Send chirps through rvcd's bypass and compare their delay with the published latency.

    Exit code 0: within one period; 4: not; 1: it could not be measured; 3: no daemon answers.
    """
    from rvcd.config.settings import load_config

    settings = load_config(config, instance or "")
    from rvcd.measuring.command import Request, measure_cable, measure_running

    try:
        own_host, own_port = _address(settings) if not cable and not (host and port) else ("", 0)
        request = Request(host or own_host, port or own_port, times, level, client or client_name(settings.instance))
        with unwound_by_signals(), quiet_stderr():
            report = measure_cable(settings, request) if cable else measure_running(request)
    except DaemonUnreachableError as error:
        typer.echo(f"rvcd: {error}; without one: --cable", err=True)
        raise typer.Exit(NO_DAEMON) from None
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else "\n".join(report.lines()))
    if not report.is_within_a_period:
        raise typer.Exit(OFF_BY_MORE)


def _address(settings: Settings) -> tuple[str, int]:
    """Return host and port of the running daemon. Raises DaemonUnreachableError where one with a name does not run."""
    own = "127.0.0.1" if settings.osc.host in ("0.0.0.0", "localhost") else settings.osc.host
    if not settings.instance:
        return own, settings.osc.port
    found = find_daemon(settings.instance)
    if found is None or not found.port:
        name = settings.instance
        raise DaemonUnreachableError(f"no {shown_name(name)} runs here: start it with `rvcd run --name {name}`")
    return found.host, found.port
