from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
from collections.abc import Callable, Coroutine

import pytest

from rvcctl.client import CommandFailedError, DaemonClient, Timing, converse, is_done
from rvcctl.target import Target
from rvcctl.view import Done, Entry, Failure
from rvcd.errors import DaemonUnreachableError
from rvcd.osc.session import LogLine
from rvcd.params import PARAMS
from tests.osc.fake_session import FakeSession
from tests.rvcctl.fake_daemon import FakeDaemon, running_daemon
from tests.rvcctl.real_server import serving
from tests.waiting import eventually, free_port
from tests.waiting import eventually_async as until

QUICK = Timing(renew_s=0.05, retry_s=0.04, reopen_s=0.2, tick_s=0.01)


class Ears:
    """A listener that keeps what it heard."""

    def __init__(self) -> None:
        self.changes = 0
        self.failures: list[Failure] = []
        self.done: list[Done] = []

    def on_view_changed(self) -> None:
        self.changes += 1

    def on_failed(self, failure: Failure) -> None:
        self.failures.append(failure)

    def on_done(self, done: Done) -> None:
        self.done.append(done)


def live(client: DaemonClient, scene: Callable[[Ears], Coroutine[None, None, None]]) -> None:
    """Run a scene beside client.run()."""

    async def both() -> None:
        ears = Ears()
        running = asyncio.create_task(client.run(ears))
        try:
            await scene(ears)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(both())


def test_subscribing_brings_the_whole_state_the_lease_is_renewed_and_leaving_unsubscribes() -> None:
    with running_daemon() as daemon:
        client = DaemonClient(Target(port=daemon.port), timing=QUICK)

        async def scene(_ears: Ears) -> None:
            await until(lambda: client.view.stats is not None)
            assert client.view.stats is not None
            assert client.view.stats.voice == "demo"
            assert len(client.view.numbers) == len(PARAMS)
            assert daemon.received[0].args == (0, 10, "params,stats,log")
            await until(lambda: daemon.addresses().count("/subscribe") >= 3)

        live(client, scene)
        eventually(lambda: "/unsubscribe" in daemon.addresses())


def test_garbage_from_the_daemons_own_address_is_counted_and_the_next_honest_message_is_taken() -> None:
    with running_daemon() as daemon:
        client = DaemonClient(Target(port=daemon.port), timing=Timing())

        async def scene(ears: Ears) -> None:
            await until(lambda: client.view.stats is not None)
            for length in range(0, 400, 7):
                daemon.raw(os.urandom(length))
            daemon.raw(b"#bundle\0" + bytes(8) + b"\xff\xff\xff\xfc")
            daemon.raw(b"/rvc/stats\0\0,i\0\0\0\0\0\1")
            daemon.raw(b"/rvc/pitch\0\0,f\0\0\x7f\xc0\0\0")
            before = ears.changes
            daemon.push_stats()
            await until(lambda: ears.changes > before and client.view.bad_datagrams >= 58)

        live(client, scene)


def test_a_daemon_that_comes_later_and_one_that_comes_back_are_found() -> None:
    port = free_port()
    client = DaemonClient(Target(port=port), timing=QUICK)

    async def scene(_ears: Ears) -> None:
        await until(lambda: "nobody listens" in client.view.trouble)
        for _ in range(2):
            daemon = FakeDaemon(port)
            daemon.start()
            await until(lambda: client.view.stats is not None and client.view.trouble == "")
            daemon.stop()
            await until(lambda: "nobody listens" in client.view.trouble)

    live(client, scene)


def test_a_host_without_an_address_is_asked_for_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    client = DaemonClient(Target("no such host", 9720), timing=QUICK)

    async def scene(ears: Ears) -> None:
        await until(lambda: ears.changes >= 2)
        assert "cannot reach no such host:9720" in client.view.trouble

    live(client, scene)


def test_a_deaf_socket_is_opened_anew() -> None:
    with running_daemon() as daemon:
        daemon.silent = True
        client = DaemonClient(Target(port=daemon.port), timing=QUICK)

        async def scene(_ears: Ears) -> None:
            await until(lambda: "/unsubscribe" in daemon.addresses())
            daemon.silent = False
            await until(lambda: client.view.stats is not None)

        live(client, scene)


def test_a_refusal_reaches_the_listener() -> None:
    with running_daemon() as daemon:
        client = DaemonClient(Target(port=daemon.port), timing=QUICK)

        async def scene(ears: Ears) -> None:
            await until(lambda: client.view.stats is not None)
            client.send("/voice", "nobody")
            await until(lambda: bool(ears.failures))
            assert ears.failures == [Failure("/voice", "no voice of that name; known: demo, alto")]

        live(client, scene)


def test_a_question_is_answered_or_fails_with_the_daemons_reason() -> None:
    with running_daemon() as daemon:
        client = DaemonClient(Target(port=daemon.port))
        assert converse(client, lambda asked: asked.ask("/pitch", 3.0)).args == (3.0,)
        assert converse(client, lambda asked: asked.ask("/voice", "alto", is_answer=is_done("/voice"))).args[0] == "/rvc/voice"
        with pytest.raises(CommandFailedError, match="no voice of that name"):
            converse(client, lambda asked: asked.ask("/voice", "nobody", is_answer=is_done("/voice")))


def test_a_question_without_an_answer_is_asked_again_and_then_given_up() -> None:
    with running_daemon() as daemon:
        daemon.silent = True
        client = DaemonClient(Target(port=daemon.port))
        with pytest.raises(DaemonUnreachableError, match="no answer to /rvc/ping"):
            converse(client, lambda asked: asked.ask("/ping", timeout_s=0.15))
        eventually(lambda: daemon.addresses() == ["/ping"] * 3)


def test_a_closed_port_is_known_at_once() -> None:
    client = DaemonClient(Target(port=free_port()))
    with pytest.raises(DaemonUnreachableError, match="start it with 'rvcd run'"):
        converse(client, lambda asked: asked.ask("/ping", timeout_s=30.0))


def test_a_number_that_was_lost_on_the_way_is_asked_for() -> None:
    with running_daemon() as daemon:
        client = DaemonClient(Target(port=daemon.port), timing=QUICK)

        async def scene(_ears: Ears) -> None:
            await until(lambda: len(client.view.numbers) == len(PARAMS))
            del client.view.numbers["/gate"]
            await until(lambda: "/gate" in client.view.numbers)

        live(client, scene)


def test_voices_and_presets_are_listed_and_asked_for_again_when_a_preset_was_saved() -> None:
    with running_daemon() as daemon:
        client = DaemonClient(Target(port=daemon.port), timing=Timing(tick_s=0.01))

        async def scene(ears: Ears) -> None:
            await until(lambda: client.view.presets is not None)
            assert client.view.voices == (Entry(1, "demo"), Entry(2, "alto"))
            assert client.view.presets == (Entry(1, "Deep"), Entry(2, "Bright"))
            client.send("/preset/save", "Stage")
            await until(lambda: len(client.view.presets or ()) == 3)
            assert ears.done == [Done("/preset/save", "Stage")]

        live(client, scene)


def test_the_lists_are_asked_for_again_soon_when_a_name_is_not_in_them_and_else_only_now_and_then() -> None:
    with running_daemon() as daemon:
        client = DaemonClient(Target(port=daemon.port), timing=Timing(tick_s=0.01, unknown_name_s=0.05, relist_s=3600.0))

        async def scene(_ears: Ears) -> None:
            await until(lambda: client.view.presets is not None)
            pushes = 0
            while pushes < 20:  # nothing is unknown: no second question
                daemon.push_stats()
                pushes += 1
                await asyncio.sleep(0.01)
            assert daemon.addresses().count("/voice/list") == 1
            daemon.voices.append("bass")
            daemon.stats = dataclasses.replace(daemon.stats, voice="bass")
            daemon.push_stats()
            await until(lambda: Entry(3, "bass") in (client.view.voices or ()))

        live(client, scene)


def test_the_daemons_own_server_is_understood() -> None:
    session = FakeSession(lines=[LogLine(1, "info", "rvcd starts"), LogLine(2, "warning", "a block was late")])
    with serving(session) as served:
        client = DaemonClient(Target(port=served.port), timing=Timing(tick_s=0.01))

        async def scene(ears: Ears) -> None:
            await until(lambda: client.view.voices is not None and client.view.presets is not None and len(client.view.log) == 2)
            assert [entry.name for entry in client.view.voices or ()] == [voice.name for voice in session.voices()]
            assert [entry.name for entry in client.view.presets or ()] == list(session.presets())
            assert [line.text for line in client.view.log] == ["rvcd starts", "a block was late"]
            client.send("/preset/save", "Stage")
            await until(lambda: Done("/preset/save", "Stage") in ears.done)
            await until(lambda: "Stage" in [entry.name for entry in client.view.presets or ()])
            client.send("/pitch", 3.0)
            await until(lambda: client.view.numbers.get("/pitch") == 3.0)
            client.send("/latency/preset", "safe")
            await until(lambda: client.view.stats is not None and client.view.stats.latency_preset == "safe")
            assert client.view.bad_datagrams == 0
            assert ears.failures == []

        live(client, scene)
