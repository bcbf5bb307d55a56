"""Against other implementations of OSC: liblo's command-line tools and the clients of foreign_clients.py, where installed."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rvcd.daemon.presets import PresetBook
from rvcd.osc.codec import encode
from rvcd.osc.server import OscServer, OscSettings
from rvcd.osc.session import VoiceStatus
from rvcd.osc.subscriptions import FeedbackTarget
from rvcd.osc.verbs import VERBS, Verb
from rvcd.protocol import stats_from_args
from tests.osc.fake_session import FakeSession
from tests.osc.foreign_clients import FOREIGN, ForeignClient
from tests.osc.udp import client_of, serving
from tests.waiting import eventually_async as until
from tests.waiting import free_port

needs_liblo_tools = pytest.mark.skipif(
    not (shutil.which("oscsend") and shutil.which("oscdump")), reason="liblo-tools is not installed"
)
every_implementation = pytest.mark.parametrize("make_client", FOREIGN.values(), ids=list(FOREIGN))


async def oscsend(server: tuple[str, int], address: str, *words: str) -> None:
    process = await asyncio.create_subprocess_exec("oscsend", server[0], str(server[1]), address, *words)
    assert await process.wait() == 0


@asynccontextmanager
async def oscdump(port: int) -> AsyncIterator[list[str]]:
    """Run liblo's oscdump on a port and yield the lines it prints, without their times."""
    dump = await asyncio.create_subprocess_exec("oscdump", "-L", str(port), stdout=asyncio.subprocess.PIPE)
    lines: list[str] = []

    async def read() -> None:
        assert dump.stdout is not None
        while line := await dump.stdout.readline():
            lines.append(line.decode().split(" ", 1)[-1].strip())

    reader = asyncio.ensure_future(read())
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knocking:

            def listens() -> bool:
                knocking.sendto(encode("/knock"), ("127.0.0.1", port))
                return any(line.startswith("/knock") for line in lines)

            await until(listens, "oscdump's first line")
        yield lines
    finally:
        dump.kill()
        await dump.wait()
        reader.cancel()


Talk = Callable[[ForeignClient, FakeSession, OscServer], Awaitable[None]]


def converse(make_client: Callable[[tuple[str, int]], ForeignClient], talk: Talk) -> None:
    async def run() -> None:
        session = FakeSession()
        async with serving(session) as server:
            client = make_client(server.address)
            try:
                await talk(client, session, server)
                assert server.counters.malformed == 0
            finally:
                client.close()

    asyncio.run(run())


@every_implementation
def test_a_foreign_client_sets_everything_with_every_type_it_has_and_hears_the_applied_value(make_client: Any) -> None:
    async def talk(client: ForeignClient, session: FakeSession, server: OscServer) -> None:
        client.send("/rvc/pitch", 3.5)
        await until(lambda: ("/rvc/pitch", (3.5,)) in client.inbox)
        client.send("/rvc/pitch", -7)
        await until(lambda: ("/rvc/pitch", (-7.0,)) in client.inbox)
        client.send("/rvc/pitch", 99.0)
        await until(lambda: ("/rvc/pitch", (24.0,)) in client.inbox)
        client.send("/rvc/gain/in/norm", 1.0)
        await until(lambda: ("/rvc/gain/in", (24.0,)) in client.inbox and ("/rvc/gain/in/norm", (1.0,)) in client.inbox)
        client.send("/rvc/mute", True)
        await until(lambda: ("/rvc/mute", (1,)) in client.inbox)
        client.send("/rvc/mute", False)
        await until(lambda: ("/rvc/mute", (0,)) in client.inbox)
        client.send("/rvc/bypass/toggle", 0.0)  # the release of a button
        client.send("/rvc/bypass/toggle", 1.0)
        await until(lambda: ("/rvc/bypass", (1,)) in client.inbox)
        client.send("/rvc/voice", "Bo Li")
        await until(lambda: ("/rvc/done", ("/rvc/voice", "Bo Li", 2)) in client.inbox)
        client.send("/rvc/preset/save", "Größe 1")
        await until(lambda: ("/rvc/done", ("/rvc/preset/save", "Größe 1")) in client.inbox)
        client.send("/rvc/pitch", "high")
        await until(lambda: ("/rvc/fail", ("/rvc/pitch", "needs a number, not text")) in client.inbox)
        client.send("/rvc/status")
        await until(lambda: ("/rvc/status", ("live", "Bo Li", 1, 0, 0, 0, 0)) in client.inbox)

    converse(make_client, talk)


@every_implementation
def test_a_bundle_of_a_foreign_client_is_applied_at_once_whatever_its_time(make_client: Any) -> None:
    async def talk(client: ForeignClient, session: FakeSession, server: OscServer) -> None:
        client.send_bundle(3600.0, ("/rvc/formant", (2.0,)), ("/rvc/gate", (-40,)), ("/rvc/mute", (True,)))
        await until(lambda: {("/rvc/formant", (2.0,)), ("/rvc/gate", (-40.0,)), ("/rvc/mute", (1,))} <= set(client.inbox))

    converse(make_client, talk)


@every_implementation
def test_a_foreign_client_that_subscribes_is_told_the_state_the_changes_and_the_telemetry(make_client: Any) -> None:
    async def talk(client: ForeignClient, session: FakeSession, server: OscServer) -> None:
        client.send("/rvc/subscribe", 0, 20)
        await until(lambda: [args for address, args in client.inbox if address == "/rvc/stats"])
        told = dict(client.inbox)
        assert told["/rvc/done"] == ("/rvc/subscribe", "127.0.0.1", client.port, 20, "params,meters,stats", 10)
        assert told["/rvc/protect"] == (pytest.approx(0.33),)
        assert told["/rvc/f0/note"] == ("-",)
        assert told["/rvc/xruns"] == (0,)
        assert stats_from_args(told["/rvc/stats"]) == session.stats()
        session.set_param("pitch", 5.0)  # somebody else
        await until(lambda: ("/rvc/pitch", (5.0,)) in client.inbox)
        client.send("/rvc/unsubscribe")
        await until(lambda: ("/rvc/done", ("/rvc/unsubscribe",)) in client.inbox)
        assert server.subscriptions.targets() == []

    converse(make_client, talk)


@every_implementation
def test_a_foreign_client_on_a_configured_port_is_told_without_asking(make_client: Any) -> None:
    async def run() -> None:
        client = make_client(("127.0.0.1", 9))
        try:
            feedback = (FeedbackTarget("127.0.0.1", client.port, 20, ("params",)),)
            async with serving(settings=OscSettings(port=0, feedback=feedback)) as server:
                async with client_of(server) as somebody_else:
                    await somebody_else.ask("/rvc/pitch", 2.0)
                await until(lambda: ("/rvc/pitch", (2.0,)) in client.inbox)
                assert not [address for address, _ in client.inbox if "meter" in address]
        finally:
            client.close()

    asyncio.run(run())


@needs_liblo_tools
def test_oscsend_controls_the_daemon_with_every_type_it_has() -> None:
    async def run() -> None:
        session = FakeSession()
        async with serving(session) as server:
            at = server.address
            await oscsend(at, "/rvc/pitch", "f", "3.5")
            await until(lambda: session.get_param("pitch") == 3.5)
            await oscsend(at, "/rvc/formant", "i", "-2")
            await until(lambda: session.get_param("formant") == -2.0)
            await oscsend(at, "/rvc/gain/out", "d", "-6")
            await until(lambda: session.get_param("gain_out") == -6.0)
            await oscsend(at, "/rvc/index_rate", "h", "1")
            await until(lambda: session.get_param("index_rate") == 1.0)
            await oscsend(at, "/rvc/bypass", "T")
            await until(lambda: session.switches["bypass"])
            await oscsend(at, "/rvc/bypass", "F")
            await until(lambda: not session.switches["bypass"])
            await oscsend(at, "/rvc/bypass/toggle")
            await until(lambda: session.switches["bypass"])
            await oscsend(at, "/rvc/mute/on", "N")
            await until(lambda: session.switches["mute"])
            await oscsend(at, "/rvc/panic", "I")
            await until(lambda: session.is_panicked)
            await oscsend(at, "/rvc/voice", "s", "Bo Li")
            await until(lambda: session.live.name == "Bo Li")
            await oscsend(at, "/rvc/voice", "S", "Anna")
            await until(lambda: session.live.name == "Anna")
            assert server.counters.malformed == 0
            await oscsend(at, "/rvc/pitch", "c", "x")  # a type that is not accepted
            await oscsend(at, "/rvc/pitch", "m", "00904060")
            await until(lambda: server.counters.malformed == 2)

    asyncio.run(run())


@needs_liblo_tools
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.address)
def test_the_example_of_the_reference_works_as_it_stands_with_the_real_oscsend(verb: Verb) -> None:
    async def run() -> None:
        book, _ = PresetBook().put("Deep", {"pitch": -5.0})
        async with serving(FakeSession(book=book, registry=(VoiceStatus("Anna", 1), VoiceStatus("Bo Li", 2)))) as server:
            await oscsend(server.address, *shlex.split(verb.example))
            await until(lambda: server.router.counters.messages == 1)
            await asyncio.sleep(0.01)  # a slow command's turn
            counters = server.router.counters
            assert (counters.failed, counters.unknown, counters.foreign, server.counters.malformed) == (0, 0, 0, 0)

    asyncio.run(run())


@needs_liblo_tools
def test_oscdump_reads_the_state_the_echoes_and_the_telemetry_of_a_floats_only_client() -> None:
    async def run() -> None:
        port = free_port()
        async with oscdump(port) as lines, serving() as server:
            await oscsend(server.address, "/rvc/subscribe", "ff", str(port), "20")
            await until(lambda: any(line.startswith("/rvc/stats ") for line in lines))
            await oscsend(server.address, "/rvc/pitch", "f", "-3")
            await oscsend(server.address, "/rvc/mute/on", "f", "1")
            await until(lambda: "/rvc/pitch f -3.000000" in lines and "/rvc/mute i 1" in lines)
            assert "/rvc/protect f 0.330000" in lines
            assert '/rvc/f0/note s "-"' in lines
            assert "/rvc/xruns i 0" in lines
            assert next(line for line in lines if line.startswith("/rvc/stats")).startswith("/rvc/stats ssisiii")

    asyncio.run(run())


@needs_liblo_tools
def test_oscdump_on_a_configured_port_is_told_every_change_without_asking() -> None:
    async def run() -> None:
        port = free_port()
        settings = OscSettings(port=0, feedback=(FeedbackTarget("127.0.0.1", port, 20, ("params", "meters")),))
        async with oscdump(port) as lines, serving(settings=settings) as server:
            await oscsend(server.address, "/rvc/voice/slot/1")
            await until(lambda: '/rvc/voice s "Anna"' in lines and "/rvc/voice/slot i 1" in lines)
            await until(lambda: any(line.startswith("/rvc/meter/out/peak f ") for line in lines))
            assert not any(line.startswith(("/rvc/stats", "/rvc/done")) for line in lines)

    asyncio.run(run())
