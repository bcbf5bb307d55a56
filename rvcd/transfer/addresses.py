"""Which machines a download may reach: told by the addresses that a name leads to, before one of them is connected to."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import TypeAlias

from rvcd.errors import TransferError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
"""NAT64 (RFC 6052): the last four bytes are the IPv4 address that is reached."""


class NoAddressError(TransferError):
    """A name leads to no address: it is wrong, or there is no network."""


def is_public(address: Address) -> bool:
    """Say whether an address is one of the internet: none of this machine, of a private network, of a link, or reserved.

    An IPv6 address that stands for an IPv4 address is judged by that one.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inside = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inside is None and address in TRANSLATED:
            inside = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inside is not None:
            return is_public(inside)
        if address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def addresses_of(host: str, port: int) -> Sequence[Address]:
    """Return the addresses of a host, in the order the system prefers. Asks a name server, unless it is written in numbers.

    Raises NoAddressError.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise NoAddressError(f"{host}: cannot be found ({reason}); check the address and the network") from None
    return list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))


def allowed_addresses(host: str, port: int, *, allow_private: bool) -> Sequence[Address]:
    """Return those of a host's addresses that may be connected to. Raises TransferError when there is none."""
    found = addresses_of(host, port)
    allowed = [address for address in found if allow_private or is_public(address)]
    if not allowed:
        raise TransferError(
            f"{host}: leads to {found[0]}, an address of this machine or of a private network, which a download "
            "does not reach unless it is asked to"
        )
    return allowed
