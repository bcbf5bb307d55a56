"""The command line: `rvcctl` opens the screen; the commands are for scripts and keys of a Stream Deck.

Exit codes: 0 done, 1 refused by the daemon or a bad value, 2 wrong usage, 3 no daemon. One line on stderr says why.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from rvcctl.scripts.listing import list_daemons
from rvcctl.scripts.options import NEGATIVE_NUMBERS, HostOption, NameOption, PortOption, client_of
from rvcctl.scripts.status import status
from rvcctl.scripts.streams import log, watch
from rvcctl.scripts.values import GET_HELP, SET_HELP, get, panic, reset, set_value, step, toggle
from rvcctl.scripts.voices import preset, voice
from rvcctl.scripts.writing import ReaderGoneError
from rvcd import standard_streams
from rvcd.errors import DaemonUnreachableError, OutputError, RvcdError

EXIT_FAILED, EXIT_USAGE, EXIT_NO_DAEMON = 1, 2, 3
EXIT_INTERRUPTED = 130
DRAWN = "█─│●"
"""Some of what the screen is drawn with."""

app = typer.Typer(
    name="rvcctl",
    help="Watch and steer rvcd, the live voice converter.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
)


@app.callback()
def screen(
    context: typer.Context,
    demo: Annotated[bool, typer.Option("--demo", help="Open the screen without a daemon, on invented values.")] = False,
    host: HostOption = None,
    port: PortOption = None,
    instance: NameOption = None,
) -> None:
    """Watch and steer rvcd. Without a command: open the screen."""
    if context.invoked_subcommand is not None:
        if demo:
            raise typer.BadParameter(f"--demo opens the screen; '{context.invoked_subcommand}' needs a daemon")
        return
    # Textual draws on stderr.
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout, sys.__stderr__)):
        raise typer.BadParameter("the screen needs a terminal; in a script use 'rvcctl status --json'")
    if not standard_streams.can_show(sys.__stderr__, DRAWN):
        encoding = getattr(sys.__stderr__, "encoding", "")
        raise typer.BadParameter(
            f"the screen needs a terminal and a locale of UTF-8, not {encoding}: try LC_ALL=C.UTF-8, or use 'rvcctl status'"
        )
    client = client_of(context)
    from rvcctl.app import RvcctlApp  # textual is heavy, and only the screen needs it

    if demo:
        from rvcctl.demo import DemoClient

        RvcctlApp(DemoClient()).run()
    else:
        RvcctlApp(client).run()


app.command("list")(list_daemons)
app.command()(status)
app.command(help=GET_HELP)(get)
app.command("set", help=SET_HELP, context_settings=NEGATIVE_NUMBERS)(set_value)
app.command(context_settings=NEGATIVE_NUMBERS)(step)
app.command()(reset)
app.command()(toggle)
app.command()(panic)
app.command()(voice)
app.add_typer(preset, name="preset")
app.command()(watch)
app.command()(log)


def main() -> None:
    """Entry point: run the command line and exit with its code; every error is one line on stderr."""
    standard_streams.prepare()
    try:
        code = app(prog_name="rvcctl", standalone_mode=False)
        standard_streams.finish()
    except DaemonUnreachableError as error:
        _exit(EXIT_NO_DAEMON, str(error))
    except RvcdError as error:
        if isinstance(error, OutputError):
            standard_streams.give_up_output()
        _exit(EXIT_FAILED, str(error))
    except (ReaderGoneError, BrokenPipeError):
        standard_streams.give_up_output()
        sys.exit(0)
    except OSError as error:  # a full disk behind the output; a home folder that --install-completion may not write
        _exit(EXIT_FAILED, f"cannot write {error.filename or 'the output'}: {error.strerror or error}")
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        # Typer carries its own copy of click: its usage errors are known by their interface, not by an importable name.
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            command = getattr(getattr(error, "ctx", None), "command_path", None) or "rvcctl"
            _exit(EXIT_USAGE, f"{error.format_message().rstrip('.')} (see '{command} --help')")
        _exit(EXIT_FAILED, f"unexpected {type(error).__name__}: {error}; please report this")
    sys.exit(code if isinstance(code, int) else 0)


def _exit(code: int, reason: str) -> NoReturn:
    print(f"rvcctl: {' '.join(reason.split())}", file=sys.stderr)
    sys.exit(code)
