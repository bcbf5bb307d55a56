"""The OSC server: one UDP socket, who may talk to it, and the task that pushes telemetry."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rvcd.config.logs import LogThrottle, fields, get_logger
from rvcd.errors import ProtocolError, RvcdError
from rvcd.osc.codec import decode
from rvcd.osc.job_queue import SLOW_TIMEOUT_S, JobQueues
from rvcd.osc.publisher import Publisher
from rvcd.osc.router import Router
from rvcd.osc.session import Session
from rvcd.osc.subscriptions import FeedbackTarget, SocketAddress, Subscriptions
from rvcd.protocol import DEFAULT_HOST, DEFAULT_PORT, MAX_SUBSCRIPTIONS, SUBSCRIPTION_LEASE_S

RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
"""Asked for; the kernel grants what net.core.rmem_max allows."""
MAX_UNSENT_BYTES = 256 * 1024
"""When the network takes nothing, telemetry is dropped rather than queued without end."""
PUSH_TICK_S = 1.0 / 30.0

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_log = get_logger("osc")


@dataclass(frozen=True)
class OscSettings:
    """host: address or name to listen on. port: 0 lets the system choose. allow: CIDR networks; loopback always may.

    or_another: where the port is in use, the system chooses another.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    allow: tuple[str, ...] = ()
    feedback: tuple[FeedbackTarget, ...] = ()
    or_another: bool = False


@dataclass
class ServerCounters:
    """Datagrams since the start."""

    received: int = 0
    malformed: int = 0
    refused_sources: int = 0
    unsent: int = 0


class OscServer(asyncio.DatagramProtocol):
    """Drives a Session from OSC. All of it runs on the event loop that start() is awaited on."""

    def __init__(
        self,
        settings: OscSettings,
        session: Session,
        *,
        clock: Callable[[], float] = time.monotonic,
        lease_s: float = SUBSCRIPTION_LEASE_S,
        max_subscriptions: int = MAX_SUBSCRIPTIONS,
        slow_timeout_s: float = SLOW_TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._allow: tuple[Network, ...] = ()
        self._transport: asyncio.DatagramTransport | None = None
        self._pusher: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._closed = asyncio.Event()
        self._address: SocketAddress = ("", 0)
        self._malformed_lines = LogThrottle(clock=clock)
        self._refused_lines = LogThrottle(clock=clock)
        self._push_error_lines = LogThrottle(clock=clock)
        self.counters = ServerCounters()
        self.subscriptions = Subscriptions(clock, limit=max_subscriptions, lease_s=lease_s)
        self._publisher = Publisher(session, self.subscriptions, self._send, clock, self._report_push_error)
        self._queues = JobQueues(slow_timeout_s)
        self.router = Router(
            session,
            self._publisher,
            self.subscriptions,
            self._queues,
            clock=clock,
            defer=self._defer,
            local_port=lambda: int(self._address[1]),
        )

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) listened on, once started."""
        return self._address[0], self._address[1]

    async def start(self) -> None:
        """Open the socket and begin to serve.

        Raises RvcdError when the port is in use, the host is not this machine's, a CIDR network or feedback target is
        wrong, or the host is not loopback and the allow-list is empty.
        """
        self._allow = parse_networks(self._settings.allow)
        loop = asyncio.get_running_loop()
        family, local = await _resolve(self._settings.host, self._settings.port)
        if not ipaddress.ip_address(local[0]).is_loopback and not self._allow:
            raise RvcdError(
                f"osc.host {self._settings.host} can be reached from other machines and osc.allow is empty; "
                'list who may control rvcd, as in allow = ["192.168.1.0/24"], or use 127.0.0.1'
            )
        targets = [(await _resolve(feedback.host, feedback.port, family), feedback) for feedback in self._settings.feedback]
        transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=_bind(family, local, self._settings))
        self._transport = transport
        self._address = transport.get_extra_info("sockname")
        try:
            for (_, address), feedback in targets:
                if address[1] == self._address[1] and self._is_this_machine(address[0]):
                    raise RvcdError(
                        f"osc.feedback target {feedback.host}:{feedback.port} is rvcd's own port; choose the client's"
                    )
                self.subscriptions.add_static(address, feedback.hz, feedback.groups)
        except RvcdError:
            await self.close()
            raise
        self._pusher = loop.create_task(self._push(), name="osc-pusher")
        _log.info("listening for OSC", extra=fields(host=self._address[0], port=self._address[1]))

    async def close(self) -> None:
        """Stop serving; waits until the socket is closed."""
        if self._pusher is not None:
            self._pusher.cancel()
            await asyncio.gather(self._pusher, return_exceptions=True)
        await self._queues.close()
        if self._transport is not None:
            self._transport.close()
            await self._closed.wait()

    def changed(self) -> None:
        """Echo to subscribers what the daemon changed by itself. Without this call they hear of it within ~33 ms."""
        try:
            self._publisher.publish_changes()
        except Exception as error:
            self._report_push_error(error)

    # asyncio.DatagramProtocol

    def datagram_received(self, data: bytes, addr: SocketAddress) -> None:
        """Check, decode and act on one datagram. A malformed one is counted and never answered."""
        self.counters.received += 1
        if not self._may_talk(addr):
            self.counters.refused_sources += 1
            self._log_dropped(self._refused_lines, "datagrams from sources that osc.allow does not list", addr, "not allowed")
            return
        try:
            messages = decode(data)
        except ProtocolError as error:
            self.counters.malformed += 1
            self._log_dropped(self._malformed_lines, "malformed datagrams", addr, str(error))
            return
        for message in messages:
            self.router.handle(message, addr)
        self.changed()
        if self.subscriptions.targets():
            self._wake.set()

    def error_received(self, exc: Exception) -> None:
        """Ignore what the network says about datagrams sent: a client that left is not a fault."""
        self.counters.unsent += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the socket is closed."""
        self._closed.set()

    # Inside

    def _may_talk(self, addr: SocketAddress) -> bool:
        """Return whether a source is allowed, and is not this server itself (which would be a loop)."""
        source = _ip(addr[0])
        if source is None or (addr[1] == self._address[1] and self._is_this_machine(addr[0])):
            return False
        return source.is_loopback or any(source in network for network in self._allow)

    def _is_this_machine(self, host: str) -> bool:
        ip = _ip(host)
        return host == self._address[0] or (ip is not None and (ip.is_loopback or ip.is_unspecified))

    def _defer(self, delay_s: float, function: Callable[[], None]) -> object:
        return asyncio.get_running_loop().call_later(delay_s, function)

    def _send(self, datagram: bytes, to: SocketAddress) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or _unsent_bytes(transport) > MAX_UNSENT_BYTES:
            self.counters.unsent += 1
            return
        with contextlib.suppress(OSError, ValueError, OverflowError):  # an address that cannot be sent to
            transport.sendto(datagram, to)

    async def _push(self) -> None:
        while True:
            try:
                next_s = self._publisher.push_due()
            except Exception as error:  # whatever it is, telemetry goes on
                self._report_push_error(error)
                next_s = self._clock() + 1.0
            if next_s is None:
                self._wake.clear()
                await self._wake.wait()
            else:
                await asyncio.sleep(min(max(next_s - self._clock(), 0.001), PUSH_TICK_S))

    def _report_push_error(self, error: Exception) -> None:
        """Say in one line that state or telemetry could not be told; where it happened is for those who debug."""
        count = self._push_error_lines.hit()
        if not count:
            return
        if isinstance(error, RvcdError):
            _log.info("no telemetry yet: %s", error, extra=fields(count=count))
            return
        _log.error("telemetry could not be built: %s: %s", type(error).__name__, error, extra=fields(count=count))
        _log.debug("where it happened", exc_info=error)

    def _log_dropped(self, throttle: LogThrottle, what: str, addr: SocketAddress, reason: str) -> None:
        count = throttle.hit()
        if count:
            _log.warning("dropped %s", what, extra=fields(count=count, last_source=f"{addr[0]}:{addr[1]}", last_reason=reason))


def parse_networks(allow: tuple[str, ...]) -> tuple[Network, ...]:
    """Return the networks of osc.allow. Raises RvcdError naming the one that is not a CIDR network."""
    networks = []
    for text in allow:
        try:
            networks.append(ipaddress.ip_network(text.strip(), strict=False))
        except ValueError:
            raise RvcdError(
                f"osc.allow has '{text}', which is not a network such as 192.168.1.0/24 or an address such as 10.0.0.5"
            ) from None
    return tuple(networks)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address; an IPv4 one that came over an IPv6 socket as IPv4."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip


def _unsent_bytes(transport: Any) -> int:
    """Every asyncio datagram transport has this method; the type stubs leave it out."""
    return int(transport.get_write_buffer_size())


async def _resolve(host: str, port: int, family: int = socket.AF_UNSPEC) -> tuple[int, SocketAddress]:
    """Return (family, socket address) of a host. Raises RvcdError when it has none (of that family)."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError, OverflowError):
        found = []
    if not found:
        kind = "IPv4 " if family == socket.AF_INET else "IPv6 " if family == socket.AF_INET6 else ""
        raise RvcdError(f"'{host}' has no {kind}address; write the number, as in 127.0.0.1")
    chosen: Any = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return chosen[0], chosen[4]


def _bind(family: int, local: SocketAddress, settings: OscSettings) -> socket.socket:
    """Return a bound socket with a large receive buffer. Raises RvcdError with the fix."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    with contextlib.suppress(OSError, AttributeError):  # beyond rmem_max, for a service with CAP_NET_ADMIN
        sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), RECEIVE_BUFFER_BYTES)
    try:
        _bind_or_another(sock, local, settings.or_another)
    except (OSError, OverflowError) as error:
        sock.close()
        where = f"cannot listen for OSC on {settings.host} port {settings.port}"
        reasons = {
            errno.EADDRINUSE: "another program (another rvcd?) uses this port; stop it or set another osc.port",
            errno.EADDRNOTAVAIL: "this machine has no such address; set osc.host to one of its own, or 127.0.0.1",
            errno.EACCES: "this port is reserved for root; set osc.port to 1024 or more",
        }
        code = error.errno if isinstance(error, OSError) else None
        raise RvcdError(f"{where}: {reasons.get(code or 0, str(error))}") from None
    return sock


def _bind_or_another(sock: socket.socket, local: SocketAddress, or_another: bool) -> None:
    try:
        sock.bind(local)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not or_another:
            raise
        sock.bind((local[0], 0, *local[2:]))
