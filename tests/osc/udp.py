"""A small OSC client over a real UDP socket, and a server to talk to, for tests run with asyncio.run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from rvcd.osc.codec import OscMessage, decode, encode
from rvcd.osc.server import OscServer, OscSettings
from tests.osc.fake_session import FakeSession
from tests.waiting import HANG_S

PATIENCE_S = HANG_S


class Client(asyncio.DatagramProtocol):
    """Keeps every message that arrives."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        self.inbox: list[OscMessage] = []
        self._arrived = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert addr[:2] == self.server, "replies come from the listening socket"
        self.inbox += decode(data, max_arguments=128)
        self._arrived.set()

    @property
    def port(self) -> int:
        return int(self.transport.get_extra_info("sockname")[1])

    def send(self, address: str, *args: object) -> None:
        self.send_raw(encode(address, *args))

    def send_raw(self, datagram: bytes) -> None:
        self.transport.sendto(datagram, self.server)

    def find(self, address: str) -> list[OscMessage]:
        return [message for message in self.inbox if message.address == address]

    async def wait(self, condition: Callable[[], Any], patience_s: float = HANG_S) -> Any:
        """Return condition()'s first true value; fail with the inbox when there is none in time."""
        deadline = asyncio.get_running_loop().time() + patience_s
        while not (value := condition()):
            left = deadline - asyncio.get_running_loop().time()
            assert left > 0, f"nothing came; inbox: {self.inbox[-20:]}"
            self._arrived.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), min(left, 0.05))
        return value

    async def expect(self, address: str, count: int = 1) -> OscMessage:
        """Return the count-th message of an address once it is there."""
        await self.wait(lambda: len(self.find(address)) >= count)
        return self.find(address)[count - 1]

    async def ask(self, address: str, *args: object, reply: str = "") -> OscMessage:
        """Send, and return the first new message at `reply` (or at the same address)."""
        seen = len(self.find(reply or address))
        self.send(address, *args)
        return await self.expect(reply or address, seen + 1)

    async def settle(self) -> None:
        """Wait until everything sent before has been handled: a ping goes round."""
        await self.ask("/rvc/ping", "settle", reply="/rvc/pong")


@asynccontextmanager
async def serving(
    session: FakeSession | None = None, settings: OscSettings | None = None, **options: Any
) -> AsyncIterator[OscServer]:
    server = OscServer(settings or OscSettings(port=0), session or FakeSession(), **options)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def client_of(server: OscServer | tuple[str, int], host: str = "127.0.0.1") -> AsyncIterator[Client]:
    address = server.address if isinstance(server, OscServer) else server
    transport, client = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Client(address), local_addr=(host, 0))
    try:
        yield client
    finally:
        transport.close()


Talk = Callable[[Client, FakeSession, OscServer], Awaitable[Any]]


def converse(talk: Talk, session: FakeSession | None = None, **options: Any) -> None:
    """Run one conversation of one client with a server on loopback."""
    session = session or FakeSession()

    async def run() -> None:
        async with serving(session, **options) as server, client_of(server) as client:
            await talk(client, session, server)

    asyncio.run(run())
