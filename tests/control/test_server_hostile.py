"""Hostile and broken input: nothing is answered that should not be, and honest clients are served."""

from __future__ import annotations

import asyncio
import logging
import random
import time

import pytest

from rvcd.control.osc import encode
from rvcd.control.server import OscServer
from tests.control.fake_rig import FakeRig
from tests.control.packets import KILLERS, bundle, mutated
from tests.control.udp import Client, client_of, converse


def test_thousands_of_hostile_datagrams_leave_the_server_answering_and_no_table_grown(caplog: pytest.LogCaptureFixture) -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        rng = random.Random(2)
        hostile = [*KILLERS.values(), *(mutated(rng) for _ in range(4000))]
        async with client_of(server) as attacker:
            for at, datagram in enumerate(hostile):
                attacker.send_raw(datagram)
                if at % 100 == 0:
                    await asyncio.sleep(0.005)
            started = time.perf_counter()
            await client.settle()
            assert time.perf_counter() - started < 2.0
            await asyncio.sleep(0)
        assert server.counters.received > 3000
        assert server.counters.malformed > 2000
        assert len(server.router.sources) <= 2
        assert len(server.subscriptions.targets()) <= 1
        assert len(asyncio.all_tasks()) <= 4

    with caplog.at_level(logging.WARNING, "rvcd"):
        converse(talk)
    lines = [record for record in caplog.records if "malformed" in record.getMessage()]
    assert len(lines) == 1, "one line, not four thousand"


def test_a_malformed_datagram_is_never_answered() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        for datagram in KILLERS.values():
            client.send_raw(datagram)
        await client.settle()
        assert {message.address for message in client.inbox} == {"/rvc/pong"}

    converse(talk)


def test_the_table_of_sources_is_bounded() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        for port in range(1000):
            server.datagram_received(encode("/rvc/version"), ("127.0.0.1", 20000 + port))
        assert len(server.router.sources) <= 256

    converse(talk)


def test_a_flood_of_queries_is_throttled_while_panic_passes_and_others_are_served() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        flooder = ("127.0.0.1", 40000)
        for _ in range(1500):
            server.datagram_received(encode("/rvc/version"), flooder)
        assert server.router.counters.throttled > 300
        server.datagram_received(encode("/rvc/panic"), flooder)
        server.datagram_received(encode("/rvc/mute", 1), flooder)
        server.datagram_received(encode("/rvc/pitch", 4), flooder)
        assert rig.is_panicked
        assert rig.switches["mute"]
        assert rig.get_param("pitch") == 4.0
        await client.settle()

    converse(talk)


def test_voice_requests_have_a_low_rate_and_say_so() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        for _ in range(40):
            client.send("/rvc/voice/list")
        await client.settle()
        assert len(client.find("/rvc/voice/list/end")) < 20
        assert "too many requests" in str(client.find("/rvc/fail")[-1].args[1])

    converse(talk)


def test_answers_of_another_daemon_are_not_answered() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        for address in ("/rvc/fail", "/rvc/done", "/rvc/pong", "/rvc/stats", "/rvc/meter/in/peak", "/other/program", "/rvcx"):
            client.send(address, "x")
        await client.settle()
        assert {message.address for message in client.inbox} == {"/rvc/pong"}
        assert server.router.counters.foreign == 7

    converse(talk)


def test_a_defect_in_the_daemon_becomes_a_failure_and_a_log_line_and_the_server_lives() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        rig.defect = True
        reply = await client.ask("/rvc/pitch", 1, reply="/rvc/fail")
        assert reply.args == ("/rvc/pitch", "internal error (ZeroDivisionError); the daemon's log has more")
        client.send_raw(bundle(encode("/rvc/gate", -1), encode("/rvc/gate", -2)))
        await client.expect("/rvc/fail", 3)
        rig.defect = False
        assert (await client.ask("/rvc/gate", -3)).args == (-3.0,)

    converse(talk)
