"""Who is told what, how often, and where to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time

import pytest

from rvcd.osc.codec import OscMessage, decode
from rvcd.osc.server import OscServer, OscSettings
from rvcd.osc.subscriptions import FeedbackTarget
from rvcd.params import PARAMS
from rvcd.protocol import PREFIX, Stats
from tests.osc.fake_session import FakeSession
from tests.osc.udp import Client, client_of, converse, serving
from tests.waiting import eventually_async


def test_a_change_by_one_client_is_echoed_to_the_subscribers_at_the_identical_path() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        async with client_of(server) as watcher:
            done = await watcher.ask("/rvc/subscribe", 0, 30, "params", reply="/rvc/done")
            assert done.args == ("/rvc/subscribe", "127.0.0.1", watcher.port, 30, "params", 10)
            await watcher.expect("/rvc/status")
            state = {message.address for message in watcher.inbox}
            assert {PREFIX + param.address for param in PARAMS} <= state
            assert {"/rvc/bypass", "/rvc/mute", "/rvc/panic", "/rvc/voice", "/rvc/voice/slot", "/rvc/f0/method"} <= state
            watcher.inbox.clear()
            await client.ask("/rvc/pitch", 99)
            assert (await watcher.expect("/rvc/pitch")).args == (24.0,)
            await client.ask("/rvc/mute/on", reply="/rvc/mute")
            assert (await watcher.expect("/rvc/mute")).args == (1,)
            assert (await watcher.expect("/rvc/status")).args == ("muted", "", 0, 1, 0, 0, 0)
            await client.ask("/rvc/voice", 1, reply="/rvc/done")
            assert (await watcher.expect("/rvc/voice")).args == ("Anna",)
            await watcher.ask("/rvc/gate", -50)
            await watcher.settle()
            assert len(watcher.find("/rvc/gate")) == 1, "the sender has its reply already"
            assert not client.find("/rvc/status"), "who does not subscribe is told nothing"
            assert not watcher.find("/rvc/stats")
            assert not watcher.find("/rvc/load")

    converse(talk)


def test_a_fader_flood_reaches_a_slow_subscriber_thinned_out_and_with_its_last_value() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        async with client_of(server) as watcher:
            await watcher.ask("/rvc/subscribe", 0, 10, "params", reply="/rvc/done")
            await watcher.expect("/rvc/status")
            watcher.inbox.clear()
            started = time.perf_counter()
            for step in range(60):
                client.send("/rvc/pitch", step / 10)
                await asyncio.sleep(0.004)
            await watcher.wait(
                lambda: watcher.find("/rvc/pitch") and watcher.find("/rvc/pitch")[-1].args[0] == pytest.approx(5.9)
            )
            assert len(watcher.find("/rvc/pitch")) <= 3 + 10 * (time.perf_counter() - started)

    converse(talk)


def test_what_the_daemon_changes_by_itself_is_echoed_too() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        await client.ask("/rvc/subscribe", "params", reply="/rvc/done")
        await client.expect("/rvc/status")
        session.set_param("protect", 0.1)
        await client.wait(lambda: client.find("/rvc/protect")[-1].args == (pytest.approx(0.1),))
        session.is_panicked = True
        server.changed()
        await client.wait(lambda: client.find("/rvc/panic")[-1].args == (1,))

    converse(talk)


def test_telemetry_comes_at_about_the_rate_asked_for_in_the_groups_asked_for() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        started_s = time.monotonic()
        await client.ask("/rvc/subscribe", 0, 25.0, "meters", "stats", reply="/rvc/done")
        await client.expect("/rvc/stats", 8)
        assert len(client.find("/rvc/stats")) <= 2 + 25 * (time.monotonic() - started_s)
        assert abs(len(client.find("/rvc/meter/in/peak")) - len(client.find("/rvc/stats"))) <= 1
        assert not client.find("/rvc/pitch")
        await client.ask("/rvc/unsubscribe", reply="/rvc/done")
        client.inbox.clear()
        await asyncio.sleep(0.1)
        assert client.inbox == []

    converse(talk)


def test_the_first_meters_of_a_subscriber_cover_a_whole_period() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        asked: list[float] = []
        measure = session.stats

        def stats() -> Stats:
            asked.append(time.monotonic())
            return measure()

        session.stats = stats  # type: ignore[method-assign]
        client.send("/rvc/subscribe", 0, 10.0, "stats")
        await client.expect("/rvc/stats")
        # Taking peaks empties them: a level read at once after would be that of no time at all, as `rvcctl status` showed it.
        assert len(asked) >= 2 and asked[1] - asked[0] > 0.08

    converse(talk)


def test_the_port_of_a_subscription_may_be_chosen_but_never_the_host() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        async with client_of(server) as ear:
            client.send("/rvc/subscribe", float(ear.port), 20.0, "params")
            assert (await ear.expect("/rvc/status")).args[0] == "no-voice"
            done = await client.expect("/rvc/done")
            assert done.args[1:3] == ("127.0.0.1", ear.port)
            assert not ear.find("/rvc/done")
            assert not client.find("/rvc/status")
            assert "daemon's own" in str((await client.ask("/rvc/subscribe", server.address[1], reply="/rvc/fail")).args[1])

    converse(talk)


def test_configured_feedback_targets_are_told_without_asking() -> None:
    async def run() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
            ear.bind(("127.0.0.1", 0))
            ear.setblocking(False)
            target = FeedbackTarget("127.0.0.1", ear.getsockname()[1], 20, ("params", "stats"))
            async with serving(settings=OscSettings(port=0, feedback=(target,))) as server, client_of(server) as client:
                await client.ask("/rvc/pitch", 5)
                heard: list[OscMessage] = []

                def told_everything() -> bool:
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            heard.extend(decode(ear.recv(65536), max_arguments=128))
                    told = {m.address: m.args for m in heard}
                    return told.get("/rvc/pitch") == (5.0,) and "/rvc/stats" in told

                await eventually_async(told_everything)

    asyncio.run(run())


def test_a_session_that_is_not_ready_costs_one_line_of_the_log_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        session = FakeSession(is_ready=False)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
            ear.bind(("127.0.0.1", 0))
            target = FeedbackTarget("127.0.0.1", ear.getsockname()[1], 30, ("params", "meters", "stats"))
            async with serving(session, OscSettings(port=0, feedback=(target,))) as server, client_of(server) as client:
                await client.ask("/rvc/subscribe", 0, 30, reply="/rvc/done")
                for _ in range(5):
                    await client.settle()
                    server.changed()
                    await asyncio.sleep(0.04)
                assert not client.find("/rvc/fail") and not client.find("/rvc/stats")
                session.is_ready = True
                await client.expect("/rvc/stats")
                assert client.find("/rvc/pitch")

    with caplog.at_level(logging.INFO, "rvcd"):
        asyncio.run(run())
    (line,) = [record for record in caplog.records if "telemetry" in record.getMessage()]
    assert line.getMessage() == "telemetry could not be built: KeyError: 'nothing measured yet'"
    assert line.exc_info is None
