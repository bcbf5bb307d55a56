"""The daemon's own OSC server on a loopback port, with a session of plain values: the real router judges what rvcctl says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rvcd.osc.server import OscServer, OscSettings
from tests.osc.fake_session import FakeSession
from tests.waiting import HANG_S


@dataclass
class Served:
    """A session that is being served. Its plain values may be changed from the test's thread."""

    session: FakeSession
    port: int


@contextmanager
def serving(session: FakeSession, port: int = 0) -> Iterator[Served]:
    """Serve a session from a thread of its own. port: 0 lets the system choose."""
    started = threading.Event()
    ports: list[int] = []
    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        server = OscServer(OscSettings(port=port), session)
        await server.start()
        stop = asyncio.Event()
        stops.append((asyncio.get_running_loop(), stop))
        ports.append(server.address[1])
        started.set()
        await stop.wait()
        await server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(HANG_S), "the server did not start"
    try:
        yield Served(session, ports[0])
    finally:
        loop, stop = stops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(HANG_S)
