"""The command line: `rvcctl` opens the screen; the commands are for scripts and keys of a Stream Deck.

Exit codes: 0 done, 1 refused by the daemon or a bad value, 2 wrong usage, 3 no daemon. One line on stderr says why.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn, Optional

import typer

from rvcctl.client import DaemonClient, converse, first_arg, is_done
from rvcctl.names import MEASURED, SETTABLE, Kind, Name, find_settable, parse_value
from rvcctl.wire import ON_FROM, Arg, Message, clean_text, number_of
from rvcd import protocol
from rvcd.errors import DaemonUnreachableError, ParamError, ProtocolError, RvcdError

EXIT_FAILED, EXIT_USAGE, EXIT_NO_DAEMON = 1, 2, 3
LOAD_TIMEOUT_S = 60.0
"""A voice or an F0 method is read from a disk and warmed up before the daemon says /done."""

app = typer.Typer(
    name="rvcctl",
    help="Watch and steer rvcd, the live voice converter.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
)

HostOption = Annotated[Optional[str], typer.Option("--host", help="Where rvcd runs [RVCD_HOST, 127.0.0.1].")]  # noqa: UP045
PortOption = Annotated[Optional[int], typer.Option("--port", help="Its OSC port [RVCD_PORT, 9720].")]  # noqa: UP045
NEGATIVE_NUMBERS = {"ignore_unknown_options": True}
"""Lets `rvcctl set pitch -3` through: -3 is a value, not an option."""


@app.callback()
def screen(context: typer.Context, host: HostOption = None, port: PortOption = None) -> None:
    """Watch and steer rvcd. Without a command: open the screen."""
    context.obj = (host, port)
    if context.invoked_subcommand is not None:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise typer.BadParameter("the screen needs a terminal; in a script use 'rvcctl status --json'")
    from rvcctl.app import RvcctlApp

    RvcctlApp(_client(context, None, None)).run()


@app.command()
def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
    host: HostOption = None,
    port: PortOption = None,
) -> None:
    """Print what the daemon is doing."""
    stats = _ask_stats(_client(context, host, port))
    values = _stats_values(stats)
    if as_json:
        print(json.dumps(values))
        return
    width = max(len(name) for name in values)
    for name, value in values.items():
        print(f"{name:<{width}}  {value}")


@app.command()
def get(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="pitch, gain_in, mute, f0_method, ... or a measured value as in 'status'.")],
    host: HostOption = None,
    port: PortOption = None,
) -> None:
    """Print one value."""
    client = _client(context, host, port)
    if name in MEASURED or name in ("note", "cents"):
        print(_stats_values(_ask_stats(client))[name])
        return
    known = find_settable(name)
    reply = converse(client, lambda conversation: conversation.ask(_below(known)))
    print(_shown(known, first_arg(reply)))


@app.command("set", context_settings=NEGATIVE_NUMBERS)
def set_value(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=", ".join(SETTABLE))],
    value: Annotated[str, typer.Argument(help="A number, on or off, or a name.")],
    host: HostOption = None,
    port: PortOption = None,
) -> None:
    """Set one value and print what the daemon made of it (numbers are limited to their range)."""
    known = find_settable(name)
    _apply(_client(context, host, port), known, parse_value(known, value))


@app.command()
def toggle(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="bypass or mute")],
    host: HostOption = None,
    port: PortOption = None,
) -> None:
    """Turn a switch over and print its new state."""
    known = find_settable(name)
    if known.kind is not Kind.SWITCH:
        switches = [entry.name for entry in SETTABLE.values() if entry.kind is Kind.SWITCH]
        raise ParamError(f"'{known.name}' is not a switch; these can be toggled: {', '.join(switches)}")

    async def turn_over(client: DaemonClient) -> Message:
        now = number_of(first_arg(await client.ask(_below(known))))
        wanted = int(not (now or 0.0) >= ON_FROM)
        return await client.ask(_below(known), wanted, is_answer=_echo_of(known, wanted))

    print(known.name, _shown(known, first_arg(converse(_client(context, host, port), turn_over))))


@app.command()
def panic(
    context: typer.Context,
    clear: Annotated[bool, typer.Option("--clear", help="End the panic: sound again.")] = False,
    host: HostOption = None,
    port: PortOption = None,
) -> None:
    """Silence the output at once, until `rvcctl panic --clear`."""
    address = "/panic/clear" if clear else "/panic"
    reply = converse(
        _client(context, host, port),
        lambda client: client.ask(address, is_answer=lambda message: message.address == protocol.PREFIX + "/panic"),
    )
    print("panic", "on" if (number_of(first_arg(reply)) or 0.0) >= ON_FROM else "off")


@app.command()
def voice(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The voice's name, or 'list'.")],
    host: HostOption = None,
    port: PortOption = None,
) -> None:
    """Switch to a voice (waits until it is live), or list the voices."""
    client = _client(context, host, port)
    if name == "list":
        for slot, title in _list_voices(client):
            print(f"{slot:>3}  {title}")
    else:
        _apply(client, SETTABLE["voice"], parse_value(SETTABLE["voice"], name))


def main() -> None:
    """Entry point: run the command line and exit with its code; every error is one line on stderr."""
    try:
        code = app(standalone_mode=False)
    except DaemonUnreachableError as error:
        _exit(EXIT_NO_DAEMON, str(error))
    except RvcdError as error:
        _exit(EXIT_FAILED, str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except Exception as error:
        # Typer carries its own copy of click: its usage errors are known by their interface, not by an importable name.
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            _exit(EXIT_USAGE, f"{error.format_message()} (see 'rvcctl --help')")
        _exit(EXIT_FAILED, f"unexpected {type(error).__name__}: {error}; please report this")
    sys.exit(code if isinstance(code, int) else 0)


def _exit(code: int, reason: str) -> NoReturn:
    print(f"rvcctl: {' '.join(reason.split())}", file=sys.stderr)
    sys.exit(code)


def _client(context: typer.Context, host: str | None, port: int | None) -> DaemonClient:
    """Return a client for the options after the command, else those before it, else the environment, else the default."""
    early_host, early_port = context.obj
    chosen_host = host or early_host or os.environ.get("RVCD_HOST") or protocol.DEFAULT_HOST
    chosen_port = port if port is not None else early_port if early_port is not None else _port_from_environment()
    if not 1 <= chosen_port <= 65535:
        raise typer.BadParameter(f"the port must be 1..65535, not {chosen_port}")
    return DaemonClient(chosen_host, chosen_port)


def _port_from_environment() -> int:
    text = os.environ.get("RVCD_PORT", "")
    if not text:
        return protocol.DEFAULT_PORT
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"RVCD_PORT must be a port number 1..65535, not '{text}'") from None


def _below(known: Name) -> str:
    return known.address[len(protocol.PREFIX) :]


def _echo_of(known: Name, value: str | int | float) -> Callable[[Message], bool]:
    """Return an `is_answer` that accepts the echo of a switch or text only with the value asked for, any echo of a number.

    A number may come back clamped, so every echo counts; of the others an older state may still be under way.
    """

    def is_echo(message: Message) -> bool:
        if message.address != known.address or not message.args:
            return False
        return known.kind is Kind.NUMBER or message.args[0] == value

    return is_echo


def _apply(client: DaemonClient, known: Name, value: str | int | float) -> None:
    """Send a value, wait until it is applied, print the applied value."""
    if known.kind is Kind.TEXT:
        reply = converse(client, lambda conversation: _change_slowly(conversation, known, str(value)))
    else:
        reply = converse(client, lambda conversation: conversation.ask(_below(known), value, is_answer=_echo_of(known, value)))
    applied: Arg = first_arg(reply) if reply.address == known.address else value
    number = number_of(applied)
    note = ""
    if known.kind is Kind.NUMBER and isinstance(value, float) and number is not None and abs(number - value) > 1e-4:
        note = f" (limited from {value:g})"
    print(f"{known.name} {_shown(known, applied)}{note}")


async def _change_slowly(client: DaemonClient, known: Name, value: str) -> Message:
    """Ask for a voice or an F0 method, once, and wait while it loads; a ping tells at once when nobody is there."""
    await client.ask("/ping", is_answer=lambda message: message.address == protocol.PREFIX + "/pong")
    done, echo = is_done(_below(known)), _echo_of(known, value)
    return await client.ask(
        _below(known),
        value,
        # The echo of a voice's name may be older than the load; of a method any echo of the name wanted is as good as /done.
        is_answer=lambda message: done(message) or (known.name != "voice" and echo(message)),
        timeout_s=LOAD_TIMEOUT_S,
        tries=1,
    )


def _list_voices(client: DaemonClient) -> list[tuple[int, str]]:
    """Return (slot, name) of every voice the daemon knows, in its order."""
    found: dict[int, str] = {}
    item, end = protocol.PREFIX + "/voice/list", protocol.PREFIX + "/voice/list/end"

    def is_end(message: Message) -> bool:
        if message.address == item and len(message.args) >= 2:
            found[int(number_of(message.args[0]) or 0)] = clean_text(message.args[1])
        return message.address == end

    converse(client, lambda conversation: conversation.ask("/voice/list", is_answer=is_end))
    return list(found.items())


def _ask_stats(client: DaemonClient) -> protocol.Stats:
    """Subscribe, take the first stats that come, and leave again."""
    converse(client, _first_stats)
    if client.view.stats is None:
        raise ProtocolError("the daemon sent /rvc/stats as something that rvcctl cannot read; are both the same version?")
    return client.view.stats


async def _first_stats(client: DaemonClient) -> None:
    try:
        await client.ask("/subscribe", 0, 30, "stats", is_answer=lambda message: message.address == protocol.PREFIX + "/stats")
    finally:
        client.send("/unsubscribe")


def _stats_values(stats: protocol.Stats) -> dict[str, str | int | float]:
    """Return the fields of Stats in order, with note and cents after f0_hz; floats as OSC's 32 bits really carry them."""
    note, cents = protocol.note_of(stats.f0_hz)
    values: dict[str, str | int | float] = {}
    for name, value in dataclasses.asdict(stats).items():
        values[name] = _rounded(value) if isinstance(value, float) else value
        if name == "f0_hz":
            values.update(note=note, cents=round(cents, 1))
    return values


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _shown(known: Name, value: Arg) -> str:
    """Return a value as the command line writes it."""
    number = number_of(value)
    if known.kind is Kind.TEXT or number is None:
        return clean_text(value)
    return f"{number:g}" if known.kind is Kind.NUMBER else ("on" if number >= ON_FROM else "off")
