"""Conversations with the daemon: a question, a change that takes its time, a list, the telemetry once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from rvcctl.client import CommandFailedError, DaemonClient, is_done
from rvcctl.names import SETTABLE, Kind, Name
from rvcctl.reading import clean_text, first_arg, number_of
from rvcctl.scripts.writing import stats_values, written
from rvcd import protocol
from rvcd.errors import DaemonUnreachableError, ProtocolError
from rvcd.osc.codec import OscMessage, OscValue

SLOW_TIMEOUT_S = 60.0
"""A voice, an F0 method or another latency is read from a disk and warmed up before the daemon says /done."""
STILL_THERE_EVERY_S = 2.0
"""How often a daemon that works on something is asked whether it still lives."""
STATS_HZ = 30
"""The rate at which the telemetry is asked for once: its levels are taken over one period."""
LEVELS = frozenset({"in_peak_dbfs", "out_peak_dbfs"})
"""Peaks since the last push: only a subscription says since when."""


def arrives_at(address: str) -> Callable[[OscMessage], bool]:
    """Return an `is_answer` for DaemonClient.ask that waits for a value at an address below /rvc."""
    return lambda message: message.address == protocol.PREFIX + address and bool(message.args)


async def ping(client: DaemonClient) -> None:
    """Return once the daemon answers. Raises DaemonUnreachableError."""
    await client.ask("/ping", is_answer=lambda message: message.address == protocol.PREFIX + "/pong")


async def ask_slowly(
    client: DaemonClient, address: str, *args: str | int | float, is_answer: Callable[[OscMessage], bool] | None = None
) -> OscMessage:
    """Send a message below /rvc once, and wait for /done (or is_answer) while the daemon lives.

    Raises CommandFailedError for /fail or after SLOW_TIMEOUT_S, DaemonUnreachableError as soon as nobody is there any more.
    """
    await ping(client)
    answer = asyncio.ensure_future(
        client.ask(address, *args, is_answer=is_answer or is_done(address), timeout_s=SLOW_TIMEOUT_S, tries=1)
    )
    try:
        while True:
            done, _ = await asyncio.wait({answer}, timeout=STILL_THERE_EVERY_S)
            if done:
                return answer.result()
            await ping(client)
    except DaemonUnreachableError:
        await ping(client)  # raises again when the daemon is gone; else it is there and has nothing to say
        raise CommandFailedError(
            f"{protocol.PREFIX}{address} has not been done within {SLOW_TIMEOUT_S:g} s; 'rvcctl log' may tell why"
        ) from None
    finally:
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)


def held_after(done: OscMessage, otherwise: OscValue) -> OscValue:
    """Return what a /done says holds now: its first argument after the command."""
    return done.args[1] if len(done.args) > 1 else otherwise


async def change(client: DaemonClient, known: Name, value: str | int | float) -> OscValue:
    """Set something to a value of parse_value, and return what then holds.

    Raises CommandFailedError when the daemon refuses, or when a recording does not do as it was told.
    """
    if known.kind is Kind.SWITCH and known.slow:
        holds = first_arg(await ask_slowly(client, known.set_address, value, is_answer=arrives_at(known.address)))
        if number_of(holds) != value:
            raise CommandFailedError(f"{known.name} is still {written(known.name, holds)}; 'rvcctl log' may tell why")
        return holds
    if known.slow:
        done = await ask_slowly(client, known.set_address, value)
        return value if known.kind is Kind.WHOLE else held_after(done, value)  # a slot's /done names the voice

    def is_echo(message: OscMessage) -> bool:
        # A number may come back limited, so every echo of it counts; of a switch an older state may still be under way.
        return arrives_at(known.address)(message) and (known.kind is Kind.NUMBER or message.args[0] == value)

    return first_arg(await client.ask(known.set_address, value, is_answer=is_echo))


async def ask_once(client: DaemonClient, address: str, *args: str | int | float, reply: str) -> OscMessage:
    """Send what must not happen twice, and return what comes back at `reply`. Raises DaemonUnreachableError."""
    await ping(client)
    return await client.ask(address, *args, is_answer=arrives_at(reply), tries=1)


async def ask_list(client: DaemonClient, address: str, timeout_s: float = 1.0, tries: int = 3) -> dict[int, str]:
    """Return what a list such as /voice/list holds: number or slot to name, in the daemon's order."""
    found: dict[int, str] = {}

    def is_end(message: OscMessage) -> bool:
        if message.address == protocol.PREFIX + address and len(message.args) >= 2:
            found[int(number_of(message.args[0]) or 0)] = clean_text(message.args[1])
        return message.address == f"{protocol.PREFIX}{address}/end"

    await client.ask(address, is_answer=is_end, timeout_s=timeout_s, tries=tries)
    return found


async def ask_stats(client: DaemonClient, with_levels: bool = True) -> dict[str, str | int | float]:
    """Return the telemetry once, under STATS_NAMES. with_levels: take the peaks of a short while from now on."""
    if with_levels:
        try:
            await client.ask("/subscribe", 0, STATS_HZ, "stats", is_answer=arrives_at("/stats"))
        except CommandFailedError:  # the table is full, so somebody is pushed to, and the peaks are young without us
            await client.ask("/stats")
        finally:
            client.send("/unsubscribe")
    else:
        await client.ask("/stats")
    return known_stats(client)


def known_stats(client: DaemonClient) -> dict[str, str | int | float]:
    """Return the telemetry that has arrived, under STATS_NAMES. Raises ProtocolError when it could not be read."""
    if client.view.stats is None:
        raise ProtocolError("the daemon sent /rvc/stats as something that rvcctl cannot read; are both the same version?")
    return stats_values(client.view.stats)


async def ask_values(client: DaemonClient, names: Iterable[str]) -> list[OscValue]:
    """Return the present values of some READABLE names, in their order."""
    wanted = list(names)
    measured = [name for name in wanted if name not in SETTABLE]
    stats = await ask_stats(client, with_levels=not LEVELS.isdisjoint(measured)) if measured else {}
    return [
        first_arg(await client.ask(SETTABLE[name].address, is_answer=arrives_at(SETTABLE[name].address)))
        if name in SETTABLE
        else stats[name]
        for name in wanted
    ]
