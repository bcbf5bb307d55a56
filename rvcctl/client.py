"""The datagram client: stays subscribed to one daemon for ever, and asks single questions for scripts."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from rvcctl.reading import clean_text, messages_of
from rvcctl.target import Target
from rvcctl.view import DaemonView, Done, Failure, Outcome
from rvcd import protocol
from rvcd.errors import DaemonUnreachableError, ProtocolError, RvcdError
from rvcd.osc.codec import OscMessage, encode
from rvcd.params import BY_ADDRESS

T = TypeVar("T")


class CommandFailedError(RvcdError):
    """The daemon answered /rvc/fail; the message is its reason."""


@dataclass(frozen=True)
class Timing:
    """How often things are said again, in seconds. The lease of a subscription is protocol.SUBSCRIPTION_LEASE_S.

    relist_s: voices and presets are asked for so often. unknown_name_s: how soon again when a name is not among them.
    """

    renew_s: float = 3.0
    retry_s: float = 1.0
    reopen_s: float = 10.0
    tick_s: float = 0.25
    relist_s: float = 15.0
    unknown_name_s: float = 2.0


class Listener(Protocol):
    """Who wants to know what arrives. Called in the event loop; must return quickly."""

    def on_view_changed(self) -> None:
        """Something in the view is new."""

    def on_failed(self, failure: Failure) -> None:
        """The daemon refused a command."""

    def on_done(self, done: Done) -> None:
        """The daemon has carried out a slow command."""


class ClientLike(Protocol):
    """What the screen needs of a client, so that tests can give it a fake one."""

    view: DaemonView

    def send(self, address: str, *args: str | int | float) -> None:
        """Send one message to an address below /rvc; lost quietly when nobody listens."""

    async def run(self, listener: Listener) -> None:
        """Keep the view up to date until cancelled."""


class DaemonClient:
    """One UDP socket to one daemon, with the view it fills.

    The socket is connected, so that the kernel drops datagrams from anybody else and reports a closed port at once.
    target: None is the daemon without a name. rate_hz: how often stats are wanted, 1-30. clock: seconds, monotonic.
    """

    def __init__(
        self,
        target: Target | None = None,
        *,
        rate_hz: int = 10,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target or Target()
        self.view = DaemonView(str(self.target), self.target.name)
        self._rate_hz = rate_hz
        self._timing = timing or Timing()
        self._clock = clock
        self._transport: asyncio.DatagramTransport | None = None
        self._listener: Listener | None = None
        self._lists_asked_at_s = float("-inf")
        self._waiters: list[_Waiter] = []

    async def open(self) -> None:
        """Open the socket. Raises DaemonUnreachableError when the host has no address or no route, or no such name runs.

        Where a daemon with a name listens is found out here, each time anew.
        """
        loop = asyncio.get_running_loop()
        host, port = self.target.address()
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), remote_addr=(host, port))
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise DaemonUnreachableError(f"cannot reach {self.view.target}: {reason}; check --host and --port") from None
        self._transport = transport
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)

    def close(self) -> None:
        """Close the socket; safe to call twice."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def send(self, address: str, *args: str | int | float) -> None:
        """Send one message to an address below /rvc. Without a socket it is lost, like any datagram."""
        datagram = encode(protocol.PREFIX + address, *args)
        if self._transport is not None:
            self._transport.sendto(datagram)

    async def run(self, listener: Listener) -> None:
        """Stay subscribed until cancelled: renew the lease, ask again while nobody answers, reopen a socket that stays deaf."""
        self._listener = listener
        try:
            while True:
                try:
                    await self.open()
                    await self._stay_subscribed()
                except DaemonUnreachableError as error:
                    self.refused(str(error))
                    await asyncio.sleep(self._timing.retry_s)
                finally:
                    self.close()
        finally:
            self._listener = None

    async def _stay_subscribed(self) -> None:
        """Subscribe again and again; return when nothing was heard for reopen_s (the host's address may have changed)."""
        opened_at_s = self._clock()
        asked_at_s = self._lists_asked_at_s = float("-inf")
        try:
            while True:
                now_s = self._clock()
                heard_at_s = max(self.view.heard_at_s or opened_at_s, opened_at_s)
                if now_s - heard_at_s > self._timing.reopen_s:
                    return
                fresh = self.view.heard_at_s is not None and now_s - self.view.heard_at_s < self._timing.retry_s
                if now_s - asked_at_s >= (self._timing.renew_s if fresh else self._timing.retry_s):
                    asked_at_s = now_s
                    self.send("/subscribe", 0, self._rate_hz, "params,stats,log")
                    if fresh:
                        self._ask_for_missing_numbers()
                if fresh and self._lists_are_due(now_s):
                    self._lists_asked_at_s = now_s
                    self.send("/voice/list")
                    self.send("/preset/list")
                await asyncio.sleep(self._timing.tick_s)
        finally:
            self.send("/unsubscribe")

    def _ask_for_missing_numbers(self) -> None:
        """Query what was lost of the state that the daemon sends only once, at the first subscription."""
        for address in BY_ADDRESS:
            if address not in self.view.numbers:
                self.send(address)

    def _lists_are_due(self, now_s: float) -> bool:
        """Tell whether to ask for voices and presets: now and then, and soon when one is named that is not listed."""
        view, stats = self.view, self.view.stats
        if stats is None:
            return False
        waited_s = now_s - self._lists_asked_at_s
        unlisted = any(
            entries is None or (name and name not in [entry.name for entry in entries])
            for name, entries in ((stats.voice, view.voices), (stats.preset, view.presets))
        )
        return waited_s >= (self._timing.unknown_name_s if unlisted else self._timing.relist_s)

    async def ask(
        self,
        address: str,
        *args: str | int | float,
        is_answer: Callable[[OscMessage], bool] | None = None,
        timeout_s: float = 1.0,
        tries: int = 3,
    ) -> OscMessage:
        """Send a message below /rvc and return its answer.

        is_answer: sees each message that arrives and says whether it is the one; by default the first that comes back
        on the same address. The message is sent up to `tries` times, spread over timeout_s:
        only ask more than once for what may happen twice.
        Raises CommandFailedError for /rvc/fail about this address, DaemonUnreachableError when nobody answers.
        """
        full_address = protocol.PREFIX + address
        waiter = _Waiter(full_address, is_answer or (lambda message: message.address == full_address))
        self._waiters.append(waiter)
        try:
            for _ in range(tries):
                self.send(address, *args)
                done, _pending = await asyncio.wait({waiter.result}, timeout=timeout_s / tries)
                if done:
                    return waiter.result.result()
        finally:
            self._waiters.remove(waiter)
            waiter.result.cancel()
        raise DaemonUnreachableError(
            f"no answer to {full_address} from {self.view.target} within {timeout_s:g} s; is rvcd running, is this its OSC port?"
        )

    def received(self, datagram: bytes) -> None:
        """Take in one datagram; anything unreadable is counted and forgotten."""
        try:
            messages = messages_of(datagram)
        except ProtocolError:
            self.view.bad_datagrams += 1
            return
        for message in messages:
            self.take(message)

    def take(self, message: OscMessage) -> None:
        """Take in one message, and tell those who wait for it."""
        outcome: Outcome = None
        try:
            outcome = self.view.apply(message, self._clock())
        except ProtocolError:
            self.view.bad_datagrams += 1
        for waiter in self._waiters:
            waiter.offer(message, outcome)
        if isinstance(outcome, Done) and outcome.command in _CHANGES_LISTS:
            self._lists_asked_at_s = float("-inf")
        if self._listener is not None:
            self._listener.on_view_changed()
            tell(self._listener, outcome)

    def refused(self, reason: str) -> None:
        """Note that there is no daemon at the other end, and tell whoever waits for one."""
        self.view.trouble = clean_text(reason, 200)
        self.view.revision += 1
        for waiter in self._waiters:
            waiter.give_up(
                DaemonUnreachableError(
                    f"no daemon at {self.view.target}: {reason}; start it with '{self.target.command}'{self.target.others()}"
                )
            )
        if self._listener is not None:
            self._listener.on_view_changed()


_CHANGES_LISTS = frozenset({"/preset/save", "/preset/delete", "/voice/rescan"})


def tell(listener: Listener, outcome: Outcome) -> None:
    """Pass on what was done or failed, except about the subscription, which the client gives by itself."""
    if outcome is None or outcome.command == "/subscribe":
        return
    if isinstance(outcome, Failure):
        listener.on_failed(outcome)
    else:
        listener.on_done(outcome)


class _Waiter:
    """One question that is still open."""

    def __init__(self, address: str, is_answer: Callable[[OscMessage], bool]) -> None:
        self._command = address.removeprefix(protocol.PREFIX)
        self._is_answer = is_answer
        self.result: asyncio.Future[OscMessage] = asyncio.get_running_loop().create_future()

    def offer(self, message: OscMessage, outcome: Outcome) -> None:
        if self.result.done():
            return
        if isinstance(outcome, Failure):
            if outcome.command == self._command:
                self.result.set_exception(CommandFailedError(outcome.reason))
            return
        if self._is_answer(message):
            self.result.set_result(message)

    def give_up(self, error: RvcdError) -> None:
        if not self.result.done():
            self.result.set_exception(error)


class _Datagrams(asyncio.DatagramProtocol):
    """Hands datagrams and socket errors to the client."""

    def __init__(self, client: DaemonClient) -> None:
        self._client = client

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._client.received(data)

    def error_received(self, exc: Exception) -> None:
        self._client.refused("nobody listens on this port" if isinstance(exc, ConnectionRefusedError) else str(exc))


def is_done(address: str) -> Callable[[OscMessage], bool]:
    """Return an `is_answer` for DaemonClient.ask that waits for /rvc/done about an address below /rvc."""
    commands = (protocol.PREFIX + address, address)
    return lambda message: message.address == protocol.PREFIX + "/done" and message.args[:1] in [(c,) for c in commands]


def converse(client: DaemonClient, script: Callable[[DaemonClient], Awaitable[T]]) -> T:
    """Run one conversation with the daemon from synchronous code: open, run the script, close.

    Raises what the script raises (DaemonUnreachableError, CommandFailedError, ProtocolError).
    """

    async def whole() -> T:
        await client.open()
        try:
            return await script(client)
        finally:
            client.close()

    return asyncio.run(whole())
