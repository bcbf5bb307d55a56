"""/rvc/pitch/mode: asked, set by name or index, refused in a sentence, and told to subscribers."""

from __future__ import annotations

from rvcd.osc.server import OscServer
from tests.osc.fake_session import FakeSession
from tests.osc.udp import Client, converse


def test_the_mode_is_chosen_by_name_or_index_and_another_is_refused_with_the_choices() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        assert (await client.ask("/rvc/pitch/mode")).args == ("manual",)
        assert (await client.ask("/rvc/pitch/mode", "Auto")).args == ("auto",)
        assert (await client.ask("/rvc/pitch/mode", 0)).args == ("manual",)
        reason = (await client.ask("/rvc/pitch/mode", "automatic", reply="/rvc/fail")).args[1]
        assert "manual, auto" in str(reason)
        assert session.pitch_mode() == "manual"

    converse(talk)


def test_auto_for_a_voice_without_a_register_is_a_fail_that_says_so() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        session.without_register = True
        address, reason = (await client.ask("/rvc/pitch/mode", "auto", reply="/rvc/fail")).args
        assert address == "/rvc/pitch/mode" and "Anna has no register" in str(reason)
        assert (await client.ask("/rvc/pitch/mode")).args == ("manual",)

    converse(talk)


def test_a_subscriber_is_told_the_mode_and_each_change() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        await client.ask("/rvc/subscribe", 0, 20, "params", reply="/rvc/done")
        assert (await client.expect("/rvc/pitch/mode")).args == ("manual",)
        session.set_pitch_mode("auto")
        server.changed()
        await client.wait(lambda: ("auto",) in [message.args for message in client.find("/rvc/pitch/mode")])

    converse(talk)
