"""`rvcctl --demo`: the screen with a daemon that is only played, in this process, without a network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from rvcctl.client import Listener, tell
from rvcctl.demo_daemon import DemoDaemon
from rvcctl.view import DaemonView
from rvcd.osc.codec import OscMessage

PUSH_HZ = 15.0


class DemoClient:
    """Implements rvcctl.client.ClientLike. clock: seconds; what is shown is a function of it and of the commands given.

    push_hz: how often telemetry comes; 0 leaves it to advance() (tests, screenshots).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, push_hz: float = PUSH_HZ) -> None:
        self.view = DaemonView("demo, no daemon")
        self.daemon = DemoDaemon(clock())
        self._clock = clock
        self._push_hz = push_hz
        self._listener: Listener | None = None

    def send(self, address: str, *args: str | int | float) -> None:
        """Give a command; its answer is there at once, slow ones begin."""
        self._take(self.daemon.obey(address, args, self._clock()))

    async def run(self, listener: Listener) -> None:
        """Keep the view up to date until cancelled."""
        self._listener = listener
        self._take(self.daemon.greeting())
        if self._push_hz <= 0:
            await asyncio.Event().wait()
        while True:
            self.advance()
            await asyncio.sleep(1.0 / self._push_hz)

    def advance(self) -> None:
        """Take in what the daemon tells at the clock's present time."""
        self._take(self.daemon.tick(self._clock()))

    def _take(self, messages: Iterable[OscMessage]) -> None:
        for message in messages:
            outcome = self.view.apply(message, self._clock())
            if self._listener is not None:
                self._listener.on_view_changed()
                tell(self._listener, outcome)
