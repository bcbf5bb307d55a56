"""Stops every Python process of the tests from connecting to, or looking up, anything but this machine.

This folder stands first on PYTHONPATH (tests/conftest.py), so the interpreter imports this file at the start of every process
that a test starts; the process of the tests imports it too. Standard library only, and next to nothing of that: some tests look
at what a process has imported.
"""

from __future__ import annotations

import os
import sys

REPORT = "RVCD_TEST_CONNECTIONS"
"""The environment variable with the path of the file in which every attempt is noted, one a line."""


class OutsideConnectionError(RuntimeError):
    """A test tried to reach another machine."""


def is_this_machine(host: object) -> bool:
    """Say whether a host, as given to socket's functions, is this machine or needs no look-up to be refused."""
    text = host.decode(errors="replace") if isinstance(host, bytes) else host
    return text is None or (
        isinstance(text, str) and (text in ("", "localhost", "::1", "::", "0.0.0.0") or text.startswith("127."))
    )


def is_number(host: object) -> bool:
    """Say whether a host is written in numbers: to resolve it asks nobody."""
    text = host.decode(errors="replace") if isinstance(host, bytes) else str(host)
    return ":" in text or (text.count(".") == 3 and text.replace(".", "").isdigit())


def note(attempt: str) -> None:
    """Write the attempt down for the process of the tests, and stop it."""
    path = os.environ.get(REPORT)
    if path:
        with open(path, "a") as report:
            report.write(f"{attempt} (process {os.getpid()})\n")
    raise OutsideConnectionError(f"{attempt}: tests stay on this machine")


def look(event: str, args: tuple[object, ...]) -> None:
    """The audit hook: sees every use of a socket in this process, of Python's own socket module that is."""
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        if not is_this_machine(args[0]) and not is_number(args[0]):
            note(f"look-up of {args[0]!r}")
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]  # of AF_UNIX: text or bytes; of a connected socket: None
        if isinstance(address, tuple) and len(address) in (2, 4) and not is_this_machine(address[0]):
            note(f"{event[7:]} to {address[0]} port {address[1]}")


if not hasattr(sys, "_rvcd_stays_on_this_machine"):  # once a process, by whichever name it was imported
    sys._rvcd_stays_on_this_machine = True  # type: ignore[attr-defined]
    sys.addaudithook(look)
