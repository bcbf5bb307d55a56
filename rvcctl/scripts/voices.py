"""Commands for what the daemon keeps by name: voices and presets."""

from __future__ import annotations

import json
from typing import Annotated, Optional

import typer

from rvcctl.client import DaemonClient, converse
from rvcctl.names import SETTABLE, is_number, name_or_number, parse_value
from rvcctl.reading import clean_text, first_arg
from rvcctl.scripts.asking import arrives_at, ask_list, ask_slowly, held_after
from rvcctl.scripts.completion import preset_names, voice_words
from rvcctl.scripts.options import HostOption, NameOption, PortOption, client_of
from rvcctl.scripts.values import set_and_print
from rvcctl.scripts.writing import say, written

JsonListOption = Annotated[bool, typer.Option("--json", help="The list as one JSON array on one line.")]


def voice(
    context: typer.Context,
    word: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="A voice's name or slot, or: list, next, prev, rescan.", autocompletion=voice_words),
    ] = None,
    as_json: JsonListOption = False,
    host: HostOption = None,
    port: PortOption = None,
    instance: NameOption = None,
) -> None:
    """Switch to a voice, and wait until it is live; or list the voices, or print the present one.

    A voice whose name is one of these words, or a number, is reached with: rvcctl set voice NAME.
    """
    client = client_of(context)
    if as_json and word != "list":
        raise typer.BadParameter("--json goes with 'rvcctl voice list'")
    if word is None:
        _print_present(client, "voice")
    elif word == "list":
        _print_list(client, "/voice/list", "slot", as_json)
    elif word == "rescan":
        say(f"{_done(client, '/voice/rescan')} voices")
    elif word in ("next", "prev"):
        say(f"voice {_done(client, f'/voice/{word}')}")
    elif is_number(word):
        slot = parse_value(SETTABLE["voice_slot"], word)
        say(f"voice {_done(client, '/voice/slot', slot)}")
    else:
        set_and_print(client, SETTABLE["voice"], parse_value(SETTABLE["voice"], word))


preset = typer.Typer(help="Named sets of all parameters. Alone: print the present one.", invoke_without_command=True)

PresetArgument = Annotated[str, typer.Argument(help="Its name, or its number in 'list'.", autocompletion=preset_names)]


@preset.callback()
def present_preset(context: typer.Context, host: HostOption = None, port: PortOption = None, instance: NameOption = None) -> None:
    """Save, recall, list or delete named sets of all parameters; alone: print the one that holds.

    A preset whose name is a number is recalled with: rvcctl set preset NAME.
    """
    if context.invoked_subcommand is None:
        _print_present(client_of(context), "preset")


@preset.command("list")
def list_presets(
    context: typer.Context,
    as_json: JsonListOption = False,
    host: HostOption = None,
    port: PortOption = None,
    instance: NameOption = None,
) -> None:
    """List the presets with their numbers."""
    _print_list(client_of(context), "/preset/list", "number", as_json)


@preset.command("save")
def save_preset(
    context: typer.Context, name: PresetArgument, host: HostOption = None, port: PortOption = None, instance: NameOption = None
) -> None:
    """Keep the present parameters under a name; replaces the preset of this name or number."""
    say(f"saved {_done(client_of(context), '/preset/save', name_or_number(name))}")


@preset.command("recall")
def recall_preset(
    context: typer.Context, name: PresetArgument, host: HostOption = None, port: PortOption = None, instance: NameOption = None
) -> None:
    """Set every parameter as a preset has it."""
    say(f"preset {_done(client_of(context), '/preset/recall', name_or_number(name))}")


@preset.command("delete")
def delete_preset(
    context: typer.Context, name: PresetArgument, host: HostOption = None, port: PortOption = None, instance: NameOption = None
) -> None:
    """Forget a preset."""
    say(f"deleted {_done(client_of(context), '/preset/delete', name_or_number(name))}")


def _done(client: DaemonClient, address: str, *args: str | int | float) -> str:
    """Send a command, wait for its /done and return what that says holds."""
    done = converse(client, lambda conversation: ask_slowly(conversation, address, *args))
    return clean_text(held_after(done, "done"))


def _print_present(client: DaemonClient, name: str) -> None:
    address = SETTABLE[name].address
    reply = converse(client, lambda conversation: conversation.ask(address, is_answer=arrives_at(address)))
    say(written(name, first_arg(reply)))


def _print_list(client: DaemonClient, address: str, number_name: str, as_json: bool) -> None:
    found = converse(client, lambda conversation: ask_list(conversation, address))
    if as_json:
        say(json.dumps([{number_name: number, "name": name} for number, name in found.items()]))
        return
    for number, name in found.items():
        say(f"{number:>3}  {name}")
