"""Parameters whose values have words, such as /rvc/autotune/key: set by word or number, answered as a number."""

from __future__ import annotations

from rvcd.osc.server import OscServer
from tests.osc.fake_session import FakeSession
from tests.osc.udp import Client, converse


def test_a_word_or_a_number_sets_it_and_another_word_is_refused_with_those_there_are() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        assert (await client.ask("/rvc/autotune/key", "Bb")).args == (10.0,)
        assert (await client.ask("/rvc/autotune/key", 2.3)).args == (2.0,)
        assert (await client.ask("/rvc/autotune/scale", "minor")).args == (2.0,)
        address, reason = (await client.ask("/rvc/autotune/key", "H", reply="/rvc/fail")).args
        assert address == "/rvc/autotune/key" and "C, C#, D" in str(reason)
        assert (await client.ask("/rvc/autotune/key")).args == (2.0,)
        assert (await client.ask("/rvc/pitch", "C", reply="/rvc/fail")).args[0] == "/rvc/pitch"

    converse(talk)
