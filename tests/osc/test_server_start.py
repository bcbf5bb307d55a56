"""What the server refuses to start with, and who may talk to it once it runs."""

from __future__ import annotations

import asyncio
import socket

import pytest

from rvcd.errors import RvcdError
from rvcd.osc.codec import encode
from rvcd.osc.server import OscServer, OscSettings, parse_networks
from rvcd.osc.subscriptions import FeedbackTarget
from tests.only_this_machine.sitecustomize import is_number, is_this_machine
from tests.osc.fake_session import FakeSession
from tests.osc.udp import client_of, serving


def refusal_of(settings: OscSettings) -> str:
    async def run() -> str:
        with pytest.raises(RvcdError) as refused:
            async with serving(settings=settings):
                pass
        return str(refused.value)

    return asyncio.run(run())


def test_a_port_in_use_is_named_with_the_fix() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        message = refusal_of(OscSettings(port=port))
    assert str(port) in message
    assert "osc.port" in message


def without_a_name_server(host: str, port: int, *args: object, **more: object) -> list[object]:
    """Resolve numbers and this machine's name; of every other name say what a name server says that does not know it."""
    if is_this_machine(host) or is_number(host):
        return look_up(host, port, *args, **more)  # type: ignore[arg-type]
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


look_up = socket.getaddrinfo


@pytest.mark.parametrize(("settings", "expected"), [
    (OscSettings("0.0.0.0", 0), "osc.allow is empty"),
    (OscSettings("::", 0), "osc.allow is empty"),
    (OscSettings("192.0.2.1", 0, ("192.0.2.0/24",)), "no such address"),
    (OscSettings("127.0.0.1", 0, ("local network",)), "'local network'"),
    (OscSettings("not a host", 0), "'not a host' has no address"),
    (OscSettings("127.0.0.1", 0, (), (FeedbackTarget("no.such.host.invalid", 9000),)), "no.such.host.invalid"),
    (OscSettings("127.0.0.1", 0, (), (FeedbackTarget("127.0.0.1", 9000, 10, ("lights",)),)), "unknown group 'lights'"),
])  # fmt: skip
def test_settings_that_cannot_be_served_are_refused_in_one_sentence(
    settings: OscSettings, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", without_a_name_server)
    message = refusal_of(settings)
    assert expected in message
    assert "\n" not in message


def test_only_listed_networks_and_this_machine_may_talk_to_a_server_open_to_the_network() -> None:
    async def run() -> None:
        session = FakeSession()
        async with serving(session, OscSettings("0.0.0.0", 0, ("192.0.2.0/24", "10.0.0.5"))) as server:
            for host in ("198.51.100.7", "10.0.0.6", "not an address"):
                server.datagram_received(encode("/rvc/panic"), (host, 5000))
            assert not session.is_panicked
            assert server.counters.refused_sources == 3
            server._publisher._send = lambda datagram, to: None  # what is answered stays on this machine
            for host in ("192.0.2.77", "10.0.0.5", "127.0.0.1"):
                session.clear_panic()
                server.datagram_received(encode("/rvc/panic"), (host, 5000))
                assert session.is_panicked
            server.datagram_received(encode("/rvc/panic/clear"), ("127.0.0.1", server.address[1]))
            assert session.is_panicked, "the server does not listen to itself"

    asyncio.run(run())


def test_an_ipv4_client_of_an_ipv6_socket_is_judged_by_its_ipv4_address() -> None:
    server = OscServer(OscSettings(), FakeSession())
    server._allow = parse_networks(("192.0.2.0/24",))
    assert server._may_talk(("::ffff:192.0.2.9", 5000, 0, 0))
    assert server._may_talk(("::1", 5000, 0, 0))
    assert not server._may_talk(("::ffff:198.51.100.7", 5000, 0, 0))


def test_ipv6_loopback_is_served() -> None:
    async def run() -> None:
        try:
            async with serving(settings=OscSettings("::1", 0)) as server, client_of(server, "::1") as client:
                await client.ask("/rvc/subscribe", reply="/rvc/status")
                assert (await client.ask("/rvc/pitch", 2)).args == (2.0,)
        except RvcdError:
            pytest.skip("no IPv6 on this machine")

    asyncio.run(run())
