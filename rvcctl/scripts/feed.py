"""A subscription to one daemon, as the stream of its messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from rvcctl.client import CommandFailedError, DaemonClient, is_done
from rvcctl.reading import clean_text
from rvcctl.target import Target
from rvcd import protocol
from rvcd.errors import DaemonUnreachableError
from rvcd.osc.codec import OscMessage

FAIL, SUBSCRIBE = protocol.PREFIX + "/fail", protocol.PREFIX + "/subscribe"
GONE_AFTER_S = 3.0
"""A daemon that has not been heard for so long is gone. Pushes come at least once a second."""
RENEW_S = 3.0
"""A third of a lease."""
RETRY_S = 0.75
"""After so long a silence the subscription is asked for again: a daemon that was started anew knows nothing of it.

Also at a rate of one push a second, where it does no harm.
"""
TICK_S = 0.25


class Feed(DaemonClient):
    """A client that also queues every message that arrives. groups: of protocol.GROUPS, with commas. rate_hz: 1..30."""

    def __init__(self, target: Target, groups: str, rate_hz: int) -> None:
        super().__init__(target, rate_hz=rate_hz)
        self._groups = groups
        self._arrived: asyncio.Queue[OscMessage] = asyncio.Queue()

    def take(self, message: OscMessage) -> None:
        """Take in one message; see DaemonClient."""
        super().take(message)
        self._arrived.put_nowait(message)

    async def messages(self) -> AsyncGenerator[OscMessage, None]:
        """Open, subscribe, and yield every message until the daemon is gone (DaemonUnreachableError).

        Raises CommandFailedError when the daemon refuses the subscription.
        """
        await self.open()
        try:
            await self.ask("/subscribe", 0, self._rate_hz, self._groups, is_answer=is_done("/subscribe"))
            asked_at_s, silent_s = self._clock(), 0.0
            while True:
                message = await self._next()
                # Counted in ticks and not by the clock: who was stopped with Ctrl-Z for a minute has not waited for an answer.
                silent_s = silent_s + TICK_S if message is None else 0.0
                if message is not None:
                    yield message
                if silent_s > GONE_AFTER_S:
                    raise DaemonUnreachableError(
                        f"nothing from {self.view.target} for {GONE_AFTER_S:g} s; is rvcd still running?"
                    )
                now_s = self._clock()
                if now_s - asked_at_s > (RETRY_S if silent_s > RETRY_S else RENEW_S):
                    asked_at_s = now_s
                    self.send("/subscribe", 0, self._rate_hz, self._groups)
        finally:
            self.send("/unsubscribe")
            self.close()

    async def _next(self) -> OscMessage | None:
        """Return the next message, None when none comes for a moment. Raises CommandFailedError for a refused renewal."""
        try:
            message = await asyncio.wait_for(self._arrived.get(), TICK_S)
        except asyncio.TimeoutError:  # in Python 3.10 this is not the builtin TimeoutError
            return None
        if message.address == FAIL and message.args[:1] == (SUBSCRIBE,):
            raise CommandFailedError(clean_text(message.args[1] if len(message.args) > 1 else "no reason given", 300))
        return message


Take = Callable[[Feed, OscMessage], bool]
"""What becomes of a message; returns whether more are wanted."""


async def follow(open_feed: Callable[[], Feed], take: Take, lost: Callable[[str], None] | None = None) -> None:
    """Give every message of a feed to `take` until it wants no more.

    lost: told the reason when the daemon is gone or full; then a new feed is opened until there is one.
    None: the reason is raised (DaemonUnreachableError, CommandFailedError).
    """
    is_lost = False
    while True:
        feed = open_feed()
        try:
            async with aclosing(feed.messages()) as messages:
                async for message in messages:
                    is_lost = False
                    if not take(feed, message):
                        return
        except (DaemonUnreachableError, CommandFailedError) as error:
            if lost is None:
                raise
            if not is_lost:
                lost(str(error))
            is_lost = True
            await asyncio.sleep(RETRY_S)
