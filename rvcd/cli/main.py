"""The command `rvcd`. Each command imports what it needs when it is called: all start quickly, none pays for torch unasked."""

from __future__ import annotations

import contextlib
import os
import sys

import typer

from rvcd import standard_streams
from rvcd.cli import (
    assets,
    bench,
    check,
    config,
    devices,
    evaluate,
    measure_latency,
    mic,
    osc,
    render,
    run,
    version,
    voice,
    voice_index,
    voice_register,
)
from rvcd.cli.common import DEBUG_VARIABLE
from rvcd.cli.privacy import keep_to_this_machine
from rvcd.errors import ConfigError, OutputError, RvcdError

INTERNAL_ERROR = 70
"""Exit code of a fault of rvcd's own (EX_SOFTWARE of sysexits.h); 1: something a user can mend; 2: the command line."""

app = typer.Typer(
    help="rvcd converts a live voice: `rvcd run` starts it, `rvcctl` shows and steers it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the order of `rvcd --help`.
app.command()(run.run)
app.command()(render.render)
app.command()(bench.bench)
app.command("eval")(evaluate.evaluate)
app.command()(check.check)
app.command()(devices.devices)
app.command()(measure_latency.measure_latency)
app.command("config")(config.print_config)
app.command()(osc.osc)
app.command()(version.version)
app.add_typer(assets.app, name="assets")
voice.app.command("register")(voice_register.register)
voice.app.add_typer(voice_index.app, name="index")
app.add_typer(voice.app, name="voice")
app.add_typer(mic.app, name="mic")


def main() -> None:
    """Run the command line. What a user can cause is one line on stderr (each problem of a configuration has its own)."""
    standard_streams.prepare()
    keep_to_this_machine()
    try:
        _run_and_finish()
    except ConfigError as error:
        _complain(f"{error.path} has {len(error.problems)} problem(s):", *(f"  {problem}" for problem in error.problems))
        sys.exit(1)
    except RvcdError as error:
        if isinstance(error, OutputError):
            standard_streams.give_up_output()
        _complain(f"rvcd: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        standard_streams.give_up_output()
        sys.exit(1)
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        if isinstance(error, OSError) and error.strerror:  # a disk, a limit, a right: of this machine, not of rvcd
            what = f"{error.filename}: " if isinstance(error.filename, str) else ""
            _complain(f"rvcd: {what}{error.strerror.lower()} ({DEBUG_VARIABLE}=1 shows where)")
            sys.exit(1)
        _complain(f"rvcd: internal error: {type(error).__name__}: {error} (a fault in rvcd; {DEBUG_VARIABLE}=1 shows where)")
        sys.exit(INTERNAL_ERROR)


def _run_and_finish() -> None:
    """Run the command, and write out what it printed: only then it has been done."""
    try:
        app(prog_name="rvcd")
    except SystemExit:
        standard_streams.finish()
        raise
    standard_streams.finish()


def _complain(*lines: str) -> None:
    with contextlib.suppress(OSError):
        print(*lines, sep="\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
