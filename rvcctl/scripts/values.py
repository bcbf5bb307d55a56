"""Commands for single values: get, set, step, reset, toggle, panic."""

from __future__ import annotations

from typing import Annotated

import typer

from rvcctl.client import DaemonClient, converse
from rvcctl.names import READABLE, SETTABLE, Kind, Name, find_of_kind, find_readable, find_settable, names_of, parse_value
from rvcctl.reading import first_arg, number_of
from rvcctl.scripts.asking import arrives_at, ask_once, ask_values, change
from rvcctl.scripts.completion import number_names, readable_names, settable_names, switch_names
from rvcctl.scripts.completion import values as completed_values
from rvcctl.scripts.options import HostOption, NameOption, PortOption, client_of
from rvcctl.scripts.writing import say, written
from rvcd.osc.codec import OscValue
from rvcd.protocol import ON_FROM

NumberArgument = Annotated[str, typer.Argument(help=", ".join(names_of(Kind.NUMBER)), autocompletion=number_names)]

SET_HELP = """Set one value and print what then holds: a number is limited to its range.

What can be set, and what it takes:

\b
""" + "\n".join(f"{known.name:<15} {known.takes}" for known in SETTABLE.values())
GET_HELP = "Print the present values of some names, one a line.\n\nWhat can be read: " + ", ".join(READABLE) + "."


def get(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="What to read.", autocompletion=readable_names)],
    host: HostOption = None,
    port: PortOption = None,
    instance: NameOption = None,
) -> None:
    """Print the present values of some names, one a line (see GET_HELP)."""
    wanted = [find_readable(name) for name in names]
    values = converse(client_of(context), lambda client: ask_values(client, wanted))
    for name, value in zip(wanted, values, strict=True):
        say(written(name, value))


def set_value(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What to set.", autocompletion=settable_names)],
    value: Annotated[str, typer.Argument(help="A number, on or off, or a name.", autocompletion=completed_values)],
    host: HostOption = None,
    port: PortOption = None,
    instance: NameOption = None,
) -> None:
    """Set one value and print what then holds (see SET_HELP)."""
    known = find_settable(name)
    set_and_print(client_of(context), known, parse_value(known, value))


def set_and_print(client: DaemonClient, known: Name, value: str | int | float) -> None:
    """Set something to a value of parse_value, wait until it holds, print what does."""
    holds = converse(client, lambda conversation: change(conversation, known, value))
    say(f"{known.name} {written(known.name, holds)}{_limit_note(known, value, holds)}")


def step(
    context: typer.Context,
    name: NumberArgument,
    amount: Annotated[str, typer.Argument(help="By how much, such as 1 or -0.5, in the unit of the name.")],
    host: HostOption = None,
    port: PortOption = None,
    instance: NameOption = None,
) -> None:
    """Change a number by an amount and print its new value."""
    known = find_of_kind(name, Kind.NUMBER, "step")
    value = parse_value(known, amount)
    say(f"{known.name} {_number_after(client_of(context), known, '/step', value)}")


def reset(
    context: typer.Context, name: NumberArgument, host: HostOption = None, port: PortOption = None, instance: NameOption = None
) -> None:
    """Set a number back to its default and print it."""
    known = find_of_kind(name, Kind.NUMBER, "reset")
    say(f"{known.name} {_number_after(client_of(context), known, '/reset')}")


def toggle(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=", ".join(names_of(Kind.SWITCH)), autocompletion=switch_names)],
    host: HostOption = None,
    port: PortOption = None,
    instance: NameOption = None,
) -> None:
    """Turn a switch over and print its new state."""
    known = find_of_kind(name, Kind.SWITCH, "toggle")

    async def turn_over(client: DaemonClient) -> OscValue:
        now = number_of(first_arg(await client.ask(known.address, is_answer=arrives_at(known.address))))
        return await change(client, known, int(not (now or 0.0) >= ON_FROM))

    holds = converse(client_of(context), turn_over)
    say(f"{known.name} {written(known.name, holds)}")


def panic(
    context: typer.Context,
    clear: Annotated[bool, typer.Option("--clear", help="End the panic: sound again.")] = False,
    host: HostOption = None,
    port: PortOption = None,
    instance: NameOption = None,
) -> None:
    """Silence the output at once, until `rvcctl panic --clear`."""
    address = "/panic/clear" if clear else "/panic"
    reply = converse(client_of(context), lambda client: client.ask(address, is_answer=arrives_at("/panic")))
    say(f"panic {written('panic', first_arg(reply))}")


def _number_after(client: DaemonClient, known: Name, verb: str, *args: str | int | float) -> str:
    reply = converse(client, lambda conversation: ask_once(conversation, known.address + verb, *args, reply=known.address))
    return written(known.name, first_arg(reply))


def _limit_note(known: Name, value: str | int | float, holds: OscValue) -> str:
    """Return what to say when the daemon limited a number."""
    number = number_of(holds)
    if known.kind is not Kind.NUMBER or isinstance(value, str) or number is None or abs(number - value) <= 1e-4:
        return ""
    return f" (limited from {value:g}: {known.name} takes {known.takes})"
