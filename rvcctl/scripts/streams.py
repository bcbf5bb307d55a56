"""`rvcctl watch` and `rvcctl log`: what the daemon measures and says, line by line as it comes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Optional

import typer

from rvcctl.names import SETTABLE, STATS_NAMES, find_readable
from rvcctl.reading import clean_text, number_of
from rvcctl.scripts.asking import known_stats
from rvcctl.scripts.completion import readable_names
from rvcctl.scripts.feed import Feed, follow
from rvcctl.scripts.options import HostOption, NameOption, PortOption, target_of
from rvcctl.scripts.writing import columns, rounded, say, summary_line
from rvcd import protocol
from rvcd.osc.codec import OscMessage

WATCH_HZ, MAX_HZ = 10, 30
LOG_HZ, ONCE_HZ = 10, 30
MAX_LOG_LINE = 1000
"""Characters."""

ForeverOption = Annotated[bool, typer.Option("--forever", help="Wait for a daemon that is gone, instead of ending with code 3.")]


def watch(
    context: typer.Context,
    names: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Names as for 'get'; none: a summary.", autocompletion=readable_names),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, of the names or all measured.")] = False,
    rate_hz: Annotated[int, typer.Option("--hz", help="Lines a second, 1..30.")] = WATCH_HZ,
    count: Annotated[Optional[int], typer.Option("--count", help="End after so many lines.")] = None,  # noqa: UP045
    changes: Annotated[bool, typer.Option("--changes", help="Only lines that differ from the one before.")] = False,
    forever: ForeverOption = False,
    host: HostOption = None,
    port: PortOption = None,
    instance: NameOption = None,
) -> None:
    """Print values as they are measured, one line a push, until interrupted.

    With names a line holds their values alone, separated by tabs, in the order given (an empty text is '-').
    """
    if not 1 <= rate_hz <= MAX_HZ:
        raise typer.BadParameter(f"--hz must be 1..{MAX_HZ} lines a second, not {rate_hz}")
    if count is not None and count < 1:
        raise typer.BadParameter(f"--count must be at least 1 line, not {count}")
    wanted = [find_readable(name) for name in names or ()]
    target = target_of(context)
    lines = WatchLines(wanted, as_json, count, changes)
    groups = "stats" if set(wanted) <= set(STATS_NAMES) else "params,stats"
    _follow(lambda: Feed(target, groups, rate_hz), lines, forever)


def log(
    context: typer.Context,
    keep_on: Annotated[bool, typer.Option("--follow", "-f", help="Go on with every new line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line: number, level, text.")] = False,
    forever: ForeverOption = False,
    host: HostOption = None,
    port: PortOption = None,
    instance: NameOption = None,
) -> None:
    """Print the last lines of the daemon's log."""
    if forever and not keep_on:
        raise typer.BadParameter("--forever goes with --follow")
    target = target_of(context)
    _follow(lambda: Feed(target, "stats,log", LOG_HZ if keep_on else ONCE_HZ), LogLines(keep_on, as_json), forever)


def _follow(open_feed: Callable[[], Feed], lines: WatchLines | LogLines, forever: bool) -> None:
    asyncio.run(follow(open_feed, lines.take, _note if forever else None))


def _note(reason: str) -> None:
    print(f"rvcctl: {reason} (waiting for it)", file=sys.stderr, flush=True)


class WatchLines:
    """Prints a line for each push of telemetry. names: READABLE, none for a summary. count: of lines, None for no end."""

    def __init__(self, names: list[str], as_json: bool, count: int | None, changes_only: bool) -> None:
        self._names = names
        self._as_json = as_json
        self._left = count
        self._changes_only = changes_only
        self._previous = ""

    def take(self, feed: Feed, message: OscMessage) -> bool:
        """Print what a message says, if it is a push; return whether more is wanted."""
        if message.address != protocol.PREFIX + "/stats":
            return True
        values = known_stats(feed)
        for name in self._names:
            if name in values:
                continue
            address = SETTABLE[name].address
            if address not in feed.view.numbers:
                feed.send(address)  # lost on its way, or the daemon is another: nothing is printed before it is known
                return True
            values[name] = rounded(feed.view.numbers[address])
        line = self._line(values)
        if self._changes_only and line == self._previous:
            return True
        self._previous = line
        say(line)
        if self._left is not None:
            self._left -= 1
        return self._left != 0

    def _line(self, values: Mapping[str, str | int | float]) -> str:
        if self._as_json:
            return json.dumps({name: values[name] for name in self._names} if self._names else values)
        return columns(self._names, values) if self._names else summary_line(values)


class LogLines:
    """Prints the lines of the log that it has not printed before."""

    def __init__(self, keep_on: bool, as_json: bool) -> None:
        self._keep_on = keep_on
        self._as_json = as_json
        self._newest = 0
        self._pushes = 0
        self._uptime_s = 0.0

    def take(self, feed: Feed, message: OscMessage) -> bool:
        """Print a line of the log; return whether more is wanted.

        Every push begins with the telemetry and ends with the new lines, so the second telemetry says that all old ones came.
        """
        if message.address == protocol.PREFIX + "/stats":
            self._pushes += 1
            uptime_s = float(known_stats(feed)["uptime_s"])
            if uptime_s < self._uptime_s:  # another daemon: it counts from 1 again
                self._newest = 0
            self._uptime_s = uptime_s
        elif message.address == protocol.PREFIX + "/log" and len(message.args) >= 3:
            number, level, text = message.args[:3]
            self._print(int(number_of(number) or 0), clean_text(level), clean_text(text, MAX_LOG_LINE))
        return self._keep_on or self._pushes < 2

    def _print(self, number: int, level: str, text: str) -> None:
        if number <= self._newest:
            return
        self._newest = number
        say(json.dumps({"number": number, "level": level, "text": text}) if self._as_json else f"{level:<8} {text}")
