"""What a performer's hands reach for: record, talk, speakers, presets, the latency preset, the log."""

from __future__ import annotations

import asyncio

from rvcd.daemon.presets import PresetBook
from rvcd.osc.codec import encode
from rvcd.osc.server import OscServer
from rvcd.osc.session import LogLine
from rvcd.protocol import LATENCY_PRESET_NAMES
from tests.osc.fake_session import FakeSession
from tests.osc.udp import Client, client_of, converse


def test_a_recording_begins_and_ends_and_a_full_disk_is_the_reason_of_a_fail() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        assert (await client.ask("/rvc/record", True)).args == (1,)
        assert (await client.ask("/rvc/record/toggle", reply="/rvc/record")).args == (0,)
        session.disk_is_full = True
        address, reason = (await client.ask("/rvc/record/on", reply="/rvc/fail")).args
        assert address == "/rvc/record/on"
        assert "12 MB are free" in str(reason)
        assert (await client.ask("/rvc/record")).args == (0,)

    converse(talk)


def test_talk_follows_the_key_and_its_release_is_never_throttled() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        assert (await client.ask("/rvc/talk", 1.0)).args == (1,)
        for number in range(2000):
            server.datagram_received(encode("/rvc/ping"), ("127.0.0.1", client.port))  # eats the sender's tokens
            if number % 20 == 0:
                await asyncio.sleep(0)  # the replies are taken in
        assert (await client.ask("/rvc/talk", 0.0)).args == (0,)
        assert not session.switches["talk"]
        assert (await client.ask("/rvc/talk/on", reply="/rvc/talk")).args == (1,)
        assert (await client.ask("/rvc/talk/off", reply="/rvc/talk")).args[0] in (0, 1)
        await client.wait(lambda: not session.switches["talk"])

    converse(talk)


def test_a_speaker_is_chosen_by_number_or_name() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        assert (await client.ask("/rvc/speaker", "tenor", reply="/rvc/done")).args == ("/rvc/speaker", 1)
        assert (await client.ask("/rvc/speaker")).args == (1,)
        assert (await client.ask("/rvc/speaker", 0.0, reply="/rvc/done")).args == ("/rvc/speaker", 0)
        assert "known: alto, tenor" in str((await client.ask("/rvc/speaker", 7, reply="/rvc/fail")).args[1])

    converse(talk)


def test_presets_are_saved_listed_recalled_and_deleted() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        await client.ask("/rvc/pitch", -5.0)
        assert (await client.ask("/rvc/preset/save", "Deep", reply="/rvc/done")).args == ("/rvc/preset/save", "Deep")
        await client.ask("/rvc/pitch", 7)
        assert (await client.ask("/rvc/preset/save", 2, reply="/rvc/done")).args == ("/rvc/preset/save", "preset 2")
        await client.ask("/rvc/preset/list", reply="/rvc/preset/list/end")
        assert [message.args for message in client.find("/rvc/preset/list")] == [(1, "Deep"), (2, "preset 2")]
        assert (await client.ask("/rvc/preset/recall/1", reply="/rvc/done")).args == ("/rvc/preset/recall/1", "Deep")
        assert session.get_param("pitch") == -5.0
        assert (await client.ask("/rvc/preset/recall", 2.0, reply="/rvc/done")).args == ("/rvc/preset/recall", "preset 2")
        assert session.get_param("pitch") == 7.0
        assert (await client.ask("/rvc/preset")).args == ("preset 2",)
        await client.ask("/rvc/preset/delete", "Deep", reply="/rvc/done")
        assert session.book.names == ("preset 2",)

    converse(talk)


def test_a_fader_that_moved_just_before_a_recall_does_not_win_over_it() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        session.book, _ = PresetBook().put("Deep", {"pitch": -5.0})
        for value in range(10):
            client.send("/rvc/pitch", value)
        await client.ask("/rvc/preset/recall/1", reply="/rvc/done")
        await client.settle()
        assert (await client.ask("/rvc/pitch")).args == (-5.0,)

    converse(talk)


def test_a_preset_that_is_not_there_or_cannot_be_named_so_is_one_sentence() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        wrong = (("recall", "Nope"), ("recall", 3), ("delete", "Nope"), ("save", "../../etc"), ("save", 9), ("save", ""))
        for verb, value in wrong:
            seen = len(client.find("/rvc/fail"))
            client.send(f"/rvc/preset/{verb}", value)
            reason = str((await client.expect("/rvc/fail", seen + 1)).args[1])
            assert reason and "\n" not in reason
        assert session.book.names == ()
        assert "recall" in str((await client.ask("/rvc/preset", "Deep", reply="/rvc/fail")).args[1])

    converse(talk)


def test_the_latency_preset_is_chosen_by_name_or_index() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        assert (await client.ask("/rvc/latency/preset")).args == ("balanced",)
        for index, name in enumerate(LATENCY_PRESET_NAMES):
            assert (await client.ask("/rvc/latency/preset", index, reply="/rvc/done")).args[1] == name
            client.inbox.clear()
            assert (await client.ask("/rvc/latency/preset", name, reply="/rvc/done")).args[1] == name
            client.inbox.clear()
        for wrong in ("fast", 3, -1):
            seen = len(client.find("/rvc/fail"))
            client.send("/rvc/latency/preset", wrong)
            assert "balanced" in str((await client.expect("/rvc/fail", seen + 1)).args[1])

    converse(talk)


def test_a_rescan_says_how_many_voices_there_are() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        assert (await client.ask("/rvc/voice/rescan", reply="/rvc/done")).args == ("/rvc/voice/rescan", 3)

    converse(talk)


def test_what_one_client_changes_is_told_to_the_subscribers_of_params() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        async with client_of(server) as watcher:
            await watcher.ask("/rvc/subscribe", 0, 10, "params", reply="/rvc/status")
            watcher.inbox.clear()
            client.send("/rvc/record", 1)
            client.send("/rvc/talk", 1)
            client.send("/rvc/preset/save", "Deep")
            client.send("/rvc/latency/preset", "low")
            client.send("/rvc/speaker", 1)
            assert (await watcher.expect("/rvc/record")).args == (1,)
            assert (await watcher.expect("/rvc/talk")).args == (1,)
            assert (await watcher.expect("/rvc/preset")).args == ("Deep",)
            assert (await watcher.expect("/rvc/latency/preset")).args == ("low",)
            assert (await watcher.expect("/rvc/speaker")).args == (1,)

    converse(talk)


def test_the_log_goes_to_those_who_name_it_each_line_once() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        session.lines.append(LogLine(1, "info", "live"))
        await client.ask("/rvc/subscribe", 0, 30, "log", reply="/rvc/done")
        assert (await client.expect("/rvc/log")).args == (1, "info", "live")
        session.lines.append(LogLine(2, "warning", "overloaded"))
        assert (await client.expect("/rvc/log", 2)).args == (2, "warning", "overloaded")
        await client.settle()
        assert len(client.find("/rvc/log")) == 2
        async with client_of(server) as other:
            await other.ask("/rvc/subscribe", 0, 30, reply="/rvc/done")
            await other.expect("/rvc/stats", 3)
            assert not other.find("/rvc/log")

    converse(talk)


def test_what_only_the_daemon_says_is_not_answered() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        client.send("/rvc/log", 1, "info", "forged")
        client.send("/rvc/preset/list/end", 0)
        await client.settle()
        assert not client.find("/rvc/fail")

    converse(talk)
